"""The recovered gap over seeds: Fieller's interval, and where it is undefined."""

import math

import numpy as np
import pytest
from scipy import stats

from dafw.evaluation import Gap
from dafw.statistics import (
    Interval,
    recovered_gap_over_seeds,
    t_interval,
)

NAN = float("nan")

# ---- the recovered gap


NO_ROOM = Gap(None, "the upper reference is not clearly above the lower one")


@pytest.mark.parametrize(
    ("accuracies", "lower", "upper"),
    [
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.5, 0.5, 0.5]),  # upper below lower
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.6, 0.6, 0.6]),  # no room
        ([0.7] * 3, [0.6, 0.6, 0.6], [0.9, 0.55, 0.62]),  # above on the mean, but not clearly
    ],
)
def test_the_gap_is_undefined_where_there_is_no_room(accuracies, lower, upper):
    assert recovered_gap_over_seeds(accuracies, lower, upper) == NO_ROOM


@pytest.mark.parametrize(
    ("accuracies", "lower", "upper"),
    [([], [], []), ([0.7], [0.6], [0.9]), ([0.7, 0.7, NAN], [0.6, None, 0.6], [0.9, 0.9, 0.9])],
)
def test_the_gap_is_undefined_for_fewer_than_two_seeds(accuracies, lower, upper):
    gap = recovered_gap_over_seeds(accuracies, lower, upper)
    assert gap == Gap(None, "fewer than two seeds have both references")


def test_a_seed_that_lacks_a_part_is_left_out_of_the_gap():
    whole = recovered_gap_over_seeds([0.7, 0.72, 0.69], [0.5, 0.52, 0.51], [0.9, 0.93, 0.91])
    more = recovered_gap_over_seeds(
        [0.7, None, 0.72, 0.1, 0.69], [0.5, 0.1, 0.52, NAN, 0.51], [0.9, 0.9, 0.93, 0.2, 0.91]
    )
    assert isinstance(whole, Interval)
    assert more == whole
    with pytest.raises(ValueError, match="shorter"):
        recovered_gap_over_seeds([0.7, 0.7], [0.5, 0.5], [0.9])


def study(seeds: int, draw: int = 0) -> tuple[list[float], list[float], list[float]]:
    random = np.random.default_rng((seeds, draw))
    luck = random.normal(0, 0.01, seeds)
    means = (0.74, 0.5, 0.9)
    return tuple([*(mean + luck + random.normal(0, 0.02, seeds))] for mean in means)


@pytest.mark.parametrize("seeds", [2, 3, 6, 20])
def test_fiellers_interval_is_every_ratio_that_students_test_keeps(seeds):
    """The closed form against its definition: at both ends the interval of g - q r just touches 0."""
    accuracies, lower, upper = map(np.array, study(seeds))
    got = recovered_gap_over_seeds([*accuracies], [*lower], [*upper])
    assert isinstance(got, Interval)
    gain, room = accuracies - lower, upper - lower

    def holds_zero(ratio: float) -> bool:
        interval = t_interval([*(gain - ratio * room)])
        return interval.low <= 0 <= interval.high

    width = got.high - got.low
    for inside in np.linspace(got.low + 1e-6 * width, got.high - 1e-6 * width, 21):
        assert holds_zero(inside)
    for outside in (got.low - 1e-6 * width, got.high + 1e-6 * width, got.low - 9, got.high + 9):
        assert not holds_zero(outside)


def test_fiellers_interval_by_the_textbooks_quadratic():
    accuracies, lower, upper = map(np.array, study(6))
    gain, room = accuracies - lower, upper - lower
    factor = stats.t.ppf(0.975, 5) ** 2 / 6
    covariance = np.cov(gain, room)
    roots = np.roots(
        [
            room.mean() ** 2 - factor * covariance[1, 1],
            -2 * (gain.mean() * room.mean() - factor * covariance[0, 1]),
            gain.mean() ** 2 - factor * covariance[0, 0],
        ]
    )
    got = recovered_gap_over_seeds([*accuracies], [*lower], [*upper])
    assert got == pytest.approx((gain.mean() / room.mean(), min(roots), max(roots)))


def test_the_gap_is_the_ratio_of_means_and_pairs_by_seed():
    accuracies, lower, upper = study(6)
    interval = recovered_gap_over_seeds(accuracies, lower, upper)
    assert isinstance(interval, Interval)
    ratio = (np.mean(accuracies) - np.mean(lower)) / (np.mean(upper) - np.mean(lower))
    assert interval.mean == pytest.approx(ratio)
    other = recovered_gap_over_seeds(accuracies, [*np.roll(lower, 1)], upper)
    assert isinstance(other, Interval)
    assert other.mean == pytest.approx(interval.mean)
    assert other.high - other.low != pytest.approx(interval.high - interval.low, rel=0.01)


def test_fieller_is_the_delta_method_where_the_room_is_large_and_known():
    accuracies, lower, upper = map(np.array, study(200))
    interval = recovered_gap_over_seeds([*accuracies], [*lower], [*upper])
    gain, room = accuracies - lower, upper - lower
    ratio = gain.mean() / room.mean()
    linear = (gain - ratio * room) / room.mean()  # the influence of each seed on the ratio
    half = stats.t.ppf(0.975, 199) * linear.std(ddof=1) / math.sqrt(200)
    assert interval == pytest.approx((ratio, ratio - half, ratio + half), rel=1e-3)


def test_without_spread_the_interval_is_the_ratio():
    interval = recovered_gap_over_seeds([0.7, 0.71, 0.72], [0.6, 0.61, 0.62], [0.8, 0.81, 0.82])
    assert interval == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)
    lower = recovered_gap_over_seeds([0.6, 0.61, 0.62], [0.6, 0.61, 0.62], [0.8, 0.81, 0.82])
    assert lower == pytest.approx((0, 0, 0), abs=1e-6)


def test_the_gap_is_a_finite_interval_or_a_reason_never_nan():
    random = np.random.default_rng(0)
    kinds = set()
    for _ in range(500):
        count = int(random.integers(2, 5))
        triple = [[*np.round(random.normal(0.6 + 0.1 * i, 0.08, count), int(random.integers(1, 4)))] for i in range(3)]
        gap = recovered_gap_over_seeds(*triple)
        kinds.add(type(gap))
        if isinstance(gap, Interval):
            assert all(map(math.isfinite, gap))
            assert gap.low <= gap.mean <= gap.high
        else:
            assert gap == NO_ROOM
    assert kinds == {Interval, Gap}
