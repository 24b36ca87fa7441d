"""`python -m dafw.study office31 data=DIR`: pairs x methods x seeds by one command, as one table.

A study is a YAML file of `experiments/studies/` (or any path): `pairs`, `methods`, `seeds` and the `keys` of every
run, as they are typed on the command line. Runs that are finished are found again, so that a study can be resumed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from dafw.cache import written_whole
from dafw.console import Console
from dafw.errors import TrainingError, UsageError
from dafw.evaluation import Gap, recovered_gap_over_seeds, t_interval, verdict_over_seeds
from dafw.experiment import as_typed, run
from dafw.record import Record
from dafw.registry import nearest
from dafw.store import compose, experiments_folder

Results = dict[tuple[str, str, str], list[Record]]  # (source, target, method) → a record a seed


def read(name: str) -> dict[str, Any]:
    """A study by its name or path; UsageError where there is none or a part is missing."""
    folder = experiments_folder() / "studies"
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"no study {name!r}; {nearest(name, [f.stem for f in folder.glob('*.yaml')])}")
    study = yaml.safe_load(path.read_text())
    lacking = {"pairs", "methods", "seeds"} - set(study)
    if lacking:
        raise UsageError(f"{path}: no {min(lacking)}; expected pairs, methods, seeds and, if any, keys")
    return {"name": path.stem, "keys": {}, **study}


def runs_of(study: dict[str, Any], words: Sequence[str]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Source, target, method and the words of every run; what is typed comes last and so goes first."""
    keys = [as_typed(key, value) for key, value in study["keys"].items()]
    for seed, (src, tgt), method in itertools.product(study["seeds"], study["pairs"], study["methods"]):
        pair = [*side("src", src), *side("tgt", tgt)]
        yield label(src), label(tgt), method, [*pair, f"method={method}", f"seed={seed}", *keys, *words]


def side(key: str, given: str | dict[str, Any]) -> list[str]:
    """One side of a pair: a name, or a mapping with `name` and its options."""
    if isinstance(given, str):
        return [f"{key}={given}"]
    options = {k: v for k, v in given.items() if k != "name"}
    return [f"{key}={given['name']}", *(as_typed(f"{key}.{k}", v) for k, v in options.items())]


def label(given: str | dict[str, Any]) -> str:
    if isinstance(given, str):
        return given
    return Path(given["path"]).stem if "path" in given else str(given["name"])


def conduct(study: dict[str, Any], words: Sequence[str], terminal: Terminal) -> tuple[Results, int]:
    """Run all that is not finished yet; a run that fails is told and left out. The records and the worst exit code."""
    results: Results = {}
    worst = 0
    for src, tgt, method, typed in runs_of(study, words):
        try:
            record = run(compose(typed), Console(quiet=True))
        except (UsageError, TrainingError) as error:
            Console().error(f"{src}→{tgt} {method}: {error}")
            worst = max(worst, 1 if isinstance(error, TrainingError) else 2)
            continue
        results.setdefault((src, tgt, method), []).append(record)
        terminal.print(told(src, tgt, method, record), highlight=False, soft_wrap=True)
    return results, worst


def told(src: str, tgt: str, method: str, record: Record) -> str:
    """One line of a run; negative transfer in red."""
    line = escape(f"{src}→{tgt} {method} seed {record.result['seed']}: ") + f"{record.accuracy:.3f}"
    versus = record.result["versus_lower"]
    if versus is not None:
        line += f" ({100 * versus['difference']:+.1f} points on {record.result['references']['lower']['method']})"
        if versus["verdict"] == "worse":
            line += f" [bold red]negative transfer[/bold red] (McNemar p = {versus['p']:.2g})"
    return line + (" found again" if record.reused else "")


def rows_of(results: Results) -> list[list[str]]:
    """A row a pair and method: mean and spread, interval, difference to the lower reference, recovered gap."""
    rows = []
    for (src, tgt, method), found in results.items():
        accuracies = [100 * r.accuracy for r in found]
        spread = f"{np.std(accuracies, ddof=1):.1f}" if len(found) > 1 else "–"
        mean, low, high = t_interval(accuracies)
        interval = f"[{low:.1f}, {high:.1f}]" if len(found) > 1 else "–"
        bounds = [[r.result["references"][role] for r in found] for role in ("lower", "upper")]
        lower, upper = ([100 * b["accuracy"] for b in bound] if all(bound) else None for bound in bounds)
        difference = verdict = gap = "–"
        if lower is not None:
            paired = t_interval([a - b for a, b in zip(accuracies, lower, strict=True)])
            difference = f"{paired.mean:+.1f}" + (f" [{paired.low:+.1f}, {paired.high:+.1f}]" if len(found) > 1 else "")
            verdict = verdict_over_seeds(accuracies, lower).verdict if len(found) > 1 else "–"
            if upper is not None and len(found) > 1:
                recovered = recovered_gap_over_seeds(accuracies, lower, upper)
                gap = (
                    "undefined"
                    if isinstance(recovered, Gap)
                    else f"{recovered.mean:.2f} [{recovered.low:.2f}, {recovered.high:.2f}]"
                )
        values = " ".join(f"{a:.1f}" for a in accuracies)
        seconds = f"{np.mean([r.result['total_seconds'] for r in found]):.1f}"
        rows.append(
            [f"{src}→{tgt}", method, f"{mean:.1f} ± {spread}", interval, values, difference, verdict, gap, seconds]
        )
    return rows


COLUMNS = [
    "pair",
    "method",
    "accuracy ± sd",
    "95 % interval",
    "every seed",
    "on the lower reference",
    "verdict",
    "recovered gap",
    "s",
]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.study", description=__doc__)
    parser.add_argument("study", help="a name in experiments/studies, or a YAML file")
    parser.add_argument("words", nargs="*", help="key=value, for every run, as data=DIR")
    parsed = parser.parse_args(arguments)
    terminal = Terminal()
    began = time.perf_counter()
    try:
        study = read(parsed.study)
        results, worst = conduct(study, parsed.words, terminal)
        out = Path(compose([w for w in parsed.words if w.startswith("out=")]).out)
    except UsageError as error:
        Console().error(str(error))
        return 2
    rows = rows_of(results)
    table = Table(title=f"{study['name']} (target accuracy, %)", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    (terminal if terminal.is_terminal else Terminal(width=200)).print(table)
    path = out / "studies" / f"{study['name']}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(markdown(rows))
    terminal.print(f"{time.perf_counter() - began:.0f} s; table: {path}", highlight=False, soft_wrap=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
