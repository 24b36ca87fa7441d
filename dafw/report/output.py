"""A `Board` written to files and printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from dafw.cache import written_whole
from dafw.errors import UsageError
from dafw.report import exports, tables
from dafw.report.leaderboard import Board

SHORT = {"method", "hyper-parameters", "seeds", "accuracy", "95 % interval", "verdict", "s"}  # of a terminal's width


def files_of(board: Board, page: Path) -> dict[Path, str]:
    """What is written where."""
    from dafw.report.page import render  # the charting library is slow to import

    return {
        page: render(board),
        page.with_suffix(".csv"): exports.runs_csv(board),
        page.with_name(f"{page.stem}-leaderboard.csv"): exports.leaderboard_csv(board),
        page.with_suffix(".tex"): exports.latex(board),
        page.with_suffix(".md"): exports.markdown(board),
    }


def write(files: Mapping[Path, str]) -> None:
    """Each file whole; UsageError where one cannot be written."""
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"out={path} cannot be written ({reason}); expected out=DIR/report.html") from error


def show(board: Board, terminal: Terminal) -> None:
    """A short table a group, and how many runs stand in none."""
    for group in board.groups:
        found = tables.table(board, group)
        shown = Table(title=escape(found.title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
        places = [place for place, column in enumerate(found.columns) if column in SHORT]
        for place in places:
            shown.add_column(found.columns[place], overflow="fold", justify="left" if place < 2 else "right")
        for number, (row, line) in enumerate(zip(group.rows, found.lines, strict=True)):
            worse = row.versus_lower is not None and row.versus_lower.verdict == "worse"
            style = "bold" if number == found.best else "red" if worse else None
            shown.add_row(*(escape(line[place]) for place in places), style=style)
        terminal.print(shown)
    statuses = Counter(other["status"] for other in board.others)
    lines = [f"{len(board.runs)} finished runs", *(f"{count} {status}" for status, count in sorted(statuses.items()))]
    terminal.print(", ".join(lines), highlight=False)
