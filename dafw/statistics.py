"""What several seeds say of a method, of two methods, and of many over several pairs of domains.

Every interval is two-sided, 95 %. A value that is None or nan was not measured: it is left out with its seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dafw.evaluation import LEVEL, NO_ROOM, Gap, Verdict, verdict_word

Array = NDArray[Any]
Value = float | None

EXACT_SEEDS = 20  # 2^19 sums of half the sign patterns take 4 MB and some 10 ms
RANDOM_PATTERNS = 99_999
DECIMALS = 12  # accuracies that differ by less than this are equal: the rest is rounding


class Interval(NamedTuple):
    """A mean and its two-sided 95 % interval; low and high are nan where fewer than two values give none."""

    mean: float
    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether there is an interval; without one, only the mean may be shown."""
        return not (math.isnan(self.low) or math.isnan(self.high))


class Common(NamedTuple):
    """What several runs measured on the seeds that all of them have.

    values: a tuple a mapping, in the order of `seeds`; left_out: the seeds that some mapping lacks
    """

    seeds: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    left_out: tuple[int, ...]


class PairedDifference(NamedTuple):
    """The first method minus the second, paired by seed.

    p, verdict, test: as in `Verdict`; seeds: both have them; only_first, only_second: left out, for one has them alone
    """

    difference: Interval
    p: float
    verdict: str
    test: str
    seeds: tuple[int, ...]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]


class Across(NamedTuple):
    """Methods over the pairs of domains that all of them were run on.

    average_rank: 1 is the best; wilcoxon: (method, method, p, p adjusted by Holm); left_out: pairs that a method lacks
    reason: why there is no test, or why no test of these could decide; "" otherwise
    """

    pairs: tuple[str, ...]
    left_out: tuple[str, ...]
    average_rank: dict[str, float]
    wilcoxon: tuple[tuple[str, str, float, float], ...]
    reason: str


def measured(values: Sequence[Value]) -> list[float]:
    """The values that are numbers."""
    return [float(value) for value in values if value is not None and not math.isnan(value)]


def in_common(*by_seed: Mapping[int, Value]) -> Common:
    """The seeds that every mapping (seed to value) has a number for, ascending, and the numbers."""
    having = [{seed for seed, value in values.items() if measured([value])} for values in by_seed]
    seeds = tuple(sorted(set.intersection(*having)))
    left_out = tuple(sorted({seed for values in by_seed for seed in values} - set(seeds)))
    return Common(seeds, tuple(tuple(measured([values[s] for s in seeds])) for values in by_seed), left_out)


def deviation(values: Sequence[Value]) -> float | None:
    """Standard deviation over seeds (divisor n - 1); None where fewer than two were measured."""
    numbers = measured(values)
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def t_interval(values: Sequence[Value]) -> Interval:
    """Mean and Student's interval. One value has no interval (low and high are nan); none has no mean either."""
    numbers = measured(values)
    if not numbers:
        return Interval(math.nan, math.nan, math.nan)
    mean, spread = float(np.mean(numbers)), deviation(numbers)
    if spread is None:
        return Interval(mean, math.nan, math.nan)
    half = _quantile(len(numbers)) * spread / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half)


def _quantile(count: int) -> float:
    """Student's t for a two-sided interval of `count` values."""
    return float(stats.t.ppf(1 - LEVEL / 2, count - 1))


# ---- two methods


def sign_flip(differences: Sequence[float] | Array) -> float:
    """Two-sided p: the share of all 2^n sign patterns whose |sum| is at least the observed one (Fisher 1935, § 21).

    Exact for up to `EXACT_SEEDS` differences. Of more, `RANDOM_PATTERNS` patterns are drawn by a fixed generator, and
    p = (1 + as extreme) / (1 + drawn), which is valid too (Phipson and Smyth 2010). No difference: 1.
    """
    array = np.asarray(differences, dtype=float)
    if not len(array):
        return 1.0
    # sums that are equal on paper differ by rounding
    limit = abs(array.sum()) - 1e-9 * np.abs(array).sum()
    if len(array) > EXACT_SEEDS:
        return _sign_flip_by_drawing(array, limit)
    sums = array[:1]  # a pattern and its opposite have the same |sum|: the first sign stays
    for value in array[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float((np.abs(sums) >= limit).mean())


def _sign_flip_by_drawing(differences: Array, limit: float) -> float:
    def is_extreme(sample: Array, axis: int) -> Array:
        return (np.abs(sample.sum(axis=axis)) >= limit).astype(float)

    drawn = stats.permutation_test(
        (differences,),
        is_extreme,
        permutation_type="samples",
        alternative="greater",
        n_resamples=RANDOM_PATTERNS,
        batch=10_000,
        random_state=np.random.default_rng(0),
    )
    return float(drawn.pvalue)


def verdict_over_seeds(accuracies: Sequence[float], lower: Sequence[float]) -> Verdict:
    """The two-sided sign-flip test on differences paired by seed, which come in the same order.

    Undecided from two to five seeds, as the smallest p is .0625 at five (.03125 at six). One seed is for
    `evaluation.verdict_of_one_seed`; here it is undecided. Raises ValueError where the counts differ.
    """
    differences = [a - b for a, b in zip(accuracies, lower, strict=True)]
    mean, p = float(np.mean(differences)), sign_flip(differences)
    return Verdict(mean, p, verdict_word(mean, p), _name_of_test(len(differences)))


def _name_of_test(seeds: int) -> str:
    drawn = f", {RANDOM_PATTERNS:,} random patterns" if seeds > EXACT_SEEDS else ""
    return f"sign-flip, {seeds} seed{'s' if seeds > 1 else ''}{drawn}"


def paired_difference(first: Mapping[int, Value], second: Mapping[int, Value]) -> PairedDifference:
    """Two methods by their accuracies (seed to fraction): interval, sign-flip p and verdict on the seeds of both.

    Without a seed in common the difference is nan, p is 1, the verdict "undecided", and `test` says why.
    """
    both = in_common(first, second)
    ours, theirs = both.values
    only_first, only_second = (tuple(s for s in both.left_out if s in values) for values in (first, second))
    difference = t_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    if not both.seeds:
        return PairedDifference(difference, 1.0, "undecided", "no seed in common", (), only_first, only_second)
    judged = verdict_over_seeds(ours, theirs)
    return PairedDifference(difference, judged.p, judged.verdict, judged.test, both.seeds, only_first, only_second)


def probability_of_improvement(first: Sequence[Value], second: Sequence[Value]) -> float | None:
    """P(a run of the first method beats a run of the second) + half P(tie), over all pairs of runs.

    The Mann-Whitney statistic U / (N K) of Agarwal et al. 2021 (NeurIPS, section 4.3): unpaired, for it speaks of a new
    run of each method; what a seed does to both is in `paired_difference`. None where a side has no run. It comes
    without an interval: the paper's percentile bootstrap has zero width where every run of one beats every run of the
    other, which is the rule at a handful of seeds.
    """
    ours, theirs = (np.round(measured(values), DECIMALS) for values in (first, second))
    if not len(ours) or not len(theirs):
        return None
    wins, ties = ours[:, None] > theirs, ours[:, None] == theirs
    return float((wins + 0.5 * ties).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of several claims, in their order (Holm 1979, Scandinavian Journal of Statistics 6).

    The i-th smallest of m is multiplied by m - i + 1, capped at 1, and never below a smaller one's.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * np.asarray(p_values, dtype=float)[order]))
    return [float(p) for p in adjusted]


# ---- many methods over many pairs


def across_pairs(accuracies: Mapping[str, Mapping[str, Value]]) -> Across:
    """Average ranks and Wilcoxon's tests with Holm (Demšar 2006, JMLR 7, sections 3.1.3 and 3.2), from
    method → pair → mean accuracy."""
    pairs = list(dict.fromkeys(pair for by_pair in accuracies.values() for pair in by_pair))
    shared = [pair for pair in pairs if all(measured([by_pair.get(pair)]) for by_pair in accuracies.values())]
    left_out = tuple(pair for pair in pairs if pair not in shared)
    if len(accuracies) < 2 or not shared:
        reason = "fewer than two methods" if len(accuracies) < 2 else "no pair that all methods were run on"
        return Across(tuple(shared), left_out, {}, (), reason)
    table = np.round([measured([by_pair[pair] for pair in shared]) for by_pair in accuracies.values()], DECIMALS)
    ranks = stats.rankdata(-table, axis=0).mean(axis=1)
    average_rank = {method: float(rank) for method, rank in zip(accuracies, ranks, strict=True)}
    claims = list(itertools.combinations(range(len(table)), 2))
    reason = cannot_decide("pair", len(shared), len(claims))
    if _smallest_p(len(shared)) >= LEVEL:
        return Across(tuple(shared), left_out, average_rank, (), reason)
    names, p_values = list(accuracies), [wilcoxon(table[i] - table[j]) for i, j in claims]
    tests = tuple(
        (names[i], names[j], p, adjusted) for (i, j), p, adjusted in zip(claims, p_values, holm(p_values), strict=True)
    )
    return Across(tuple(shared), left_out, average_rank, tests, reason)


def wilcoxon(differences: Sequence[float] | Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (Wilcoxon 1945), differences of 0 left out.

    It is the sign-flip test on signed ranks, which is exact with ties as well; scipy's exact p is for none.
    """
    array = np.round(np.asarray(differences, dtype=float), DECIMALS)
    array = array[array != 0]
    return sign_flip(np.sign(array) * stats.rankdata(np.abs(array)))


def _smallest_p(count: int) -> float:
    return 2.0 ** (1 - count)


def cannot_decide(unit: str, count: int, claims: int) -> str:
    """Why so many pairs or seeds cannot bring the smallest of so many adjusted p under .05, or "".

    unit: "pair" or "seed". The smallest p of a signed-rank test on pairs is that of a sign-flip test on seeds.
    """
    smallest = min(1.0, claims * _smallest_p(count))
    if smallest < LEVEL:
        return ""
    needed = next(n for n in itertools.count(count) if claims * _smallest_p(n) < LEVEL)
    comparisons = f"{claims} comparison{'s' if claims > 1 else ''}"
    least = f"where p is at least {smallest:.2g} for {comparisons}"
    return f"too few {unit}s: {count}, {least}; {needed} {unit}s could decide"


# ---- the recovered gap


def recovered_gap_over_seeds(
    accuracies: Sequence[Value], lower: Sequence[Value], upper: Sequence[Value]
) -> Gap | Interval:
    """The ratio of mean gain to mean room with Fieller's interval, paired by seed (Fieller 1954, JRSS B 16, 175-185).

    With gain g = accuracy - lower and room r = upper - lower it is every ratio q for which Student's interval of the
    mean of g - q r holds 0. A `Gap` without value says why there is none. Raises ValueError where the counts differ.
    """
    triples = [t for t in zip(accuracies, lower, upper, strict=True) if len(measured(t)) == 3]
    if len(triples) < 2:
        return Gap(None, "fewer than two seeds have both references")
    values, low, high = np.array(triples, dtype=float).T
    gain, room = values - low, high - low
    if t_interval(list(room)).low <= 0:
        return Gap(None, NO_ROOM)
    ratio = float(gain.mean() / room.mean())
    # Around the ratio the quadratic's discriminant is a sum of squares, so that rounding cannot make it negative.
    scale = _quantile(len(triples)) ** 2 / len(triples)
    (_, cross), (_, room_variance) = scale * np.cov(gain - ratio * room, room, ddof=1)
    residual_variance = scale * np.var(gain - ratio * room, ddof=1)
    leading = room.mean() ** 2 - room_variance
    root = math.sqrt(cross**2 + leading * residual_variance)
    return Interval(ratio, float(ratio - (cross + root) / leading), float(ratio + (root - cross) / leading))
