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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from rich.console import Console as Terminal
from rich.markup import escape

import dafw.record as records
from dafw.conduct import Done, conduct, default_jobs
from dafw.config import COMMON_OPTIONS
from dafw.console import Console
from dafw.errors import UsageError
from dafw.evidence import cheap_validators
from dafw.job import name_of
from dafw.record import Record
from dafw.registry import VALIDATORS, nearest
from dafw.report.gather import collect
from dafw.report.output import files_of, show, write
from dafw.store import as_typed, compose, experiments_folder
from dafw.tuning import best, trials

OWN = {"src", "tgt", "method", "seed"}  # what a study varies: typed, they would make every run the same one


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
    try:
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML ({' '.join(str(error).split())}); expected {PARTS}") from error
    if not isinstance(study, dict):
        raise UsageError(f"{path} holds {study!r}; expected {PARTS}")
    check_keys(f"{path}", study, ("pairs", "methods", "seeds"), ("keys", "tuning"))
    study = {"keys": {}, "tuning": None, **study}
    check_list(path, "pairs", study["pairs"], (list, dict), "[[synth, digits]]")
    check_list(path, "methods", study["methods"], (str,), "[dann, mcc]")
    check_list(path, "seeds", study["seeds"], (int,), "[0, 1, 2]")
    check_mapping(path, "keys", study["keys"])
    for pair in study["pairs"]:
        check_pair(path, pair)
    if study["tuning"] is not None:
        check_tuning(path, study["tuning"])
    return {"name": path.stem, **study}


PARTS = "pairs, methods, seeds and, if any, keys and tuning"


def check_keys(where: str, given: dict[str, Any], needed: Sequence[str], others: Sequence[str]) -> None:
    """A name that is misspelt would be a study of something else."""
    for key in given:
        if key not in (*needed, *others):
            raise UsageError(f"{where}: unknown key {key!r}; {nearest(str(key), [*needed, *others])}")
    for key in needed:
        if key not in given:
            raise UsageError(f"{where}: no {key}; expected {', '.join(needed)} and, if any, {' and '.join(others)}")


def check_list(path: Path, name: str, given: Any, kinds: tuple[type, ...], example: str) -> None:
    if not isinstance(given, list) or not given or not all(isinstance(item, kinds) for item in given):
        raise UsageError(f"{path}: {name} is {given!r}; expected a list, as in {name}: {example}")
    if any(item in given[:place] for place, item in enumerate(given)):
        raise UsageError(f"{path}: {name} is {given!r}; expected each once, as in {name}: {example}")


def check_mapping(path: Path, name: str, given: Any) -> None:
    if not isinstance(given, dict):
        raise UsageError(f"{path}: {name} is {given!r}; expected a mapping, as in {name}: {{plots: false}}")
    for key in given:
        if key in OWN:
            raise UsageError(f"{path}: {name} has {key}; expected it as the study's pairs, methods or seeds")


def check_pair(path: Path, pair: Any) -> None:
    if isinstance(pair, dict):
        check_keys(f"{path}: pair {pair!r}", pair, ("src", "tgt"), ("keys", "methods"))
        check_mapping(path, "keys", pair.get("keys", {}))
        check_list(path, "methods", pair.get("methods", ["dann"]), (str,), "[dann, mcc]")
        sides = [pair["src"], pair["tgt"]]
    else:
        sides = pair
    if len(sides) != 2 or not all(isinstance(s, str) or (isinstance(s, dict) and "name" in s) for s in sides):
        raise UsageError(
            f"{path}: pair {pair!r}; expected [source, target], each a name or a mapping with a name, as in "
            "{src: mnist, tgt: {name: mnist, corruption: contrast}}"
        )


def check_tuning(path: Path, tuning: Any) -> None:
    if not isinstance(tuning, dict) or set(tuning) != {"trials", "validator", "seed"}:
        has = ", ".join(map(str, tuning)) if isinstance(tuning, (dict, list)) else tuning
        raise UsageError(f"{path}: tuning has {has}; expected trials, validator and seed")
    for key, least in (("trials", 1), ("seed", 0)):
        if not isinstance(tuning[key], int) or tuning[key] < least:
            raise UsageError(f"{path}: tuning has {key} {tuning[key]!r}; expected a whole number, at least {least}")
    if VALIDATORS.get(str(tuning["validator"])).only_named:
        raise UsageError(
            f"{path}: tuning by {tuning['validator']}, which is computed only where select= names it; expected one of "
            f"{', '.join(cheap_validators())}"
        )


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

    found: list[Record | None] = [None] * len(runs)

    def tell(place: int, done: Done) -> None:
        run = runs[place]
        record = found[place] = None if done.folder is None else records.read(done.folder)
        if record is None:
            Console().error(f"{run.src}→{run.tgt} {run.method}: {done.error}")
        else:
            terminal.print(told(run, record, done.reused), highlight=False, soft_wrap=True)

    ended = conduct([run.words for run in runs], jobs, tell)
    return found, max((done.exit_code for done in ended), default=0)


def told(run: Wanted, record: Record, reused: bool) -> str:
    """One line of a run; negative transfer in red."""
    tuned = f" {run.tuned}" if run.tuned else ""
    line = escape(f"{run.src}→{run.tgt} {run.method}{tuned} seed {run.seed}: ") + f"{record.accuracy:.3f}"
    versus = record.result["versus_lower"]
    if versus is not None:
        line += f" ({100 * versus['difference']:+.1f} points on {record.result['references']['lower']['method']})"
        if versus["verdict"] == "worse":
            line += f" [bold red]negative transfer[/bold red] (McNemar p = {versus['p']:.2g})"
    return line + (" found again" if reused else "")


def tuned_runs(
    study: dict[str, Any], words: Sequence[str], jobs: int, terminal: Terminal
) -> tuple[list[Wanted], list[Record | None], int]:
    """The runs of every method at what its trials and the validator chose; the trials, and their worst exit code."""
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
            Console().error(f"no trial of {method} has a value of {tuning['validator']}; expected another validator")
            worst = max(worst, 2)
            continue
        chosen += [wanted(study, pair, method, s, words, drawn[method][place]) for s in study["seeds"]]
    return chosen, found, worst


def folders_of(found: Sequence[Record | None]) -> set[str]:
    return {str(record.folder) for record in found if record is not None}


def parsed_words(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """As argparse reads them; a mistake is a UsageError."""

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; expected python -m dafw.study NAME [key=value ...] [--jobs N]")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(arguments)


def check_word(word: str) -> None:
    """Words are the same for all runs, so what the study varies is none of them."""
    key, equals, _ = word.partition("=")
    if not equals:
        raise UsageError(f"{word!r} is not key=value; expected words such as data=DIR")
    if key in OWN:
        raise UsageError(f"{word}: a study varies {key} itself; expected another YAML file, as in study.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.study", description=__doc__)
    parser.add_argument("study", help="a name in experiments/studies, or a YAML file")
    parser.add_argument("words", nargs="*", help="key=value, for every run, as data=DIR")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="runs at once (%(default)s here)")
    terminal = Terminal()
    began = time.perf_counter()
    try:
        parsed = parsed_words(parser, arguments)
        if parsed.jobs < 1:
            raise UsageError(f"--jobs {parsed.jobs}: expected 1 or more")
        for word in parsed.words:
            check_word(word)
        study = read(parsed.study)
        out = Path(compose([w for w in parsed.words if w.startswith("out=")]).out)
        runs = runs_of(study, parsed.words)
        tried: list[Record | None] = []
        found, worst = measured(runs, parsed.jobs, terminal)
        if study["tuning"] is not None:
            tuned, tried, worst_trial = tuned_runs(study, parsed.words, parsed.jobs, terminal)
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
    board = collect(out, folders_of(found))
    if tried:  # one seed each: no rows of the leaderboard, and all that was chosen from
        board = replace(board, sweeps=collect(out, folders_of([*found, *tried])).sweeps)
    page = out / "studies" / f"{study['name']}.html"
    write(files_of(board, page))
    show(board, terminal)
    if study["tuning"] is not None:
        terminal.print(f"tuned rows: the best of {study['tuning']['trials']} trials by {study['tuning']['validator']}")
    terminal.print(f"{time.perf_counter() - began:.0f} s; page and tables: {page}", highlight=False, soft_wrap=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
