"""The figures of the page, as plotly's; colours of paper and ink come from the page's theme, in the browser."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.colors import qualitative

from dafw.report.leaderboard import Group, Row, Sweep
from dafw.report.page import wording
from dafw.report.tables import ORACLE_MARK

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star")
LONGEST = 48  # characters of a label
DECADE = 10  # a ratio of the largest value to the smallest from which an axis is logarithmic

Colours = dict[str, tuple[str, str]]  # method → colour, marker


def colours_of(methods: Sequence[str]) -> Colours:
    """One colour and marker for a method, the same in every figure."""
    palette = qualitative.D3
    return {m: (palette[i % len(palette)], SYMBOLS[i % len(SYMBOLS)]) for i, m in enumerate(dict.fromkeys(methods))}


def plain(text: Any) -> str:
    """Text for a figure, cut where it is long: plotly reads HTML in labels, so that a name has to be escaped."""
    short = str(text) if len(str(text)) <= LONGEST else f"{str(text)[: LONGEST - 1]}…"
    return html.escape(short, quote=False)


def spec(figure: go.Figure) -> Markup:
    """The figure as JSON for a script element, where nothing may end the script."""
    return htmlsafe_json_dumps(figure, dumps=go.Figure.to_json)


def accuracy_against_seconds(group: Group, colours: Colours) -> go.Figure:
    """One marker a row: mean accuracy with its 95 % interval against the mean seconds of a run and its starts."""
    figure = go.Figure([_cost_trace(row, colours) for row in group.rows])
    axis = _axis([row.total_seconds for row in group.rows])
    return _laid_out(
        figure, 380, xaxis={"title": {"text": "seconds, with the runs it starts from"}, **axis}, yaxis=_accuracy_axis()
    )


def _cost_trace(row: Row, colours: Colours) -> go.Scatter:
    mark = "" if row.is_honest else ORACLE_MARK
    name = plain(" ".join(filter(None, [row.method, mark, row.hyperparameters])))
    colour, symbol = colours[row.method]
    low, high = row.accuracy.low, row.accuracy.high
    bars: dict[str, Any] | None = None
    if low is not None and high is not None:
        bars = {"array": [100 * (high - row.accuracy.mean)], "arrayminus": [100 * (row.accuracy.mean - low)]}
        bars |= {"thickness": 1.2, "width": 3}
    return go.Scatter(
        x=[row.total_seconds],
        y=[100 * row.accuracy.mean],
        error_y=bars,
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        text=[name],
        hovertemplate="%{text}<br>%{y:.1f} %, %{x:.3g} s<extra></extra>",
    )


def heat_map(
    methods: Sequence[str], groups: Sequence[Group], fractions: Sequence[Sequence[float | None]], gain: bool
) -> go.Figure:
    """Methods x groups, in per cent; `gain` for points over the lower reference, around a white zero."""
    names, titles = list(map(plain, methods)), list(map(_two_lines, groups))
    form = wording.points if gain else wording.percent
    cells = [[None if v is None else 100 * v for v in row] for row in fractions]
    largest = max((abs(v) for row in cells for v in row if v is not None), default=1.0)
    scale = {"colorscale": "RdBu", "zmid": 0, "zmin": -largest, "zmax": largest} if gain else {"colorscale": "Blues"}
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            text=[[form(v) if v is not None else "" for v in row] for row in fractions],
            texttemplate="%{text}",
            customdata=[[f"{name}<br>{title}" for title in titles] for name in names],
            hovertemplate="%{customdata}<br>%{text}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": "points" if gain else "%"}, "thickness": 12, "outlinewidth": 0},
            **scale,
        )
    )
    return _laid_out(
        figure, 150 + 30 * len(methods), xaxis=_named(titles), yaxis={**_named(names), "autorange": "reversed"}
    )


def _named(labels: Sequence[str]) -> dict[str, Any]:
    """An axis of places, since two labels may read alike."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "showgrid": False,
        "automargin": True,
        "ticks": "",
    }


def _two_lines(group: Group) -> str:
    return "<br>".join(plain(words) for words in (f"{group.src} → {group.tgt}", group.differs) if words)


def accuracy_against_key(sweep: Sweep, key: str, colours: Colours) -> go.Figure:
    """One marker a run of the sweep: accuracy against one hyper-parameter, and the mean at each value as a line."""
    points = [p for p in sweep.points if p.get(key) is not None and p.get("accuracy") is not None]
    numeric = all(isinstance(p[key], int | float) and not isinstance(p[key], bool) for p in points)
    colour, symbol = colours[sweep.method]
    values = [p[key] if numeric else plain(p[key]) for p in points]
    accuracies = [100 * p["accuracy"] for p in points]
    others = [
        "<br>".join(plain(f"{k}={p.get(k)}") for k in (*sweep.keys, "seed")) for p in points
    ]  # which of many runs a marker is
    runs = go.Scatter(
        x=values,
        y=accuracies,
        text=others,
        mode="markers",
        name="a run",
        marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.75},
        hovertemplate="%{text}<br>%{y:.1f} %<extra></extra>",
    )
    at = sorted(set(values)) if numeric else list(dict.fromkeys(values))
    means = [_mean([a for v, a in zip(values, accuracies, strict=True) if v == place]) for place in at]
    line = go.Scatter(x=at, y=means, mode="lines", name="mean", line={"color": colour, "width": 1.2}, hoverinfo="skip")
    axis = _axis(values) if numeric else {"type": "category"}
    return _laid_out(
        go.Figure([line, runs]),
        300,
        xaxis={"title": {"text": plain(key)}, **axis},
        yaxis=_accuracy_axis(),
        showlegend=False,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _accuracy_axis() -> dict[str, Any]:
    return {"title": {"text": "target accuracy, %"}}


def _axis(values: Sequence[Any]) -> dict[str, Any]:
    """Logarithmic where the values span a decade, with ticks at 1, 2 and 5."""
    if values and min(values) > 0 and max(values) / min(values) >= DECADE:
        return {"type": "log", "dtick": "D2"}
    return {"type": "linear"}


def _laid_out(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    figure.layout.template = None  # plotly's own would be written into every figure
    margin = {"l": 60, "r": 20, "t": 20, "b": 60}
    return figure.update_layout(height=height, margin=margin, hovermode="closest", **layout)
