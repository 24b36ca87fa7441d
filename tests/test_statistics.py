"""Tests and intervals over seeds and over pairs, against brute force, scipy and worked examples."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dafw.statistics import (
    RANDOM_PATTERNS,
    across_pairs,
    deviation,
    holm,
    in_common,
    measured,
    paired_difference,
    probability_of_improvement,
    sign_flip,
    t_interval,
    verdict_over_seeds,
    wilcoxon,
)

NAN = float("nan")

# ---- one method


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(0.7, 0.05, count)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    interval = t_interval([*values])
    assert interval == pytest.approx((values.mean(), low, high))
    assert interval.defined
    assert deviation([*values]) == pytest.approx(values.std(ddof=1))


def test_one_value_has_no_interval():
    interval = t_interval([0.7])
    assert interval.mean == 0.7
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.defined
    assert deviation([0.7]) is None


def test_what_was_not_measured_is_left_out():
    assert measured([0.5, None, NAN, 0.7]) == [0.5, 0.7]
    assert t_interval([0.5, None, NAN, 0.7]) == t_interval([0.5, 0.7])
    assert deviation([0.5, None, NAN, 0.7]) == deviation([0.5, 0.7])
    for nothing in ([], [None], [NAN, None]):
        assert math.isnan(t_interval(nothing).mean)
        assert not t_interval(nothing).defined
        assert deviation(nothing) is None


# ---- the sign-flip test


def by_brute_force(differences: list[float]) -> float:
    observed = abs(sum(differences))
    hits = total = 0
    for signs in itertools.product((1, -1), repeat=len(differences)):
        total += 1
        hits += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed - 1e-12
    return hits / total


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 13])
def test_sign_flip_is_all_patterns_of_signs(count):
    random = np.random.default_rng(count)
    for differences in (random.normal(0.02, 0.03, count), np.round(random.normal(0, 0.02, count), 2), np.zeros(count)):
        assert sign_flip(differences) == pytest.approx(by_brute_force([*differences]))
        assert sign_flip(-differences) == sign_flip(differences)
        assert sign_flip(100 * differences) == sign_flip(differences)


@pytest.mark.parametrize(
    ("count", "p"),
    [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (10, 2 / 1024), (20, 2 / 2**20)],
)
def test_the_smallest_p_of_so_many_seeds(count, p):
    assert sign_flip(np.linspace(0.1, 0.2, count)) == p


def test_equal_sums_count_although_they_are_rounded():
    assert sign_flip([0.1, 0.2, -0.3, 0.0]) == 1.0  # 0.1 + 0.2 - 0.3 is 5e-17, and so is |sum| of other patterns 0
    assert sign_flip([0.3, 0.1, 0.2, -0.6]) == 1.0


def test_no_difference_decides_nothing():
    assert sign_flip([]) == 1.0
    assert sign_flip(np.zeros(6)) == 1.0
    assert sign_flip(np.zeros(25)) == 1.0
    assert verdict_over_seeds([0.5] * 6, [0.5] * 6).verdict == "undecided"


def test_beyond_twenty_seeds_patterns_are_drawn_and_it_says_so():
    differences = np.random.default_rng(0).normal(0.35, 1, 24)
    sums = differences[:1]
    for value in differences[1:]:
        sums = np.concatenate([sums + value, sums - value])
    exact = float((np.abs(sums) >= abs(differences.sum()) - 1e-9).mean())
    drawn = sign_flip(differences)
    assert 0.02 < exact < 0.6
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact / RANDOM_PATTERNS))
    assert drawn == sign_flip(differences)
    assert sign_flip(np.full(24, 0.1)) == pytest.approx(1 / (RANDOM_PATTERNS + 1), rel=1e-9)
    judged = verdict_over_seeds([*differences], [0.0] * 24)
    assert judged.test == "sign-flip, 24 seeds, 99,999 random patterns"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_up_to_five_seeds_decide_nothing_however_large_the_difference(count, sign):
    judged = verdict_over_seeds([0.5 + sign * 0.4 + 0.001 * i for i in range(count)], [0.5] * count)
    assert judged.verdict == "undecided"
    assert judged.p == 2 / 2**count
    assert judged.test == f"sign-flip, {count} seed{'s' if count > 1 else ''}"


def test_six_seeds_can_decide():
    lower = [0.5, 0.51, 0.49, 0.5, 0.52, 0.48]
    better = verdict_over_seeds([x + 0.1 for x in lower], lower)
    assert (better.verdict, better.p, better.difference) == ("better", 0.03125, pytest.approx(0.1))
    worse = verdict_over_seeds([x - 0.1 for x in lower], lower)
    assert (worse.verdict, worse.difference) == ("worse", pytest.approx(-0.1))
    mixed = verdict_over_seeds([x + d for x, d in zip(lower, [0.1, 0.1, 0.1, 0.1, 0.1, -0.05], strict=True)], lower)
    assert mixed.verdict == "undecided"


def test_sequences_are_paired_by_their_order_and_of_equal_length():
    lower = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert verdict_over_seeds([x + 0.01 for x in lower], lower).verdict == "better"
    assert verdict_over_seeds([x + 0.01 for x in lower[::-1]], lower).verdict == "undecided"
    with pytest.raises(ValueError, match="shorter"):
        verdict_over_seeds(lower, lower[:5])


# ---- two methods


def test_only_the_seeds_of_all_are_compared():
    common = in_common({3: 0.3, 1: 0.1, 2: 0.2, 9: None}, {1: 0.4, 3: 0.6, 4: 0.7, 9: 0.1}, {1: 0.0, 3: 1.0, 2: NAN})
    assert common == ((1, 3), ((0.1, 0.3), (0.4, 0.6), (0.0, 1.0)), (2, 4, 9))


def test_the_difference_is_of_the_seeds_both_have_and_the_rest_is_reported():
    first = {0: 0.71, 1: 0.74, 2: 0.70, 3: 0.9, 7: None}
    second = {5: 0.1, 2: 0.66, 0: 0.69, 1: 0.70, 7: 0.5}
    got = paired_difference(first, second)
    assert got.seeds == (0, 1, 2)
    assert (got.only_first, got.only_second) == ((3, 7), (5, 7))
    scipys = stats.ttest_rel([0.71, 0.74, 0.70], [0.69, 0.70, 0.66])
    interval = scipys.confidence_interval(0.95)
    assert got.difference == pytest.approx((0.1 / 3, interval.low, interval.high))
    assert (got.p, got.verdict, got.test) == (0.25, "undecided", "sign-flip, 3 seeds")


def test_six_common_seeds_give_a_verdict_that_turns_with_the_sides():
    lower = dict(enumerate([0.5, 0.51, 0.49, 0.5, 0.52, 0.48]))
    higher = {seed: value + 0.05 for seed, value in reversed(lower.items())}
    assert paired_difference(higher, lower).verdict == "better"
    assert paired_difference(lower, higher).verdict == "worse"
    assert paired_difference(lower, higher).difference.mean == pytest.approx(-0.05)


def test_without_a_common_seed_there_is_no_difference():
    got = paired_difference({0: 0.5}, {1: 0.6})
    assert not got.difference.defined
    assert (got.p, got.verdict, got.test, got.seeds) == (1.0, "undecided", "no seed in common", ())
    assert (got.only_first, got.only_second) == ((0,), (1,))


def test_probability_of_improvement_is_over_all_pairs_of_runs():
    first, second = [0.7, 0.8, 0.9, 0.5], [0.8, 0.6, 0.5]
    by_loops = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x in first for y in second) / 12
    assert probability_of_improvement(first, second) == pytest.approx(by_loops)
    assert probability_of_improvement(second, first) == pytest.approx(1 - by_loops)
    u = stats.mannwhitneyu(first, second).statistic
    assert probability_of_improvement(first, second) == pytest.approx(u / 12)


def test_probability_of_improvement_at_its_ends():
    assert probability_of_improvement([0.9, 0.8], [0.1, 0.2, 0.3]) == 1.0
    assert probability_of_improvement([0.1], [0.9]) == 0.0
    assert probability_of_improvement([0.1 + 0.2], [0.3]) == 0.5  # equal but for rounding
    assert probability_of_improvement([0.5, None], [0.5, NAN]) == 0.5
    assert probability_of_improvement([], [0.5]) is None
    assert probability_of_improvement([0.5], [None]) is None


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_rejects_what_stepping_down_rejects():
    random = np.random.default_rng(0)
    for _ in range(200):
        p_values = random.random(6) ** 3
        rejected = set()
        for step, i in enumerate(np.argsort(p_values)):
            if p_values[i] >= 0.05 / (6 - step):
                break
            rejected.add(int(i))
        adjusted = holm([*p_values])
        assert {i for i, p in enumerate(adjusted) if p < 0.05} == rejected
        assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))


# ---- many methods over many pairs


@pytest.mark.parametrize("count", [5, 6, 9, 14])
def test_wilcoxon_is_scipys_exact_p_where_there_are_no_ties(count):
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    assert wilcoxon(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_wilcoxon_with_ties_is_all_patterns_of_signed_ranks():
    differences = [0.1 + 0.2, 0.3, -0.3, 0.1, 0.5, 0.0, 0.5, 0.4]  # ranks 3, 3, 3, 1, 6.5, -, 6.5, 5
    assert wilcoxon(differences) == pytest.approx(by_brute_force([3, 3, -3, 1, 6.5, 6.5, 5]))
    assert wilcoxon([0.0] * 8) == 1.0


def test_wilcoxon_ranks_without_the_differences_of_0():
    assert by_brute_force([1, 2, 3, 4, -5]) != by_brute_force([5, 6, 7, 8, -9])
    assert wilcoxon([0.0, 0.1, 0.0, 0.2, 0.0, 0.3, 0.4, 0.0, -0.5]) == by_brute_force([1, 2, 3, 4, -5])


def accuracies(pairs: int) -> dict[str, dict[str, float | None]]:
    """Method a is best on every pair, b and c are equal on every second one."""
    names = [f"p{i}" for i in range(pairs)]
    return {
        "a": {name: 0.9 + 0.001 * i for i, name in enumerate(names)},
        "b": dict.fromkeys(names, 0.7),
        "c": {name: 0.7 if i % 2 else 0.5 for i, name in enumerate(names)},
    }


def test_average_ranks_share_ties_and_1_is_the_best():
    got = across_pairs(accuracies(4))
    assert got.average_rank == {"a": 1.0, "b": pytest.approx((2 + 2.5) / 2), "c": pytest.approx((3 + 2.5) / 2)}
    assert got.pairs == ("p0", "p1", "p2", "p3")


def test_all_pairs_of_methods_are_tested_and_adjusted_together():
    table = accuracies(9)
    got = across_pairs(table)
    assert [(first, second) for first, second, _, _ in got.wilcoxon] == [("a", "b"), ("a", "c"), ("b", "c")]
    p_values = [p for _, _, p, _ in got.wilcoxon]
    assert p_values == pytest.approx([2 / 2**9, 2 / 2**9, 2 / 2**5])
    assert [adjusted for *_, adjusted in got.wilcoxon] == pytest.approx(holm(p_values))
    assert got.reason == ""


def test_a_pair_that_a_method_lacks_is_left_out_and_named():
    table = accuracies(7)
    table["b"]["p2"] = None
    del table["c"]["p5"]
    table["a"]["extra"] = 0.5
    got = across_pairs(table)
    assert got.pairs == ("p0", "p1", "p3", "p4", "p6")
    assert got.left_out == ("p2", "p5", "extra")


def test_too_few_pairs_are_told():
    five = across_pairs(accuracies(5))
    assert five.wilcoxon == ()
    assert five.reason == "too few pairs: 5, where p is at least 0.19 for 3 comparisons; 7 pairs could decide"
    six = across_pairs(accuracies(6))  # tested, though Holm's smallest p is 3 x .03125
    assert len(six.wilcoxon) == 3
    assert six.reason == "too few pairs: 6, where p is at least 0.094 for 3 comparisons; 7 pairs could decide"
    assert min(adjusted for *_, adjusted in six.wilcoxon) == pytest.approx(0.09375)
    seven = across_pairs(accuracies(7))
    assert seven.reason == ""
    assert min(adjusted for *_, adjusted in seven.wilcoxon) < 0.05
    two = across_pairs({name: by_pair for name, by_pair in accuracies(6).items() if name != "c"})
    assert (two.reason, two.wilcoxon) == ("", (("a", "b", 0.03125, 0.03125),))


def test_nothing_to_compare_is_told():
    assert across_pairs({}).reason == "fewer than two methods"
    assert across_pairs({"a": {"p": 0.5}}).reason == "fewer than two methods"
    assert across_pairs({"a": {"p": 0.5}, "b": {"q": 0.5}}).reason == "no pair that all methods were run on"
