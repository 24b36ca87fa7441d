"""Scores against scikit-learn; the test and the gap of one seed against sums of binomial terms."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from dafw.evaluation import (
    Gap,
    mcnemar,
    recovered_gap_of_one_seed,
    scores,
    verdict_of_one_seed,
)


def right(count: int, of: int) -> np.ndarray:
    return np.arange(of) < count


# ---- scores


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    labels = random.choice(5, 200, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    predicted = np.where(random.random(200) < 0.6, labels, random.integers(0, 5, 200))
    got = scores(labels, predicted, 5)
    assert got == {
        "accuracy": pytest.approx(accuracy_score(labels, predicted), abs=1e-12),
        "macro_f1": pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12),
        "per_class_accuracy": pytest.approx(recall_score(labels, predicted, average="macro"), abs=1e-12),
        "examples": 200,
    }
    assert all(type(value) in (float, int) for value in got.values())  # JSON takes no NumPy scalars


def test_means_run_over_the_classes_that_have_examples():
    labels, predicted = np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 3])
    got = scores(labels, predicted, 5)
    assert got["per_class_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    present = [0, 2]
    assert got["macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=present, average="macro"))
    assert got["accuracy"] == pytest.approx(3 / 5)


def test_all_wrong_and_all_right():
    labels = np.array([0, 1, 2])
    zeros = scores(labels, np.array([1, 2, 0]), 3)
    assert (zeros["accuracy"], zeros["macro_f1"], zeros["per_class_accuracy"]) == (0, 0, 0)
    ones = scores(labels, labels, 3)
    assert (ones["accuracy"], ones["macro_f1"], ones["per_class_accuracy"]) == (1, 1, 1)


# ---- one seed


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (5, 0), (6, 0), (3, 3), (10, 3), (2, 14)])
def test_mcnemar_is_a_sum_of_binomial_terms(only_first, only_second):
    n = only_first + only_second
    first = np.array([1] * only_first + [0] * only_second + [1] * 7 + [0] * 4, dtype=bool)
    second = np.array([0] * only_first + [1] * only_second + [1] * 7 + [0] * 4, dtype=bool)
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_one_seed_is_judged_on_the_shared_examples():
    lower = right(50, 100)
    assert verdict_of_one_seed(right(70, 100), lower)._asdict() == {
        "difference": pytest.approx(0.2),
        "p": pytest.approx(2 / 2**20),
        "verdict": "better",
        "test": "McNemar, one seed",
    }
    worse = verdict_of_one_seed(right(30, 100), lower)
    assert (worse.difference, worse.verdict) == (pytest.approx(-0.2), "worse")
    assert verdict_of_one_seed(right(55, 100), lower).verdict == "undecided"  # p = 2/32
    assert verdict_of_one_seed(right(56, 100), lower).verdict == "better"  # p = 2/64
    same = verdict_of_one_seed(lower, lower)
    assert (same.difference, same.p, same.verdict) == (0.0, 1.0, "undecided")


# ---- the recovered gap


def test_the_gap_of_one_seed_is_the_share_of_the_way():
    gap = recovered_gap_of_one_seed(right(75, 100), right(60, 100), right(90, 100))
    assert gap == Gap(pytest.approx(0.5), "")
    assert recovered_gap_of_one_seed(right(40, 100), right(60, 100), right(90, 100)).value == pytest.approx(-2 / 3)
    assert recovered_gap_of_one_seed(right(96, 100), right(60, 100), right(90, 100)).value == pytest.approx(1.2)


@pytest.mark.parametrize("upper", [50, 60, 65])  # below, equal, and above by no more than chance
def test_the_gap_of_one_seed_is_undefined_where_there_is_no_room(upper):
    gap = recovered_gap_of_one_seed(right(64, 100), right(60, 100), right(upper, 100))
    assert gap == Gap(None, "the upper reference is not clearly above the lower one")
