"""`python -m dafw.study office31 data=DIR`: pairs x methods x seeds by one command, as one page and its tables.

A study is a YAML file of `experiments/studies/` (or any path): `pairs`, `methods`, `seeds` and the `keys` of every
run, as they are typed on the command line; a pair is `[source, target]`, or a mapping of `src`, `tgt` and, of its own,
`keys` and `methods`. With `tuning: {trials: 8, validator: im, seed: 0}` every method is also tuned: the same number of
random trials, chosen by the validator, and run on all seeds beside the defaults. Runs that are finished are found
again, so that a study can be resumed; they are packed onto the cores.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console as Terminal
from rich.markup import escape

import dafw.record as records
from dafw.conduct import Done, conduct, default_jobs
from dafw.config import COMMON_OPTIONS
from dafw.console import Console
from dafw.errors import UsageError
from dafw.job import name_of
from dafw.record import Record
from dafw.registry import VALIDATORS, nearest
from dafw.report.gather import collect
from dafw.report.output import files_of, show, write
from dafw.store import as_typed, compose, experiments_folder
from dafw.tuning import best, trials


class Wanted(NamedTuple):
    """One run of a study: the labels of its place in the table, and its words."""

    src: str
    tgt: str
    method: str
    tuned: str  # the hyper-parameters that tuning chose; "" for the defaults
    seed: int
    words: list[str]


def read(name: str) -> dict[str, Any]:
    """A study by its name or path; UsageError where there is none or a part is missing."""
    folder = experiments_folder() / "studies"
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"no study {name!r}; {nearest(name, [f.stem for f in folder.glob('*.yaml')])}")
    study = yaml.safe_load(path.read_text())
    lacking = {"pairs", "methods", "seeds"} - set(study)
    if lacking:
        raise UsageError(f"{path}: no {min(lacking)}; expected pairs, methods, seeds and, if any, keys and tuning")
    tuning = study.get("tuning")
    if tuning is not None and set(tuning) != {"trials", "validator", "seed"}:
        raise UsageError(f"{path}: tuning has {', '.join(tuning)}; expected trials, validator and seed")
    if tuning is not None:
        VALIDATORS.get(tuning["validator"])
    return {"name": path.stem, "keys": {}, "tuning": None, **study}


def runs_of(study: dict[str, Any], words: Sequence[str]) -> list[Wanted]:
    """Every run at the defaults: a method's seeds one after the other, which share no reference they would wait for."""
    places = [(pair, method) for pair in study["pairs"] for method in methods_of(study, pair)]
    return [wanted(study, pair, method, seed, words) for pair, method in places for seed in study["seeds"]]


def methods_of(study: dict[str, Any], pair: Any) -> list[str]:
    own: list[str] = pair.get("methods", study["methods"]) if isinstance(pair, dict) else study["methods"]
    return own


def wanted(
    study: dict[str, Any], pair: Any, method: str, seed: int, words: Sequence[str], tuned: Sequence[str] = ()
) -> Wanted:
    """One run; what is typed comes last and so goes first."""
    src, tgt = (pair["src"], pair["tgt"]) if isinstance(pair, dict) else pair
    keys = {**study["keys"], **(pair.get("keys", {}) if isinstance(pair, dict) else {})}
    sides = [*side("src", src), *side("tgt", tgt)]
    typed = [*sides, f"method={method}", f"seed={seed}", *(as_typed(key, value) for key, value in keys.items())]
    return Wanted(label(src), label(tgt), method, " ".join(tuned), seed, [*typed, *tuned, *words])


def side(key: str, given: str | dict[str, Any]) -> list[str]:
    """One side of a pair: a name, or a mapping with `name` and its options."""
    if isinstance(given, str):
        return [f"{key}={given}"]
    options = {k: v for k, v in given.items() if k != "name"}
    return [f"{key}={given['name']}", *(as_typed(f"{key}.{k}", v) for k, v in options.items())]


def label(given: str | dict[str, Any]) -> str:
    """What the domain is called in folders."""
    if isinstance(given, str):
        return given
    return name_of({**{key: default for key, (_, default) in COMMON_OPTIONS["tgt"].items()}, **given})


def measured(runs: Sequence[Wanted], jobs: int, terminal: Terminal) -> tuple[list[Record | None], int]:
    """The record of each run, None for one that failed, which is told; and the worst exit code."""

    def tell(place: int, done: Done) -> None:
        run = runs[place]
        if done.folder is None:
            Console().error(f"{run.src}→{run.tgt} {run.method}: {done.error}")
        else:
            terminal.print(told(run, records.read(done.folder), done.reused), highlight=False, soft_wrap=True)

    ended = conduct([run.words for run in runs], jobs, tell)
    found = [None if done.folder is None else records.read(done.folder) for done in ended]
    return found, max((done.exit_code for done in ended), default=0)


def told(run: Wanted, record: Record | None, reused: bool) -> str:
    """One line of a run; negative transfer in red."""
    assert record is not None
    tuned = f" {run.tuned}" if run.tuned else ""
    line = escape(f"{run.src}→{run.tgt} {run.method}{tuned} seed {run.seed}: ") + f"{record.accuracy:.3f}"
    versus = record.result["versus_lower"]
    if versus is not None:
        line += f" ({100 * versus['difference']:+.1f} points on {record.result['references']['lower']['method']})"
        if versus["verdict"] == "worse":
            line += f" [bold red]negative transfer[/bold red] (McNemar p = {versus['p']:.2g})"
    return line + (" found again" if reused else "")


def tuned_runs(study: dict[str, Any], words: Sequence[str], jobs: int, terminal: Terminal) -> tuple[list[Wanted], int]:
    """The runs of every method at what its trials and the validator chose, and the worst exit code of the trials."""
    tuning = study["tuning"]
    count, seed = tuning["trials"], tuning["seed"]
    places = [(pair, method) for pair in study["pairs"] for method in methods_of(study, pair)]
    drawn = {method: trials(method, count, seed) for _, method in places}
    runs = [
        wanted(study, pair, method, seed, ["references=false", *words], trial)
        for pair, method in places
        for trial in drawn[method]
    ]
    terminal.print(f"tuning: {count} trials a method by {tuning['validator']}, seed {seed}", highlight=False)
    found, worst = measured(runs, jobs, terminal)
    results = iter(found)
    chosen = []
    for pair, method in places:
        own = [None if record is None else record.result for record in itertools.islice(results, len(drawn[method]))]
        place = best(own, tuning["validator"])
        if place is None:
            raise UsageError(f"no trial of {method} has a value of {tuning['validator']}; expected another validator")
        chosen += [wanted(study, pair, method, s, words, drawn[method][place]) for s in study["seeds"]]
    return chosen, worst


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.study", description=__doc__)
    parser.add_argument("study", help="a name in experiments/studies, or a YAML file")
    parser.add_argument("words", nargs="*", help="key=value, for every run, as data=DIR")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="runs at once (%(default)s here)")
    parsed = parser.parse_intermixed_args(arguments)
    terminal = Terminal()
    began = time.perf_counter()
    try:
        if parsed.jobs < 1:
            raise UsageError(f"--jobs {parsed.jobs}: expected 1 or more")
        study = read(parsed.study)
        out = Path(compose([w for w in parsed.words if w.startswith("out=")]).out)
        runs = runs_of(study, parsed.words)
        found, worst = measured(runs, parsed.jobs, terminal)
        if study["tuning"] is not None:
            tuned, worst_trial = tuned_runs(study, parsed.words, parsed.jobs, terminal)
            more, worst_tuned = measured(tuned, parsed.jobs, terminal)
            runs, found, worst = [*runs, *tuned], [*found, *more], max(worst, worst_trial, worst_tuned)
    except UsageError as error:
        Console().error(str(error))
        return 2
    except KeyboardInterrupt:
        Console().error("interrupted; finished runs are found again, so the same command goes on")
        return 130
    if not any(found):
        return worst
    board = collect(out, {str(record.folder) for record in found if record is not None})
    page = out / "studies" / f"{study['name']}.html"
    write(files_of(board, page))
    show(board, terminal)
    if study["tuning"] is not None:
        terminal.print(f"tuned rows: the best of {study['tuning']['trials']} trials by {study['tuning']['validator']}")
    terminal.print(f"{time.perf_counter() - began:.0f} s; page and tables: {page}", highlight=False, soft_wrap=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
