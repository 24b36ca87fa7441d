"""Scores of predictions, and what one run says against its references; `statistics` says it over seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
NO_ROOM = "the upper reference is not clearly above the lower one"

Array = NDArray[Any]


class Verdict(NamedTuple):
    """difference of accuracies, p of the test named, and "better", "worse" or "undecided"."""

    difference: float
    p: float
    verdict: str
    test: str


def scores(labels: Array, predicted: Array, classes: int) -> dict[str, Any]:
    """Accuracy, mean per-class accuracy and macro-F1 of predictions (N,), as fractions; the count of examples.

    Means over classes run over the classes that have test examples.
    """
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits, present, claimed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    has = present > 0
    return {
        "accuracy": float(hits.sum() / len(labels)),
        "macro_f1": float((2 * hits[has] / (present + claimed)[has]).mean()),
        "per_class_accuracy": float((hits[has] / present[has]).mean()),
        "examples": len(labels),
    }


def mcnemar(first_correct: Array, second_correct: Array) -> float:
    """Exact two-sided McNemar p of two classifiers on the same examples (Dietterich 1998, section 3.1)."""
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((~first_correct & second_correct).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def verdict_of_one_seed(correct: Array, lower_correct: Array) -> Verdict:
    """McNemar on the shared test predictions: about these two networks only, not about the methods."""
    difference = float(correct.mean() - lower_correct.mean())
    p = mcnemar(correct, lower_correct)
    return Verdict(difference, p, verdict_word(difference, p), "McNemar, one seed")


def verdict_word(difference: float, p: float) -> str:
    """ "better" or "worse" where p < .05, else "undecided"."""
    if p >= LEVEL or difference == 0:
        return "undecided"
    return "better" if difference > 0 else "worse"


class Gap(NamedTuple):
    """The recovered gap (accuracy - lower) / (upper - lower), or None and the reason."""

    value: float | None
    reason: str


def recovered_gap_of_one_seed(correct: Array, lower_correct: Array, upper_correct: Array) -> Gap:
    """Defined where the upper reference is clearly above the lower one (McNemar p < .05)."""
    lower, upper = lower_correct.mean(), upper_correct.mean()
    if upper <= lower or mcnemar(upper_correct, lower_correct) >= LEVEL:
        return Gap(None, NO_ROOM)
    return Gap(float((correct.mean() - lower) / (upper - lower)), "")
