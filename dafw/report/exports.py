"""A `Board` as CSV, LaTeX, Markdown and a table of Weights & Biases."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dafw.console import MISSING
from dafw.report.leaderboard import Board, Comparison, Estimate, Group, Row
from dafw.report.tables import ORACLE_MARK, Table, all_tables

BOLD = 3  # the column of the accuracy in the table of a group

FIRST = ("src", "tgt", "method", "setting", "seed", "selection", "image_size", "status", "folder")
NESTED = ("target", "source", "references", "versus_lower", "versus_baseline", "validators", "bound", "protocol")

# ---- csv: numbers for plots, under flat names that stay


def runs_csv(board: Board) -> str:
    """A line a finished run, with all numbers of its result.json under flat names, as target/accuracy."""
    lines = [dict(numbers(result)) for result in board.runs]
    for line, result in zip(lines, board.runs, strict=True):
        line["hyperparameters"] = " ".join(map(str, result.get("hyperparameters") or ()))
    return _csv(sorted(lines, key=lambda line: str(line["folder"])))


def numbers(result: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Flat names and values of a result.json: single values, and of lists only what a rule would choose from."""
    for key in FIRST:
        yield key, result.get(key)
    for key in NESTED:
        yield from _single(result.get(key), key)
    for beside in result.get("beside") or ():
        yield f"beside/{beside['method']}", beside["accuracy"]
    for key, value in result.items():
        if key not in (*FIRST, *NESTED) and not isinstance(value, (Mapping, list)):
            yield key, value
    yield from _single(result.get("config"), "config")


def _single(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    """What does not exist makes no column of its own."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _single(inner, f"{name}/{key}")
    elif value is not None and not isinstance(value, list):
        yield name, value


def leaderboard_csv(board: Board) -> str:
    """A line a row, with all of its numbers; accuracies are fractions."""
    return _csv([described(group, row) for group in board.groups for row in group.rows])


def described(group: Group, row: Row) -> dict[str, Any]:
    """Flat names and values of a row; None where there is none."""
    line: dict[str, Any] = {
        "src": group.src,
        "tgt": group.tgt,
        "group": group.key,
        "development": group.development,
        "method": row.method,
        "setting": row.setting,
        "hyperparameters": row.hyperparameters,
        "selection": row.selection,
        "seeds": len(row.seeds),
        **_estimated("accuracy", row.accuracy),
        "accuracy/deviation": row.deviation,
        **_compared("versus_lower", row.versus_lower),
        **_compared("versus_baseline", row.versus_baseline),
        **_estimated("recovered_gap", row.gap),
        "recovered_gap/reason": row.gap_reason or None,
        "bound": row.bound,
        "seconds": row.seconds,
        "total_seconds": row.total_seconds,
    }
    line |= {f"selected/{rule}": value for rule, value in row.selected.items()}
    line |= {f"regret/{name}": value for name, value in row.regrets.items()}
    line |= {f"correlation/{name}": value for name, value in row.correlations.items()}
    return {**line, "stale": "; ".join(row.stale) or None, "warnings": "; ".join(row.warnings) or None}


def _estimated(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {f"{name}/{part}": None for part in ("mean", "low", "high")}
    return {f"{name}/mean": estimate.mean, f"{name}/low": estimate.low, f"{name}/high": estimate.high}


def _compared(name: str, found: Comparison | None) -> dict[str, Any]:
    values = _estimated(f"{name}/difference", None if found is None else found.difference)
    for key in ("against", "p", "verdict", "test", "probability_of_improvement"):
        values[f"{name}/{key}"] = None if found is None else getattr(found, key)
    return values


def columns_of(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column that a line has, in the order of their first lines."""
    return list(dict.fromkeys(key for line in lines for key in line))


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(lines), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


# ---- Markdown


def markdown(board: Board) -> str:
    """A heading, a table and its notes for each of `tables.all_tables`."""
    return "\n".join(map(_markdown_table, all_tables(board)))


def _markdown_table(found: Table) -> str:
    lines = [list(map(markdown_escaped, line)) for line in found.lines]
    if found.best is not None:
        lines[found.best][BOLD] = f"**{lines[found.best][BOLD]}**"
    rows = [list(found.columns), ["---"] * len(found.columns), *lines]
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"## {markdown_escaped(found.title)}\n\n{body}\n" + "".join(
        f"- {markdown_escaped(note)}\n" for note in found.notes
    )


def markdown_escaped(text: str) -> str:
    """Text that is neither mark-up nor HTML nor the end of a cell."""
    escaped = "".join(f"\\{char}" if char in "\\`*_<>#|~$!&" else char for char in text)
    return " ".join(escaped.split())


# ---- LaTeX

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "→": r"$\to$",
    ORACLE_MARK: r"$^\dagger$",
    MISSING: "--",
}


def latex(board: Board) -> str:
    """The same tables for \\usepackage{booktabs}: the best accuracy is bold, an oracle's carries a dagger."""
    return "% \\usepackage{booktabs}\n" + "\n".join(map(_latex_table, all_tables(board)))


def _latex_table(found: Table) -> str:
    lines = [list(map(latex_escaped, line)) for line in found.lines]
    if found.best is not None:
        lines[found.best][BOLD] = rf"\textbf{{{lines[found.best][BOLD]}}}"
    rows = [" & ".join(line) + r" \\" for line in (list(map(latex_escaped, found.columns)), *lines)]
    rows = [f"{{}}{row}" if row.startswith(("[", "*")) else row for row in rows]  # else an argument of the \\ before
    notes = [rf"\par\footnotesize {latex_escaped(note)}" for note in found.notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex_escaped(found.title)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(found.columns) - 2)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def latex_escaped(text: str) -> str:
    return " ".join("".join(LATEX.get(char, char) for char in text).split())


# ---- Weights & Biases


def wandb_table(wandb: Any, board: Board) -> Any:
    """The lines of `leaderboard_csv` as a `wandb.Table`, under the same names."""
    lines = [described(group, row) for group in board.groups for row in group.rows]
    columns = columns_of(lines)
    kinds = {column: {type(line[column]) for line in lines if line.get(column) is not None} for column in columns}
    data = [[_as(kinds[column], line.get(column)) for column in columns] for line in lines]
    return wandb.Table(columns=columns, data=data)


def _as(kinds: set[type], value: Any) -> Any:
    """One type a column, as a table there wants it."""
    return float(value) if value is not None and kinds == {int, float} else value
