"""The pictures of a run: curves, confusion matrix, t-SNE of the features; each writes one PNG.

They draw on matplotlib's object interface, which keeps no state and needs no display.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.manifold import TSNE

# colour-blind safe: Okabe and Ito's blue and vermillion for the two domains, Petroff's ten (arXiv:2107.02270) else
DOMAIN_COLOURS = {"source": "#0072B2", "target": "#D55E00"}
PALETTE = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]
MARKERS = {"source": "o", "target": "+"}
CURVE_NAMES = {
    "source/validation_accuracy": ("source validation", DOMAIN_COLOURS["source"]),
    "oracle/target_accuracy": ("target test (oracle, chooses nothing)", DOMAIN_COLOURS["target"]),
}
MOST_POINTS = 500  # of a domain, in a t-SNE

Domains = tuple[Any, Any, Any, Any]  # source features (N, D) and labels (N,), then the target's; a domain may be None


def curves(metrics: Sequence[Mapping[str, Any]], path: Path, oracle: bool = False) -> Path:
    """Losses and accuracies against the step, from the lines of metrics.jsonl; `oracle` if the target's chose."""
    return save(curves_figure(metrics, oracle), path)


def confusion(labels: Any, predicted: Any, classes: Sequence[str], path: Path) -> Path:
    """The confusion matrix of labels (N,) and predictions (N,), each row as fractions of its true class."""
    return save(confusion_figure(labels, predicted, classes), path)


def tsne(before: Domains | None, after: Domains, path: Path, classes: Sequence[str] = ()) -> Path:
    """t-SNE (van der Maaten and Hinton 2008) of source and target features, coloured by domain and by class.

    At most 500 examples of a domain are drawn. Without names in `classes` the legend has their numbers.
    """
    return save(tsne_figure(before, after, classes), path)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    with warnings.catch_warnings():
        # a class name in a script the font lacks is drawn as boxes, which is no reason to disturb a run
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure.savefig(path, format="png")
    return path


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def short(name: str, most: int) -> str:
    """At most this many characters of a name."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


# ---- curves


def curves_figure(metrics: Sequence[Mapping[str, Any]], oracle: bool = False) -> Figure:
    figure = blank(10, 4)
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for line in metrics for name in line))
    for number, name in enumerate(n for n in names if n.startswith("loss/")):
        _curve(left, metrics, name, name.removeprefix("loss/"), PALETTE[number % len(PALETTE)])
    others = iter(PALETTE[4:])
    for name in (n for n in names if n.endswith("accuracy") and not n.startswith("validator/")):
        label, colour = CURVE_NAMES.get(name) or (name.replace("_", " "), next(others, "black"))
        if oracle:
            label = label.replace("oracle, chooses nothing", "oracle: it chose the checkpoint")
        _curve(right, metrics, name, label, colour)
    right.set_ylim(0, 1.02)
    for axes, title, unit in ((left, "loss", "mean over training batches"), (right, "accuracy", "fraction right")):
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylabel(f"{title} ({unit})")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
        else:
            axes.text(0.5, 0.5, "nothing was logged", transform=axes.transAxes, ha="center", color="grey")
    return figure


def _curve(axes: Axes, metrics: Sequence[Mapping[str, Any]], name: str, label: str, colour: str) -> None:
    points = [(line["step"], line[name]) for line in metrics if line.get(name) is not None]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    style = "--" if name.startswith("oracle/") else "-"
    marker = "o" if len(points) <= 25 else ""
    axes.plot(steps, values, style, color=colour, label=label, linewidth=1.5, marker=marker, markersize=3)


# ---- confusion


def confusion_figure(labels: Any, predicted: Any, classes: Sequence[str]) -> Figure:
    size = len(classes)
    pairs = np.asarray(labels, dtype=np.int64) * size + np.asarray(predicted, dtype=np.int64)
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = min(max(4.0, 2.2 + 0.36 * size), 13.0)
    figure = blank(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    name_matrix(axes, classes)
    right = int(counts.trace())
    axes.set_title(f"target test: {right} of {int(counts.sum())} right", fontsize=11)
    if size <= 15:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    for row in np.flatnonzero(totals[:, 0] == 0):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor="grey", hatch="///", linewidth=0)
    figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.8, aspect=30)
    return figure


def name_matrix(axes: Axes, classes: Sequence[str]) -> None:
    """Class names on both axes of a confusion matrix, true classes down, predicted ones across."""
    size = len(classes)
    every = 1 + size // 80  # beyond that names would overlap
    font = 9 if size <= 20 else 7
    names = [short(name, 18) for name in classes[::every]]
    axes.set_xticks(range(0, size, every), names, rotation=90 if size > 3 else 0, fontsize=font, parse_math=False)
    axes.set_yticks(range(0, size, every), names, fontsize=font, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


# ---- t-SNE


class Points(NamedTuple):
    """What one row of panels shows: places (N, 2), labels (N,) and whether each is of the target (N,)."""

    places: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_target: NDArray[np.bool_]


def tsne_figure(before: Domains | None, after: Domains, classes: Sequence[str] = ()) -> Figure:
    rows = [(word, _points(domains)) for word, domains in (("before", before), ("after", after)) if domains is not None]
    numbers = sorted({number for _, points in rows for number in points.labels.tolist()})
    count = max(len(classes), numbers[-1] + 1)
    few = count <= len(PALETTE)
    colours = {n: PALETTE[n] if few else colormaps["viridis"](n / (count - 1)) for n in numbers}
    figure = blank(11, 4.6 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for (word, points), (by_domain, by_class) in zip(rows, panels, strict=True):
        _scatter_domains(by_domain, points, f"{word} adaptation, by domain")
        _scatter_classes(by_class, points, f"{word} adaptation, by class", colours)
        if not few:  # colours alone no longer tell the classes apart
            _number_classes(by_class, points)
    shown = [name for name, features in (("source", after[0]), ("target", after[2])) if features is not None]
    names = {n: short(classes[n], 18) if n < len(classes) else "" for n in numbers}
    if not few or not classes:
        names = {n: f"{n} {name}".strip() for n, name in names.items()}
    _legend(
        figure,
        [*shown, *names.values()],
        [*(DOMAIN_COLOURS[name] for name in shown), *colours.values()],
        [*(MARKERS[name] for name in shown), *"s" * len(names)],
    )
    return figure


def _points(domains: Domains) -> Points:
    """At most 500 examples of either domain, placed by t-SNE."""
    features, labels, is_target = [], [], []
    for number in (0, 1):
        if domains[2 * number] is None:
            continue
        own = np.asarray(domains[2 * number], dtype=np.float32)
        chosen = np.sort(np.random.default_rng(0).permutation(len(own))[:MOST_POINTS])
        features.append(own[chosen])
        labels.append(np.asarray(domains[2 * number + 1], dtype=np.int64)[chosen])
        is_target.append(np.full(len(chosen), number == 1))
    return Points(embedded(np.concatenate(features)), np.concatenate(labels), np.concatenate(is_target))


def embedded(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """t-SNE of features (N, D) in the plane, (N, 2); all at one place where nothing tells them apart."""
    if not np.ptp(features, axis=0).any():
        return np.zeros((len(features), 2), dtype=np.float32)
    features = np.pad(features, ((0, 0), (0, max(0, 2 - features.shape[1]))))  # PCA wants two columns
    perplexity = min(30.0, (len(features) - 1) / 3)
    # angle=.8: a quarter faster than .5, with no difference to see
    model = TSNE(init="pca", perplexity=perplexity, angle=0.8, random_state=0, n_jobs=1)
    points: NDArray[np.float32] = model.fit_transform(features)
    return points


def _scatter_domains(axes: Axes, points: Points, title: str) -> None:
    for domain, chosen in (("source", ~points.is_target), ("target", points.is_target)):
        _scatter(axes, points.places[chosen], domain, DOMAIN_COLOURS[domain])
    _dress(axes, title)


def _scatter_classes(axes: Axes, points: Points, title: str, colours: Mapping[int, Any]) -> None:
    for number, colour in colours.items():
        for domain, chosen in (("source", ~points.is_target), ("target", points.is_target)):
            _scatter(axes, points.places[chosen & (points.labels == number)], domain, colour)
    _dress(axes, title)


def _number_classes(axes: Axes, points: Points) -> None:
    for number in np.unique(points.labels):
        middle = np.median(points.places[points.labels == number], axis=0)
        above = axes.annotate(str(number), middle, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
        above.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _scatter(axes: Axes, places: NDArray[np.float32], domain: str, colour: Any) -> None:
    axes.scatter(places[:, 0], places[:, 1], s=14, marker=MARKERS[domain], color=colour, alpha=0.7, linewidths=0.8)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _legend(figure: Figure, names: Sequence[str], colours: Sequence[Any], markers: Sequence[str]) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=m, color=c, markersize=6) for m, c in zip(markers, colours, strict=True)
    ]
    columns = 1 + len(names) // 36
    legend = figure.legend(
        handles, ["x"] * len(names), loc="outside right center", fontsize=8 if columns == 1 else 7, ncols=columns
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # set here: matplotlib < 3.10 leaves out a label that begins with _
        text.set_parse_math(False)
