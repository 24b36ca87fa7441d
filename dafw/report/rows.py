"""A row of the leaderboard from the runs of one method, and how its checkpoints would have been selected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dafw.registry import VALIDATORS
from dafw.report.leaderboard import Comparison, Estimate, Row
from dafw.report.stale import Age
from dafw.selection import ORACLE, chosen, score_of
from dafw.setting import RULES
from dafw.statistics import (
    Gap,
    Interval,
    PairedDifference,
    deviation,
    in_common,
    measured,
    paired_difference,
    probability_of_improvement,
    recovered_gap_over_seeds,
    t_interval,
)

Result = Mapping[str, Any]
BySeed = dict[int, float]

CHEAP = {baseline.method for rule in RULES.values() for baseline in rule.baselines}


def accuracy_of(result: Result) -> float:
    """On target test, a fraction."""
    return float(result["target"]["accuracy"])


def row_of(results: Sequence[Result], baseline: tuple[str, BySeed] | None, age_of: Callable[[Result], Age]) -> Row:
    """The row of the runs of one method with one set of hyper-parameters, one a seed, ascending.

    baseline: the name and the accuracies, seed to fraction, of the best cheap baseline of the group
    """
    first = results[0]
    accuracies = by_seed(results)
    selected, regrets, correlations = selection(results)
    gap, reason = recovered_gap(results)
    ages = [age_of(result) for result in results]
    bounds = measured([(result.get("bound") or {}).get("accuracy") for result in results])
    return Row(
        method=first["method"],
        setting=first["setting"],
        hyperparameters=" ".join(words(first)),
        seeds=tuple(accuracies),
        accuracies=tuple(accuracies.values()),
        accuracy=estimate(t_interval(list(accuracies.values()))),
        deviation=deviation(list(accuracies.values())),
        versus_lower=versus_lower(results),
        versus_baseline=None if baseline is None else versus_baseline(results, *baseline),
        gap=gap,
        gap_reason=reason,
        selected=selected,
        regrets=regrets,
        correlations=correlations,
        bound=float(np.mean(bounds)) if bounds else None,
        seconds=float(np.mean([result["seconds"] for result in results])),
        total_seconds=float(np.mean([result["total_seconds"] for result in results])),
        selection=first["selection"],
        stale=once(reason for age in ages for reason in age.stale),
        warnings=warned([result.get("warnings") or [] for result in results]),
        folders=tuple(Path(result["folder"]) for result in results),
        notes=once(note for age in ages for note in age.notes),
    )


def words(result: Result) -> list[str]:
    """The hyper-parameters that differ from the defaults, as typed."""
    return [str(word) for word in result.get("hyperparameters") or ()]


def by_seed(results: Sequence[Result]) -> BySeed:
    return {result["seed"]: accuracy_of(result) for result in results}


def warned(by_seed: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Each kind of warning once, with the numbers of the first seed that has it: the kind stands before the colon."""
    found: dict[str, list[str]] = {}
    for warnings in by_seed:
        for warning in warnings:
            kind, _, rest = warning.partition(": ")
            found.setdefault(kind, []).append(rest)
    seeds = len(by_seed)
    return tuple(f"{kind} ({len(rests)} of {seeds} seeds): {rests[0]}" for kind, rests in found.items())


def once(texts: Any) -> tuple[str, ...]:
    """Each text a single time, in order."""
    return tuple(dict.fromkeys(map(str, texts)))


def estimate(interval: Interval) -> Estimate:
    """What a page can show: no NaN."""
    if interval.defined:
        return Estimate(*interval)
    return Estimate(interval.mean, None, None)


# ---- against the references


def reference_by_seed(results: Sequence[Result], role: str) -> tuple[str, BySeed]:
    """The method that is the "lower" or "upper" reference of these runs, and its accuracy for each seed."""
    found = {r["seed"]: r["references"][role] for r in results if (r.get("references") or {}).get(role)}
    name = next((reference["method"] for reference in found.values()), "")
    return name, {seed: reference["accuracy"] for seed, reference in found.items()}


def versus_lower(results: Sequence[Result]) -> Comparison | None:
    """Paired by seed; one seed is judged by the run's own test on the shared examples. None without a reference."""
    name, lower = reference_by_seed(results, "lower")
    return _versus(results, name, lower, "versus_lower") if lower else None


def versus_baseline(results: Sequence[Result], name: str, accuracies: BySeed) -> Comparison | None:
    """As above, against the group's best cheap baseline; None for what is one, bounds the scale, or shares no seed."""
    if results[0]["method"] in CHEAP or not set(by_seed(results)) & set(accuracies):
        return None
    return _versus(results, name, accuracies, "versus_baseline")


def _versus(results: Sequence[Result], name: str, other: BySeed, own: str) -> Comparison:
    paired = paired_difference(by_seed(results), other)
    if len(paired.seeds) == 1:
        judged = next(r for r in results if r["seed"] == paired.seeds[0]).get(own)
        if judged and judged.get("method", name) == name:
            difference = Estimate(judged["difference"], None, None)
            return Comparison(name, difference, judged["p"], judged["verdict"], judged["test"], None, paired.seeds)
    return comparison(name, paired, by_seed(results), other)


def comparison(against: str, paired: PairedDifference, first: BySeed, second: BySeed) -> Comparison:
    ours, theirs = in_common(first, second).values
    return Comparison(
        against=against,
        difference=estimate(paired.difference),
        p=paired.p,
        verdict=paired.verdict,
        test=paired.test,
        probability_of_improvement=probability_of_improvement(ours, theirs) if len(paired.seeds) > 1 else None,
        seeds=paired.seeds,
    )


def recovered_gap(results: Sequence[Result]) -> tuple[Estimate | None, str]:
    """With Fieller's interval over seeds, a single run's own otherwise; None and why."""
    if len(results) == 1:
        value = results[0].get("recovered_gap")
        reason = results[0].get("recovered_gap_reason") or "it has no upper or no lower reference here"
        return (None, str(reason)) if value is None else (Estimate(value, None, None), "")
    (_, lower), (_, upper) = (reference_by_seed(results, role) for role in ("lower", "upper"))
    if not lower or not upper:
        reasons = once(r["recovered_gap_reason"] for r in results if r.get("recovered_gap_reason"))
        return None, "; ".join(reasons) or "it has no upper or no lower reference here"
    seeds = [result["seed"] for result in results]
    gap = recovered_gap_over_seeds(
        list(by_seed(results).values()), [lower.get(s) for s in seeds], [upper.get(s) for s in seeds]
    )
    if isinstance(gap, Gap):
        return None, gap.reason
    return estimate(gap), ""


# ---- selection


def selection(results: Sequence[Result]) -> tuple[dict[str, float], dict[str, float], dict[str, float | None]]:
    """Mean target accuracy by each rule, regret and rank correlation of each validator; see `Row`.

    Where each run was evaluated once there was nothing to select, and a validator is neither praised nor blamed.
    """
    runs = [selected_accuracies(result) for result in results]
    rules = once(rule for run in runs for rule in run)
    selected = {rule: float(np.mean([run[rule] for run in runs if rule in run])) for rule in rules}
    regrets: dict[str, float] = {}
    correlations: dict[str, float | None] = {}
    if all(len(result.get("evaluations") or ()) < 2 for result in results):
        return selected, regrets, correlations
    for name in rules:
        if name in ("last", "oracle"):
            continue
        regrets[name] = float(np.mean([run["oracle"] - run[name] for run in runs if name in run]))
        correlations[name] = rank_correlation(name, [point for r in results for point in r.get("evaluations") or ()])
    return selected, regrets, correlations


def selected_accuracies(result: Result) -> dict[str, float]:
    """Target accuracy of the checkpoint that each rule would have chosen among the run's evaluations.

    A run without evaluations has its final accuracy, where that is the last checkpoint's.
    """
    points = [point for point in result.get("evaluations") or () if point.get(ORACLE) is not None]
    if not points:
        return {"last": accuracy_of(result)} if result["selection"] == "last" else {}
    found = {"last": float(points[-1][ORACLE])}
    for rule in [*validators_in(points), "oracle"]:
        key, higher_is_better = score_of(rule)
        place = chosen([point.get(key) for point in points], higher_is_better)
        if place is not None:
            found[rule] = float(points[place][ORACLE])
    return found


def validators_in(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The validators that these evaluations logged and whose direction is known here."""
    logged = once(key.removeprefix("validator/") for point in points for key in point if key.startswith("validator/"))
    return [name for name in logged if name in VALIDATORS]


def rank_correlation(name: str, points: Sequence[Mapping[str, Any]]) -> float | None:
    """Spearman's, of a validator turned so that higher is better; None with fewer than 3 points, or constant ones."""
    key, higher_is_better = score_of(name)
    both = [(p[key], p[ORACLE]) for p in points if p.get(key) is not None and p.get(ORACLE) is not None]
    if len(both) < 3:
        return None
    scores, accuracies = np.array(both, dtype=float).T
    if np.ptp(scores) == 0 or np.ptp(accuracies) == 0:
        return None
    value = float(stats.spearmanr(scores if higher_is_better else -scores, accuracies).statistic)
    return None if math.isnan(value) else value
