"""Scores of predictions, the recovered gap, and the tests behind every verdict."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05

Array = NDArray[Any]


class Interval(NamedTuple):
    """A mean and its two-sided 95 % interval."""

    mean: float
    low: float
    high: float


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
    return Verdict(difference, p, _word(difference, p), "McNemar, one seed")


def verdict_over_seeds(accuracies: Sequence[float], lower: Sequence[float]) -> Verdict:
    """The exact two-sided sign-flip test on differences paired by seed; undecided from two to five seeds."""
    differences = np.asarray(accuracies) - np.asarray(lower)
    p = sign_flip(differences)
    return Verdict(
        float(differences.mean()), p, _word(float(differences.mean()), p), f"sign-flip, {len(differences)} seeds"
    )


def _word(difference: float, p: float) -> str:
    if p >= LEVEL or difference == 0:
        return "undecided"
    return "better" if difference > 0 else "worse"


def sign_flip(differences: Array) -> float:
    """Exact two-sided p: the share of all 2^n sign patterns whose |sum| is at least the observed one."""
    observed = abs(differences.sum()) - 1e-12
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    return float((np.abs(signs @ differences) >= observed).mean())


def t_interval(values: Sequence[float]) -> Interval:
    """Mean and Student 95 % interval; for one value the interval is not defined and is nan on both sides."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(1 - LEVEL / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)


class Gap(NamedTuple):
    """The recovered gap (accuracy - lower) / (upper - lower), or None and the reason."""

    value: float | None
    reason: str


def recovered_gap_of_one_seed(correct: Array, lower_correct: Array, upper_correct: Array) -> Gap:
    """Defined where the upper reference is clearly above the lower one (McNemar p < .05)."""
    lower, upper = lower_correct.mean(), upper_correct.mean()
    if upper <= lower or mcnemar(upper_correct, lower_correct) >= LEVEL:
        return Gap(None, "the upper reference is not clearly above the lower one")
    return Gap(float((correct.mean() - lower) / (upper - lower)), "")


def recovered_gap_over_seeds(
    accuracies: Sequence[float], lower: Sequence[float], upper: Sequence[float]
) -> Gap | Interval:
    """The ratio of means with Fieller's 95 % interval on paired seeds (Fieller 1954)."""
    gain = np.asarray(accuracies) - np.asarray(lower)
    room = np.asarray(upper) - np.asarray(lower)
    n = len(gain)
    if n < 2 or t_interval(list(room)).low <= 0:
        return Gap(None, "the upper reference is not clearly above the lower one")
    quantile = stats.t.ppf(1 - LEVEL / 2, n - 1) ** 2
    covariance = np.cov(np.stack([gain, room]), ddof=1) / n
    a = room.mean() ** 2 - quantile * covariance[1, 1]
    b = gain.mean() * room.mean() - quantile * covariance[0, 1]
    c = gain.mean() ** 2 - quantile * covariance[0, 0]
    root = np.sqrt(max(b * b - a * c, 0.0))
    return Interval(float(gain.mean() / room.mean()), float((b - root) / a), float((b + root) / a))
