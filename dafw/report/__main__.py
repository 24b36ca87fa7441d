"""`python -m dafw.report runs/ [out=report.html] [--wandb]`: all runs of a folder on one page, and as tables.

Writes the page, and beside it `report.csv` (a line a run), `report-leaderboard.csv` (a line a row), `report.tex` and
`report.md`. --wandb writes the leaderboard to Weights & Biases too, offline where there is no key.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console as Terminal

from dafw import tracking
from dafw.console import Console
from dafw.errors import UsageError
from dafw.report import exports
from dafw.report.gather import collect
from dafw.report.leaderboard import Board
from dafw.report.output import files_of, show, write


class Asked(NamedTuple):
    """What the command line says: the folder of runs, the page, and whether W&B is told."""

    runs: Path
    page: Path
    wandb: bool


def asked(arguments: Sequence[str] | None) -> Asked:
    """Raises UsageError for a word that is none of these, or where there is no folder."""
    usage = "expected python -m dafw.report runs/ [out=report.html] [--wandb]"
    parser = argparse.ArgumentParser(prog="python -m dafw.report", description=__doc__, exit_on_error=False)
    parser.add_argument("runs", nargs="?", help="the folder of runs, `out` of python -m dafw.run")
    parser.add_argument("words", nargs="*", metavar="out=report.html", help="the page to write")
    parser.add_argument("--wandb", action="store_true", help="also write the leaderboard as a W&B table")
    try:
        given, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}; {usage}") from error
    if given.runs is None or "=" in given.runs:
        raise UsageError(f"no folder of runs given; {usage}")
    page = Path("report.html")
    for word in [*unknown, *given.words]:
        key, _, value = word.partition("=")
        if key != "out" or not value:
            raise UsageError(f"unknown word {word!r}; {usage}")
        page = Path(value)
    if page.suffix not in (".html", ".htm"):
        raise UsageError(f"out={page}: expected a file that ends in .html, as in out=report.html")
    return Asked(Path(given.runs), page, given.wandb)


def track(board: Board, terminal: Console) -> None:
    """The leaderboard as a table of a W&B run of its own, in the project that most runs were told to."""
    configs = [run["config"]["wandb"] for run in board.runs if run.get("config")]
    projects = Counter((config["project"], config["entity"]) for config in configs)
    (project, entity), _ = projects.most_common(1)[0] if projects else (("dafw", None), 0)
    tracker = tracking.Tracker(terminal.note)
    described = {"runs": len(board.runs), "groups": len(board.groups)}
    kind = "report"
    tracker.start(
        board.out, described, mode="auto", project=project, entity=entity, group=kind, name="leaderboard", tags=[kind]
    )
    tracker.log(0, {"leaderboard": exports.wandb_table(tracking.load(), board)})
    tracker.finish({}, [])
    terminal.note(f"W&B: the leaderboard is in {board.out / 'wandb'}; an offline run is sent by `wandb sync`")


def main(arguments: Sequence[str] | None = None) -> int:
    began = time.perf_counter()
    told = Console()
    terminal = Terminal()
    try:
        given = asked(arguments)
        board = collect(given.runs)
        files = files_of(board, given.page)
        write(files)
    except UsageError as error:
        told.error(str(error))
        return 2
    show(board, terminal if terminal.is_terminal else Terminal(width=200))
    for note in board.notes:
        told.note(note)
    if given.wandb:
        track(board, told)
    for path in files:
        told.note(f"{path}")
    told.note(f"{time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
