"""Which classes a run won and lost against its lower reference, and what it gave up on the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dafw.diagnosis import plain
from dafw.errors import UsageError
from dafw.evaluation import mcnemar
from dafw.record import Record

Array = NDArray[Any]

MOST_CONFUSIONS = 5  # named in result.json on either side; the picture has all


def against(record: Record, lower: Record) -> dict[str, Any]:
    """Which classes a run won and lost against its lower reference, and what it gave up on the source.

    per_class: from the most helped class to the most harmed, with its exact McNemar p, adjusted for nothing.
    confusions: (true, predicted) pairs whose share of the true class grew or fell most. Classes without a target test
    example are left out. source: accuracies on source test, None where either has none.
    """
    classes = record.result["classes"]
    labels, predicted, before = matched(record.predictions(), lower.predictions())
    per_class = []
    for number in np.unique(labels):
        own = labels == number
        right, right_before = predicted[own] == number, before[own] == number
        per_class.append(
            {
                "class": classes[number],
                "examples": int(own.sum()),
                "accuracy": float(right.mean()),
                "lower": float(right_before.mean()),
                "change": float(right.mean() - right_before.mean()),
                "p": mcnemar(right, right_before),
            }
        )
    difference = confusion(labels, predicted, len(classes)) - confusion(labels, before, len(classes))
    found = {
        "per_class": sorted(per_class, key=lambda row: -row["change"]),
        "confusions": {
            "grown": _largest(difference, classes),
            "fallen": _largest(-difference, classes),
        },
        "source": None,
    }
    own_source, lower_source = record.result["source"], lower.result["source"]
    if own_source is not None and lower_source is not None:
        change = own_source["accuracy"] - lower_source["accuracy"]
        found["source"] = {"accuracy": own_source["accuracy"], "lower": lower_source["accuracy"], "change": change}
    return plain(found)  # type: ignore[no-any-return]


def matched(first: dict[str, Array], second: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Labels, and the predictions of two runs, (N,) each, in the order of the split: rows are matched by `index`."""
    one, two = (np.argsort(saved["index"]) for saved in (first, second))
    if not np.array_equal(first["index"][one], second["index"][two]):
        raise UsageError(
            f"two runs that answered different examples ({len(one)} and {len(two)}) cannot be compared class by class; "
            "expected runs on one target test split, as with reuse=false"
        )
    return first["labels"][one], first["predicted"][one], second["predicted"][two]


def confusion(labels: Array, predicted: Array, classes: int) -> Array:
    """(C, C): row t, column p is the share of class t that is taken for p; a class without an example is a row of 0."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    shares: Array = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def _largest(difference: Array, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most grown entries off the diagonal."""
    grown = np.where(np.eye(len(classes), dtype=bool), 0, difference)
    order = np.argsort(-grown, axis=None, kind="stable")[:MOST_CONFUSIONS]
    return [
        {"true": classes[t], "predicted": classes[p], "share": float(grown[t, p])}
        for t, p in zip(*np.unravel_index(order, grown.shape), strict=True)
        if grown[t, p] > 0
    ]
