"""Runs grouped by what must be equal between numbers that are compared, and what may be claimed within and across."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dafw.config import flat
from dafw.identity import hash_of
from dafw.job import DEVELOPMENT_PAIRS
from dafw.judgement import judge
from dafw.record import Record
from dafw.registry import VALIDATORS
from dafw.report.leaderboard import Across, Comparison, Group, Row, Sweep, ValidatorScore
from dafw.report.rows import CHEAP, BySeed, Result, accuracy_of, by_seed, comparison, once, row_of, words
from dafw.report.stale import Age
from dafw.selection import chosen, score_of
from dafw.setting import RULES, Setting
from dafw.statistics import DECIMALS, across_pairs, cannot_decide, holm, in_common, paired_difference

RULES_BY_NAME = {setting.value: rule for setting, rule in RULES.items()}
OLD = "too old to compare: these runs do not say what they may be compared with; run them again"


def refusal(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Why runs with these two `comparable`s may not be compared: "image size 16 against 28; ..."; "" if they may."""
    if not first or not second:
        return OLD
    told = []
    for key in once([*first, *second]):
        ours, theirs = first.get(key), second.get(key)
        if key == "data" and ours != theirs:
            told.append("other data: their contents differ")
        elif ours != theirs:
            told.append(f"{key} {said(ours)} against {said(theirs)}")
    return "; ".join(told)


def said(value: Any) -> str:
    """A value of a `comparable` as one reads it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def undecidable(between: Sequence[Comparison]) -> str:
    """Why no claim of a table can be decided by so few seeds, whatever the runs; "" where one can."""
    return cannot_decide("seed", max(len(claim.seeds) for claim in between), len(between)) if between else ""


# ---- groups


def grouped(
    results: Iterable[Result], age_of: Callable[[Result], Age]
) -> tuple[tuple[Group, ...], tuple[Sweep, ...], list[dict[str, str]]]:
    """The groups, the sweeps in them, and the runs that newer ones of the same words stand for.

    results: finished runs with a target accuracy, the newest first
    """
    by_key: dict[str, list[Result]] = {}
    for result in map(compared, results):
        by_key.setdefault(result.get("comparable_hash") or f"old {result['src']} {result['tgt']}", []).append(result)
    groups, sweeps, superseded = [], [], []
    for key, members in by_key.items():
        if members[0].get("comparable"):
            runs, older = newest_by_row(with_references(members))
            superseded += older
            group = group_of(key, runs, age_of)
            sweeps += sweeps_of(group, runs)
        else:  # an old run says too little to be one of several seeds
            group = group_of(key, [[result] for result in members], age_of)
        groups.append(group)
    return with_differences(groups), tuple(sweeps), superseded


def compared(result: Result) -> Result:
    """The run with all that it may be compared by: a method of transfer that was given every target label says so, and
    one whose recipe has a budget of its own says that one. A stream is as long as the target test, whatever the words.
    """
    comparable = result.get("comparable")
    if not comparable or result["setting"] == Setting.TEST_TIME.value:
        return result
    told = dict(comparable)
    if result["setting"] == Setting.TRANSFER.value and told.get("labels per class") is None:
        told["labels per class"] = "all"
    train = result["config"]["train"]
    told["budget"] = f"{train['steps']} steps of {train['batch_size']}, {train['precision']}"
    return result if told == comparable else {**result, "comparable": told, "comparable_hash": hash_of(told)}


def with_references(results: Sequence[Result]) -> list[Result]:
    """A run that only ever was the reference of others names none itself: it has those of the others, by seed.

    results: the newest first, whose references go first. Where it is one of a single seed it is judged here as a run
    judges itself.
    """
    known: dict[tuple[str, str, int], dict[str, Any]] = {}
    for result in results:
        for role, reference in (result.get("references") or {}).items():
            if reference:
                known.setdefault((role, reference["method"], result["seed"]), reference)
    runs: dict[tuple[str, int], Result] = {}
    for result in results:
        if not words(result):
            runs.setdefault((result["method"], result["seed"]), result)
    seeds = Counter(method for method, _ in runs)
    filled = []
    for result in results:
        rule = RULES_BY_NAME.get(result["setting"])
        if "references" not in result and rule is not None:
            wanted = {k: r for k, r in (("lower", rule.lower), ("upper", rule.upper)) if r is not None}
            own = result["method"]
            found = {k: known.get((k, r.method, result["seed"])) for k, r in wanted.items() if r.method != own}
            result = {**result, "references": found}
            if seeds[own] == 1:
                others = {k: runs.get((r["method"], result["seed"])) for k, r in found.items() if r}
                result |= judged(result, {k: other for k, other in others.items() if other is not None})
        filled.append(result)
    return filled


def judged(result: Result, references: Mapping[str, Result]) -> dict[str, Any]:
    """One run's verdict and recovered gap by the predictions of its references, which lie beside it; {} without."""
    record, *others = (Record(Path(run["folder"]), dict(run)) for run in (result, *references.values()))
    try:
        found = judge(record, list(zip(references, others, strict=True)))
    except (OSError, ValueError):  # without predictions, or of other test examples
        return {}
    return {key: found[key] for key in ("versus_lower", "recovered_gap", "recovered_gap_reason")}


def newest_by_row(results: Sequence[Result]) -> tuple[list[list[Result]], list[dict[str, str]]]:
    """The runs of each row, a seed once: the newest, which comes first; the others are told."""
    rows: dict[tuple[str, ...], dict[int, Result]] = {}
    superseded = []
    for result in results:
        batch = str(result["config"]["train"]["batch_size"])  # of a stream, where it is no budget and no word
        kept = rows.setdefault((result["method"], batch, *words(result)), {}).setdefault(result["seed"], result)
        if kept is not result:
            reason = f"a newer run of the same words and seed: {kept['folder']}"
            superseded.append({"folder": str(result["folder"]), "status": "superseded", "reason": reason})
    return [[row[seed] for seed in sorted(row)] for row in rows.values()], superseded


def group_of(key: str, runs: Sequence[Sequence[Result]], age_of: Callable[[Result], Age]) -> Group:
    """The group of these rows' runs, the row with the highest mean first."""
    first = runs[0][0]
    comparable = dict(first.get("comparable") or {})
    baseline = best_baseline([result for row in runs for result in row]) if comparable else None
    rows = [row_of(row, baseline, age_of) for row in runs]
    rows = [replace(row, versus_baseline=None) if row.is_reference else row for row in rows]
    rows.sort(key=lambda row: (-row.accuracy.mean, row.method, row.hyperparameters))
    return Group(
        key=key,
        src=first["src"],
        tgt=first["tgt"],
        comparable=comparable,
        differs="" if comparable else OLD,
        development=is_development(first),
        rows=tuple(rows),
        between=between(rows) if comparable else (),
        baseline=""
        if baseline is None
        else f"{baseline[0]}, the best of the cheap baselines by mean test accuracy here, which favours the baseline",
        validators=validator_scores(adapting(rows)) if comparable else (),
    )


def is_development(result: Result) -> bool:
    """Of a stressed target too: the run says so itself, and an old one by its names."""
    told = str((result.get("protocol") or {}).get("pair", ""))
    return told.startswith("a development pair") or (result["src"], result["tgt"]) in DEVELOPMENT_PAIRS


def best_baseline(results: Sequence[Result]) -> tuple[str, BySeed] | None:
    """The cheap baseline with the highest mean over the seeds that all of them have, and its accuracies.

    They are read from the rows beside every run as well as from runs of their own.
    """
    found: dict[str, BySeed] = {}
    for result in results:
        for beside in result.get("beside") or ():
            if beside["method"] in CHEAP and beside["accuracy"] is not None:
                found.setdefault(beside["method"], {})[result["seed"]] = float(beside["accuracy"])
    for result in results:
        if result["method"] in CHEAP and not words(result):
            found.setdefault(result["method"], {})[result["seed"]] = accuracy_of(result)
    if not found:
        return None
    common = in_common(*found.values())
    compared = common.values if common.seeds else [tuple(by_seed.values()) for by_seed in found.values()]
    means = {name: float(np.mean(values)) for name, values in zip(found, compared, strict=True)}
    best = max(sorted(means), key=means.__getitem__)
    return best, found[best]


def with_differences(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups by pair, the largest first; each says what keeps it from the pair's largest, and that from the next."""
    ordered = sorted(groups, key=lambda g: (not g.development, g.src, g.tgt, not g.comparable, -len(g.rows), g.key))
    told = []
    for _, same in itertools.groupby(ordered, key=lambda g: (g.src, g.tgt)):
        of_pair = list(same)
        for group in of_pair:
            other = next((g for g in of_pair if g is not group and g.comparable), None)
            if group.comparable and other is not None:
                group = replace(group, differs=refusal(group.comparable, other.comparable))
            told.append(group)
    return tuple(told)


def representatives(rows: Iterable[Row]) -> dict[str, Row]:
    """The row that speaks for each method: no oracle's, at the defaults if it was run at them, else of most seeds."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: (r.hyperparameters != "", -len(r.seeds), r.hyperparameters)):
        if row.is_honest:
            best.setdefault(row.method, row)
    return best


def adapting(rows: Iterable[Row]) -> list[Row]:
    """The representatives of the methods that adapt, the cheap ones included."""
    return [row for row in representatives(rows).values() if not row.is_reference]


def between(rows: Sequence[Row]) -> tuple[Comparison, ...]:
    """Every two adapting methods, paired by seed, with Holm's adjustment over these claims."""
    claims = []
    for first, second in itertools.combinations(sorted(adapting(rows), key=lambda row: -row.accuracy.mean), 2):
        ours, theirs = (dict(zip(row.seeds, row.accuracies, strict=True)) for row in (first, second))
        paired = paired_difference(ours, theirs)
        if len(paired.seeds) > 1:
            claims.append(comparison(f"{first.method} over {second.method}", paired, ours, theirs))
    adjusted = holm([claim.p for claim in claims])
    return tuple(replace(claim, adjusted_p=p) for claim, p in zip(claims, adjusted, strict=True))


def validator_scores(rows: Sequence[Row]) -> tuple[ValidatorScore, ...]:
    """Each validator's mean regret and rank correlation over these rows, least regret first; of equal ones the highest
    correlation."""
    scores = []
    for name in once(name for row in rows for name in row.regrets):
        regrets = [row.regrets[name] for row in rows if name in row.regrets]
        known = [c for c in (row.correlations.get(name) for row in rows) if c is not None]
        correlation = float(np.mean(known)) if known else None
        scores.append(ValidatorScore(name, len(regrets), float(np.mean(regrets)), correlation))

    def rank(score: ValidatorScore) -> tuple[float, float, str]:
        return (round(score.regret, DECIMALS), -round(score.correlation or 0.0, DECIMALS), score.name)

    return tuple(sorted(scores, key=rank))


# ---- across pairs


def main_groups(groups: Iterable[Group]) -> dict[str, Group]:
    """The group that stands for each pair, by "source → target": the one with most rows, never an oracle's."""
    main: dict[str, Group] = {}
    for group in groups:
        held = main.get(f"{group.src} → {group.tgt}")
        if representatives(group.rows) and group.comparable and (held is None or len(group.rows) > len(held.rows)):
            main[f"{group.src} → {group.tgt}"] = group
    return main


def across(groups: Sequence[Group]) -> Across:
    """Methods that see no target label, over the pairs; those that were run on fewer pairs than others are left out."""
    main = main_groups(groups)
    labelled = {Setting.JOINT_SUPERVISED.value, Setting.TARGET_SUPERVISED.value}
    means: dict[str, dict[str, float]] = {}
    for pair, group in main.items():
        for method, row in representatives(group.rows).items():
            if row.setting not in labelled:
                means.setdefault(method, {})[pair] = row.accuracy.mean
    most = max(map(len, means.values()), default=0)
    kept = {method: by_pair for method, by_pair in sorted(means.items()) if len(by_pair) == most}
    ranked = across_pairs(kept)
    notes = []
    if len(kept) < len(means):
        notes.append(f"left out, run on fewer pairs: {', '.join(sorted(set(means) - set(kept)))}")
    if ranked.left_out:
        notes.append(f"left out, not run by all: {', '.join(ranked.left_out)}")
    several = [p for p in main if sum(f"{g.src} → {g.tgt}" == p and bool(g.comparable) for g in groups) > 1]
    if several:
        notes.append(f"of several groups the one with most rows stands for {', '.join(several)}")
    return Across(ranked.pairs, ranked.average_rank, ranked.wilcoxon, ranked.reason, tuple(notes))


# ---- sweeps


def sweeps_of(group: Group, rows: Sequence[Sequence[Result]]) -> list[Sweep]:
    """The methods of a group that were run with several sets of hyper-parameters."""
    methods = once(row[0]["method"] for row in rows)
    tried = [[row for row in rows if row[0]["method"] == method] for method in methods]
    return [sweep_of(group.key, of_method) for of_method in tried if len(of_method) > 1]


def sweep_of(group: str, rows: Sequence[Sequence[Result]]) -> Sweep:
    """Every value tried, and the best by each validator's mean final value and by the oracle.

    The means are over the seeds that all sets of values have, or over each one's own where they share none.
    """
    keys = once(word.partition("=")[0] for row in rows for word in words(row[0]))
    points = [_point(result, keys) for row in rows for result in row]
    shared = in_common(*map(by_seed, rows)).seeds
    rows = [[result for result in row if not shared or result["seed"] in shared] for row in rows]
    validators = [n for n in once(n for row in rows for r in row for n in r["validators"]) if n in VALIDATORS]
    accuracies = [float(np.mean(list(by_seed(row).values()))) for row in rows]
    scores: dict[str, list[float | None]] = {name: [_mean_of(name, row) for row in rows] for name in validators}
    scores["oracle"] = [*accuracies]
    best = {}
    for name, values in scores.items():
        place = chosen(values, score_of(name)[1])
        if place is not None:
            best[name] = {
                "words": " ".join(words(rows[place][0])),
                "accuracy": accuracies[place],
                "trials": sum(value is not None for value in values),
                "seeds": len(rows[place]),
            }
    return Sweep(group, rows[0][0]["method"], keys, tuple(points), best)


def _mean_of(name: str, row: Sequence[Result]) -> float | None:
    values = [result["validators"][name] for result in row if result["validators"].get(name) is not None]
    return float(np.mean(values)) if values else None


def _point(result: Result, keys: Sequence[str]) -> dict[str, Any]:
    values = dict(flat(result["config"]))
    point = {"method": result["method"], "seed": result["seed"], "folder": result["folder"]}
    point |= {"accuracy": accuracy_of(result), "validators": dict(result["validators"])}
    return {**point, **{key: values.get(key) for key in keys}}
