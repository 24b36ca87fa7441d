"""Scores against scikit-learn; tests and intervals against sums, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, recall_score

from dafw.evaluation import (
    Gap,
    Interval,
    mcnemar,
    recovered_gap_of_one_seed,
    recovered_gap_over_seeds,
    scores,
    sign_flip,
    t_interval,
    verdict_of_one_seed,
    verdict_over_seeds,
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


# ---- several seeds


def by_brute_force(differences: list[float]) -> float:
    observed = abs(sum(differences))
    hits = total = 0
    for signs in itertools.product((1, -1), repeat=len(differences)):
        total += 1
        hits += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed - 1e-12
    return hits / total


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8])
def test_sign_flip_is_all_patterns_of_signs(count):
    random = np.random.default_rng(count)
    for differences in (random.normal(0.02, 0.03, count), np.round(random.normal(0, 0.02, count), 2), np.zeros(count)):
        assert sign_flip(differences) == pytest.approx(by_brute_force([*differences]))
        assert sign_flip(-differences) == sign_flip(differences)


@pytest.mark.parametrize(("count", "p"), [(2, 0.5), (3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
def test_the_smallest_p_of_so_many_seeds(count, p):
    assert sign_flip(np.linspace(0.1, 0.2, count)) == p


def test_differences_that_are_all_zero_decide_nothing():
    assert sign_flip(np.zeros(6)) == 1.0
    assert verdict_over_seeds([0.5] * 6, [0.5] * 6).verdict == "undecided"


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_two_to_five_seeds_decide_nothing_however_large_the_difference(count, sign):
    judged = verdict_over_seeds([0.5 + sign * 0.4 + 0.001 * i for i in range(count)], [0.5] * count)
    assert judged.verdict == "undecided"
    assert judged.p == 2 / 2**count
    assert judged.test == f"sign-flip, {count} seeds"


def test_six_seeds_can_decide():
    lower = [0.5, 0.51, 0.49, 0.5, 0.52, 0.48]
    better = verdict_over_seeds([x + 0.1 for x in lower], lower)
    assert (better.verdict, better.p, better.difference) == ("better", 0.03125, pytest.approx(0.1))
    worse = verdict_over_seeds([x - 0.1 for x in lower], lower)
    assert (worse.verdict, worse.difference) == ("worse", pytest.approx(-0.1))
    mixed = verdict_over_seeds([x + d for x, d in zip(lower, [0.1, 0.1, 0.1, 0.1, 0.1, -0.05], strict=True)], lower)
    assert mixed.verdict == "undecided"


def test_seeds_are_paired_by_their_order():
    lower = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert verdict_over_seeds([x + 0.01 for x in lower], lower).verdict == "better"
    assert verdict_over_seeds([x + 0.01 for x in lower[::-1]], lower).verdict == "undecided"


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(0.7, 0.05, count)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert t_interval([*values]) == pytest.approx((values.mean(), low, high))


def test_one_value_has_no_interval():
    mean, low, high = t_interval([0.7])
    assert mean == 0.7
    assert math.isnan(low)
    assert math.isnan(high)


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


@pytest.mark.parametrize(
    ("accuracies", "lower", "upper"),
    [
        ([0.7], [0.6], [0.9]),  # one seed
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.5, 0.5, 0.5]),  # upper below lower
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.6, 0.6, 0.6]),  # no room
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.9, 0.55, 0.62]),  # above on the mean, but not clearly
    ],
)
def test_the_gap_over_seeds_is_undefined_where_there_is_no_room(accuracies, lower, upper):
    gap = recovered_gap_over_seeds(accuracies, lower, upper)
    assert gap == Gap(None, "the upper reference is not clearly above the lower one")


def studies(seeds: int, count: int, gap: float = 0.6) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Made studies: accuracies, lower and upper references of each seed, whose means lie `gap` of the way."""
    random = np.random.default_rng(seeds)
    found = []
    for _ in range(count):
        luck = random.normal(0, 0.01, seeds)  # of a seed, shared by its runs
        lower = 0.5 + luck + random.normal(0, 0.01, seeds)
        upper = 0.9 + luck + random.normal(0, 0.01, seeds)
        accuracies = 0.5 + 0.4 * gap + luck + random.normal(0, 0.02, seeds)
        found.append((accuracies, lower, upper))
    return found


@pytest.mark.parametrize("seeds", [3, 6, 10])
def test_fiellers_interval_covers_the_true_gap_in_95_of_100_studies(seeds):
    covered = []
    for study in studies(seeds, 2000):
        interval = recovered_gap_over_seeds(*study)
        assert isinstance(interval, Interval)
        assert interval.low <= interval.mean <= interval.high
        covered.append(interval.low <= 0.6 <= interval.high)
    assert abs(np.mean(covered) - 0.95) < 0.02


def test_the_gap_over_seeds_is_the_ratio_of_means_and_pairs_by_seed():
    accuracies, lower, upper = studies(6, 1)[0]
    interval = recovered_gap_over_seeds(accuracies, lower, upper)
    assert interval.mean == pytest.approx((accuracies.mean() - lower.mean()) / (upper.mean() - lower.mean()))
    other = recovered_gap_over_seeds(accuracies, np.roll(lower, 1), upper)
    assert other.mean == pytest.approx(interval.mean)
    assert other.high - other.low != pytest.approx(interval.high - interval.low, rel=0.01)


def test_fieller_is_the_delta_method_where_the_room_is_large_and_known():
    accuracies, lower, upper = studies(200, 1)[0]
    interval = recovered_gap_over_seeds(accuracies, lower, upper)
    gain, room = accuracies - lower, upper - lower
    ratio = gain.mean() / room.mean()
    linear = (gain - ratio * room) / room.mean()  # the influence of each seed on the ratio
    half = stats.t.ppf(0.975, 199) * linear.std(ddof=1) / math.sqrt(200)
    assert interval == pytest.approx((ratio, ratio - half, ratio + half), rel=1e-3)


def test_without_spread_the_interval_is_the_ratio():
    interval = recovered_gap_over_seeds([0.7, 0.71, 0.72], [0.6, 0.61, 0.62], [0.8, 0.81, 0.82])
    assert interval == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)
