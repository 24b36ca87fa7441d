"""One self-contained page of a board: no network, opens from disk, prints."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from dafw import __version__
from dafw.console import MISSING, p_value
from dafw.report.exports import columns_of
from dafw.report.leaderboard import Board
from dafw.report.page import charts, thumbnails, views, wording
from dafw.report.tables import best_line

HERE = Path(__file__).parent
PICTURES = Path(".report") / "pictures"  # in the folder of the runs


def render(board: Board) -> str:
    """The page as HTML. Pictures are kept small in `<out>/.report/pictures`, where that can be written."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    library = get_plotlyjs()
    pictures = {str(run["folder"]): views.pictures_of(run) for run in board.runs}
    drawn = thumbnails.data_uris([path for paths in pictures.values() for path in paths], board.out / PICTURES)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            board=board,
            made=datetime.now().astimezone(),
            version=__version__,
            style=(HERE / "page.css").read_text(encoding="utf-8"),
            script=script,
            library=packed(library),
            hashes=[hash_for_policy(script), hash_for_policy(library)],
            pictures={folder: [(path.stem, drawn[path]) for path in paths] for folder, paths in pictures.items()},
            addresses=views.addresses(board),
            stale=views.stale_folders(board),
            colours=charts.colours_of([row.method for group in board.groups for row in group.rows]),
        )
    )


@functools.cache
def environment() -> Environment:
    """jinja2 with escaping everywhere, and the words and views that the templates use."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words: list[Callable[..., Any]] = [
        wording.percent,
        wording.points,
        wording.decimal,
        wording.seconds,
        wording.percent_interval,
        wording.points_interval,
        wording.decimal_interval,
        wording.verdict,
        wording.claimed,
        wording.value,
        wording.typed,
        p_value,
        charts.spec,
    ]
    made.filters |= {word.__name__: word for word in words}
    made.globals |= {
        "views": views,
        "charts": charts,
        "MISSING": MISSING,
        "best_line": best_line,
        "columns_of": columns_of,
    }
    return made


def packed(library: str) -> str:
    """The charting library, compressed, which the browser unpacks when the first figure comes into view."""
    return base64.b64encode(gzip.compress(library.encode(), mtime=0)).decode()


def hash_for_policy(script: str) -> str:
    """A script that the page's content security policy lets run, and no other one."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
