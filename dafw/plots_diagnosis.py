"""The pictures of a diagnosis: calibration beside entropies, and the classes won and lost; each writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dafw.plots import DOMAIN_COLOURS, PALETTE, blank, name_matrix, save, short

# Okabe and Ito's bluish green and reddish purple: colour-blind safe, and not the colours of the domains
CHANGE_COLOURS = {"helped": "#009E73", "harmed": "#CC79A7", "unchanged": "#94a4a2"}
BEFORE, AFTER = PALETTE[4], PALETTE[1]
MOST_CLASSES = 80  # beyond that only some of the classes are named
LEAST_SCALE = 0.05  # of the confusion difference: smaller changes look as small as they are


def calibration(found: Mapping[str, Any], path: Path) -> Path:
    """Reliability before and after temperature scaling, confidences and entropies, of what `diagnosis.of_run` found."""
    return save(calibration_figure(found), path)


def changes(found: Mapping[str, Any], difference: Any, classes: Sequence[str], path: Path) -> Path:
    """Accuracy of each class against the lower reference, beside the difference of their confusion matrices.

    found: of `class_changes.against`. difference (C, C): this run's `class_changes.confusion` minus the reference's.
    """
    return save(changes_figure(found, difference, classes), path)


# ---- calibration


def calibration_figure(found: Mapping[str, Any]) -> Figure:
    figure = blank(11, 4.8)
    panels: dict[str, Axes] = figure.subplot_mosaic([["curve", "entropy"], ["counts", "entropy"]], height_ratios=[3, 1])
    _reliability(panels["curve"], panels["counts"], found["calibration"])
    _entropies(panels["entropy"], found["entropy"])
    return figure


def _reliability(curve: Axes, counts: Axes, found: Mapping[str, Any]) -> None:
    """The curve of the bins that have examples, above how many there are."""
    curve.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    temperature = found["temperature"]
    end = ", the search's end" if found["at_bound"] else ""
    for name, label, colour, style in (
        ("before", "as it is", BEFORE, "-"),
        ("after", f"temperature {temperature:.2f}{end}" if temperature else "", AFTER, "--"),
    ):
        if found[name] is None:
            continue
        bins = {key: np.array(values, dtype=float) for key, values in found[name]["bins"].items()}
        full = bins["count"] > 0
        label = f"{label}: ECE {_number(found[name]['ece'])}, NLL {_number(found[name]['nll'])}"
        curve.plot(bins["confidence"][full], bins["accuracy"][full], style, color=colour, label=label, linewidth=1)
        area = 10 + 110 * bins["count"][full] / bins["count"].max()  # a bin of one example should not catch the eye
        curve.scatter(bins["confidence"][full], bins["accuracy"][full], s=area, color=colour, alpha=0.8, clip_on=False)
        edges = np.linspace(0, 1, len(full) + 1)
        counts.stairs(bins["count"], edges, color=colour, linestyle=style, fill=name == "before", alpha=0.8)
    _crown(curve, "reliability on target test")
    curve.set_ylabel("accuracy")
    curve.set_ylim(-0.02, 1.02)
    counts.set_xlabel("confidence")
    counts.set_ylabel("examples")
    for axes in (curve, counts):
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.3)
    curve.set_xticklabels([])


def _entropies(axes: Axes, found: Mapping[str, Any]) -> None:
    """The shares of either domain's test examples; their scales would differ as their counts do."""
    for name in ("source", "target"):
        if found[name] is None:
            continue
        shares = np.array(found[name]) / max(sum(found[name]), 1)
        label = f"{name} test: mean {_number(found[f'{name}_mean'])}"
        axes.stairs(shares, found["edges"], color=DOMAIN_COLOURS[name], fill=True, alpha=0.35)
        axes.stairs(shares, found["edges"], color=DOMAIN_COLOURS[name], linewidth=1.5, label=label)
    axes.set_xlabel(f"nats, of at most {found['edges'][-1]:.2f}")
    axes.set_ylabel("fraction of the domain's examples")
    axes.set_xlim(0, found["edges"][-1])
    axes.grid(alpha=0.3)
    _crown(axes, "entropy of the predictions")


def _crown(axes: Axes, title: str) -> None:
    """Title, and the legend below it: inside it would hide what is drawn."""
    axes.set_title(title, fontsize=11, pad=36)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


# ---- classes won and lost


def changes_figure(found: Mapping[str, Any], difference: Any, classes: Sequence[str]) -> Figure:
    side = min(max(4.5, 2.2 + 0.3 * len(classes)), 13.0)
    figure = blank(5 + 1.15 * side, side)
    bars, matrix = figure.subplots(1, 2, width_ratios=[5, 1.15 * side])
    _bars(bars, found["per_class"])
    _difference(figure, matrix, np.asarray(difference), classes)
    return figure


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """A bar a class in points, the most helped on top; a star where McNemar's p of the class is below .05."""
    points = [100 * row["change"] for row in rows]
    words = ["helped" if value > 0 else "harmed" if value < 0 else "unchanged" for value in points]
    axes.barh(range(len(rows)), points, color=[CHANGE_COLOURS[word] for word in words], height=0.75)
    every = 1 + len(rows) // MOST_CLASSES
    font = 9 if len(rows) <= 20 else 7
    names = [f"{short(row['class'], 18)} ({row['examples']})" for row in rows[::every]]
    axes.set_yticks(range(0, len(rows), every), names, fontsize=font, parse_math=False)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    widest = max(map(abs, points), default=0) or 1
    axes.set_xlim(min([*points, 0]) - 0.3 * widest, max([*points, 0]) + 0.3 * widest)
    if every == 1:
        for place, (row, value) in enumerate(zip(rows, points, strict=True)):
            text = (f"{value:+.0f}" if value else "0") + ("*" if row["p"] < 0.05 else "")
            at, side = (4, "left") if value >= 0 else (-4, "right")
            axes.annotate(
                text, (value, place), xytext=(at, 0), textcoords="offset points", ha=side, va="center", fontsize=font
            )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("change of the class's accuracy, in points\n(* McNemar p < .05, adjusted for nothing)")
    axes.set_title("against the lower reference, by class (test examples)", fontsize=11, pad=24)
    handles = [Patch(color=CHANGE_COLOURS[word], label=f"{word}: {words.count(word)}") for word in CHANGE_COLOURS]
    axes.legend(handles=handles, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _difference(figure: Figure, axes: Axes, difference: NDArray[np.float64], classes: Sequence[str]) -> None:
    """Purple is what this run says more often than the lower reference: right on the diagonal, wrong elsewhere."""
    scale = max(float(np.abs(difference).max()), LEAST_SCALE)
    image = axes.imshow(difference, cmap="PuOr", vmin=-scale, vmax=scale)
    name_matrix(axes, classes)
    if len(classes) <= 15:
        for row, column in np.argwhere(np.abs(difference) >= 0.005):
            value = difference[row, column]
            colour = "white" if abs(value) > 0.7 * scale else "black"
            axes.text(column, row, f"{100 * value:+.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_title("confusion matrix minus the lower reference's", fontsize=11)
    figure.colorbar(image, ax=axes, label="change of the share of the true class", shrink=0.8, aspect=30)
