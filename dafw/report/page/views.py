"""What the templates show, worked out of a board: addresses of runs, dots of seeds, matrices and summaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dafw.console import p_value
from dafw.report.groups import representatives
from dafw.report.groups import undecidable as undecidable
from dafw.report.leaderboard import Board, Group, Row, Sweep, ValidatorScore
from dafw.report.page import wording
from dafw.report.tables import pair_of as pair_of
from dafw.report.tables import title_of as title_of

STRIP = 112  # width of a strip of dots, in pixels
EDGE = 6
MOST_NUMBERS = 12  # of a list in a run's section; a longer one is told by its size


@dataclass(frozen=True)
class Strip:
    """The seeds of a row on a scale that all rows of its group share; all in pixels."""

    dots: tuple[tuple[float, int, float], ...]  # place, seed, accuracy
    mean: float
    low: float | None
    high: float | None


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def slug(text: Any) -> str:
    """Letters and digits of any text, for an id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", str(text)).strip("-")


def addresses(board: Board) -> dict[str, str]:
    """Of every run's folder: the id of its section, the same in every report that has these runs."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for run in board.runs:
        folder = Path(str(run["folder"]))
        short = folder.relative_to(board.out) if folder.is_relative_to(board.out) else folder
        stem = address = f"run-{slug(short)}"
        number = 1
        while address in taken:
            number += 1
            address = f"{stem}-{number}"
        taken.add(address)
        found[str(run["folder"])] = address
    return found


def strips(group: Group) -> list[Strip]:
    """One for each row of the group."""
    ends = [e for row in group.rows for e in (*row.accuracies, row.accuracy.low, row.accuracy.high) if e is not None]
    least, most = max(0.0, min(ends, default=0.0)), min(1.0, max(ends, default=1.0))

    def place(accuracy: float | None) -> float | None:
        if accuracy is None:
            return None
        share = (accuracy - least) / (most - least) if most > least else 0.5
        return round(EDGE + (STRIP - 2 * EDGE) * min(1.0, max(0.0, share)), 1)

    return [
        Strip(
            tuple((place(a) or 0.0, seed, a) for seed, a in zip(row.seeds, row.accuracies, strict=True)),
            place(row.accuracy.mean) or 0.0,
            place(row.accuracy.low),
            place(row.accuracy.high),
        )
        for row in group.rows
    ]


def validators_of(rows: Sequence[Row]) -> list[str]:
    """The validators that any of the rows was selected by, without the last checkpoint and the oracle."""
    names = dict.fromkeys(name for row in rows for name in (*row.selected, *row.regrets, *row.correlations))
    return [name for name in names if name not in ("last", "oracle")]


def matrix(board: Board, gain: bool) -> tuple[list[str], list[Group], list[list[float | None]]]:
    """The methods, best rank first, the groups, and the cells: accuracy, or gain over the lower reference."""
    groups = [group for group in board.groups if group.comparable]
    tables = [representatives(group.rows) for group in groups]
    ranks = board.across.average_rank
    methods = sorted(
        dict.fromkeys(name for table in tables for name in table), key=lambda name: ranks.get(name, float("inf"))
    )

    def cell(row: Row | None) -> float | None:
        if row is None:
            return None
        if gain:
            return row.versus_lower.difference.mean if row.versus_lower else None
        return row.accuracy.mean

    return methods, groups, [[cell(table.get(name)) for table in tables] for name in methods]


def validators_by_pairs(board: Board) -> list[tuple[str, ValidatorScore | None, ValidatorScore | None]]:
    """Each validator on the development pairs, least regret first, and on the report pairs."""
    development, report = ({score.name: score for score in scores} for scores in (board.development, board.report))
    return [(name, development.get(name), report.get(name)) for name in dict.fromkeys([*development, *report])]


def said_of(group: Group, key: str) -> dict[str, list[str]]:
    """Each remark of this kind ("stale", "warnings" or "notes"), and the rows that it holds for."""
    found: dict[str, list[str]] = {}
    for row in group.rows:
        for remark in getattr(row, key):
            found.setdefault(remark, []).append(" ".join([row.method, row.hyperparameters]).strip())
    return found


def stale_folders(board: Board) -> dict[str, tuple[str, ...]]:
    """Of each run in a stale row: why it is stale."""
    return {str(f): row.stale for group in board.groups for row in group.rows if row.stale for f in row.folders}


def pictures_of(run: Mapping[str, Any]) -> list[Path]:
    """What the run drew, in the order of the names."""
    return sorted((Path(str(run["folder"])) / "plots").glob("*.png"))


def choices(board: Board) -> tuple[list[str], list[str], list[str]]:
    """The pairs, methods and settings that the page can be filtered by."""
    pairs = {pair_of(run.get("src"), run.get("tgt")) for run in board.runs}
    methods, settings = ({str(run[key]) for run in board.runs if run.get(key)} for key in ("method", "setting"))
    return sorted(pairs), sorted(methods), sorted(settings)


def group_of(board: Board, sweep: Sweep) -> Group | None:
    return next((group for group in board.groups if group.key == sweep.group), None)


def scores(measured: Mapping[str, Any]) -> dict[str, str]:
    """Fractions in per cent, counts as they are."""
    return {
        name: wording.percent(value) if isinstance(value, float) else wording.value(value)
        for name, value in measured.items()
    }


def references(run: Mapping[str, Any]) -> dict[str, str]:
    """What the run is compared with, and the accuracy of each."""
    known = [(role, other) for role, other in (run.get("references") or {}).items() if other]
    known += [("beside", other) for other in run.get("beside") or []]
    told = {f"{role}: {other['method']}": wording.percent(other.get("accuracy")) for role, other in known}
    best = run.get("versus_baseline")
    if best:
        name = best.get("method") or best.get("against") or "the best cheap baseline"
        told[f"over {name}"] = f"{wording.points(best['difference'])}, {p_value(best['p'])}"
    bound = run.get("bound")
    if bound is not None:
        told["Dis² promises at least"] = wording.percent(bound["accuracy"] if isinstance(bound, Mapping) else bound)
    return told


def cost(run: Mapping[str, Any]) -> dict[str, str]:
    keys = ("seconds", "total_seconds", "steps", "examples_seen", "peak_memory_mb", "trainable_parameters", "device")
    return {key: wording.value(run.get(key)) for key in keys}


def flat(nested: Any, key: str = "") -> dict[str, str]:
    """A nested record with its keys joined: {"data": {"tgt": "x"}} → {"data, tgt": "x"}; without its tables."""
    if nested is None or _is_table(nested):
        return {}
    if isinstance(nested, Mapping):
        inner = [flat(value, f"{key}, {name}" if key else str(name)) for name, value in nested.items()]
        return {name: value for part in inner for name, value in part.items()}
    count = _leaves(nested)
    return {key: wording.value(nested) if count <= MOST_NUMBERS else f"{count} values, in result.json"}


def tables_in(nested: Any, key: str = "") -> dict[str, list[dict[str, Any]]]:
    """The lists of records in a nested record, with the keys joined."""
    if _is_table(nested):
        return {key: nested}
    inner = nested.items() if isinstance(nested, Mapping) else ()
    return {
        name: table
        for part, value in inner
        for name, table in tables_in(value, f"{key}, {part}" if key else str(part)).items()
    }


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(line, Mapping) for line in value)


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value)) if isinstance(value, list | tuple) else 1
