"""A `Board` as tables that people read, before any form is given to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dafw.console import MISSING, p_value
from dafw.report.groups import representatives, said, undecidable
from dafw.report.leaderboard import Board, Comparison, Estimate, Group, Row, Sweep

ORACLE_MARK = "\N{DAGGER}"
ORACLE_NOTE = f"{ORACLE_MARK} target labels chose: a real user has none to choose by"


@dataclass(frozen=True)
class Table:
    """Cells as text; `best` is the line to be set bold, `notes` stand below."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    best: int | None
    notes: tuple[str, ...]


def pair_of(src: object, tgt: object) -> str:
    return f"{src} → {tgt}"


def title_of(group: Group) -> str:
    """The pair, and what tells this group from the pair's others."""
    return pair_of(group.src, group.tgt) + (f", {group.differs}" if group.differs else "")


def tables(board: Board) -> list[Table]:
    """The leaderboard of each group."""
    return [table(board, group) for group in board.groups]


def table(board: Board, group: Group) -> Table:
    """Accuracies in per cent; the recommended validator's column only where there is one."""
    rules = [("last", "last"), (board.recommended, f"by {board.recommended}"), ("oracle", f"oracle {ORACLE_MARK}")]
    shown: list[tuple[str, Callable[[Row], str]]] = [
        ("method", lambda row: row.method + ("" if row.is_honest else f" {ORACLE_MARK}")),
        ("hyper-parameters", lambda row: row.hyperparameters),
        ("seeds", lambda row: str(len(row.seeds))),
        ("accuracy", mean_and_deviation),
        ("95 % interval", lambda row: _interval(row.accuracy)),
        ("on the lower reference", lambda row: _difference(row.versus_lower)),
        ("p", lambda row: MISSING if row.versus_lower is None else _p(row.versus_lower.p)),
        ("verdict", lambda row: MISSING if row.versus_lower is None else row.versus_lower.verdict),
        ("on the best cheap baseline", lambda row: _difference(row.versus_baseline)),
        ("recovered gap", _gap),
        *((heading, _selected(rule)) for rule, heading in rules if rule),
        ("s", lambda row: f"{row.total_seconds:.1f}"),
    ]
    return Table(
        title=title_of(group) + (" (a development pair)" if group.development else ""),
        columns=tuple(heading for heading, _ in shown),
        lines=tuple(tuple(cell(row) for _, cell in shown) for row in group.rows),
        best=best_line(group.rows) if group.comparable else None,
        notes=tuple(_notes(group)),
    )


def best_line(rows: Sequence[Row]) -> int | None:
    """The highest mean among methods that neither bound the scale nor were selected by target labels.

    One row speaks for a method: the best of its hyper-parameters by test accuracy would be an oracle's.
    """
    speaking = representatives(rows)
    able = [place for place, row in enumerate(rows) if row is speaking.get(row.method) and not row.is_reference]
    return max(able, key=lambda place: rows[place].accuracy.mean, default=None)


def _notes(group: Group) -> Iterable[str]:
    if group.comparable:
        shown = {key: value for key, value in group.comparable.items() if key not in ("pair", "data")}
        yield "; ".join(f"{key} {said(value)}" for key, value in shown.items())
    if group.differs:
        yield f"not to be compared with other rows of the pair: {group.differs}" if group.comparable else group.differs
    if group.baseline:
        yield f"best cheap baseline: {group.baseline}"
    for row in group.rows:
        if row.stale:
            yield f"stale: {' '.join([row.method, row.hyperparameters]).strip()}: {', '.join(row.stale)}"
    yield ORACLE_NOTE


def mean_and_deviation(row: Row) -> str:
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
    return f"{100 * row.accuracy.mean:.1f}{spread}"


def _interval(estimate: Estimate, factor: float = 100, form: str = ".1f") -> str:
    if estimate.low is None or estimate.high is None:
        return MISSING
    return f"[{factor * estimate.low:{form}}, {factor * estimate.high:{form}}]"


def _p(p: float) -> str:
    return p_value(p).removeprefix("p = ").removeprefix("p ")


def _difference(found: Comparison | None) -> str:
    if found is None:
        return MISSING
    mean = f"{100 * found.difference.mean:+.1f}"
    return mean if found.difference.low is None else f"{mean} {_interval(found.difference, form='+.1f')}"


def _gap(row: Row) -> str:
    if row.gap is None:
        return MISSING
    return f"{row.gap.mean:.2f}" + ("" if row.gap.low is None else f" {_interval(row.gap, 1, '.2f')}")


def _selected(rule: str) -> Callable[[Row], str]:
    return lambda row: f"{100 * row.selected[rule]:.1f}" if rule in row.selected else MISSING


# ---- what is said of several rows


def claims(group: Group) -> Table:
    """Methods against each other, paired by seed."""
    lines = [
        (c.against, str(len(c.seeds)), _difference(c), _p(c.p), MISSING if c.adjusted_p is None else _p(c.adjusted_p))
        for c in group.between
    ]
    columns = ("methods", "seeds", "difference", "p", "p, Holm")
    reason = undecidable(group.between)
    title = f"{group.src} → {group.tgt}: methods against each other"
    return Table(title, columns, tuple(lines), None, (reason,) if reason else ())


def ranks(board: Board) -> Table:
    """Average ranks over the pairs that all methods share, and which differences Wilcoxon's test finds."""
    found = board.across
    ranked = sorted(found.average_rank.items(), key=lambda item: item[1])
    lines = tuple((method, f"{rank:.2f}") for method, rank in ranked)
    tests = [f"{a} and {b}: p = {p:.2g}, Holm {adjusted:.2g}" for a, b, p, adjusted in found.wilcoxon]
    over = f"over {len(found.pairs)} pairs: {', '.join(found.pairs)}"
    notes = tuple(note for note in (over, found.reason, *found.notes, *tests) if note)
    return Table("Across pairs", ("method", "average rank"), lines, None, notes)


def validators(board: Board) -> Table:
    """Regret and rank correlation of each validator, on the pairs that may choose one and on those that judge it."""
    report = {score.name: score for score in board.report}
    names = dict.fromkeys(score.name for score in (*board.development, *board.report))
    development = {score.name: score for score in board.development}
    lines = []
    for name in names:
        cells = [name]
        for scores in (development, report):
            score = scores.get(name)
            cells += [
                MISSING if score is None else f"{100 * score.regret:.1f}",
                MISSING if score is None or score.correlation is None else f"{score.correlation:.2f}",
            ]
        lines.append(tuple(cells))
    columns = ("validator", "regret, development pairs", "correlation", "regret, report pairs", "correlation")
    note = f"{board.recommended} has the least regret on the development pairs" if board.recommended else ""
    return Table("Validators", columns, tuple(lines), None, (note,) if note else ())


def sweeps(board: Board) -> Table:
    """What each rule would have chosen among the sets of hyper-parameters that were tried."""
    by_key = {group.key: group for group in board.groups}
    lines = tuple(line for sweep in board.sweeps for line in _sweep_lines(by_key[sweep.group], sweep))
    columns = ("pair", "method", "trials", "chosen by", "hyper-parameters", "accuracy")
    return Table("Hyper-parameters", columns, lines, None, (ORACLE_NOTE,))


def _sweep_lines(group: Group, sweep: Sweep) -> Iterable[tuple[str, ...]]:
    pair = title_of(group)
    by_labels = any(row.method == sweep.method and not row.is_honest for row in group.rows)  # each run's checkpoint
    for rule, best in sweep.best.items():
        shown = f"{rule} {ORACLE_MARK}" if rule == "oracle" or by_labels else rule
        chosen = best["words"] or "the defaults"
        yield pair, sweep.method, str(best["trials"]), shown, chosen, f"{100 * best['accuracy']:.1f}"


def all_tables(board: Board) -> list[Table]:
    """Everything, without tables that have no line."""
    found = [t for group in board.groups for t in (table(board, group), claims(group))]
    return [t for t in (*found, ranks(board), validators(board), sweeps(board)) if t.lines]
