"""Rows, groups, claims, selection and sweeps, recomputed from the numbers that the runs were made of."""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole
from reported import MEANS, PAIRS, group_of, made_run, made_runs, rows_of
from scipy import stats

from dafw.report.gather import collect
from dafw.report.groups import refusal
from dafw.report.rows import CHEAP
from dafw.report.tables import tables
from dafw.setting import RULES

surroundings = whole.surroundings  # a fixture

SEEDS = range(6)


# ---- a row


def test_a_row_is_recomputed(tmp_path: Path) -> None:
    ours = [0.80, 0.82, 0.85, 0.81, 0.84, 0.83]
    lower = [0.70, 0.71, 0.69, 0.72, 0.70, 0.71]
    upper = [0.95, 0.96, 0.95, 0.97, 0.96, 0.95]
    for seed, a, b, c in zip(SEEDS, ours, lower, upper, strict=True):
        made_run(tmp_path, seed=seed, accuracy=a, lower=b, upper=c, beside={"adabn": b + 0.05})
    row = group_of(collect(tmp_path)).rows[0]
    assert row.seeds == tuple(SEEDS)
    assert row.accuracies == tuple(ours)
    mean, spread = sum(ours) / 6, math.sqrt(sum((a - sum(ours) / 6) ** 2 for a in ours) / 5)
    half = 2.570582 * spread / math.sqrt(6)  # Student's t at five degrees of freedom
    assert row.accuracy.mean == pytest.approx(mean)
    assert row.deviation == pytest.approx(spread)
    assert (row.accuracy.low, row.accuracy.high) == pytest.approx((mean - half, mean + half), abs=1e-6)
    assert row.versus_lower is not None
    differences = [a - b for a, b in zip(ours, lower, strict=True)]
    extreme = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences)) - 1e-12
        for signs in itertools.product((1, -1), repeat=6)
    )
    assert row.versus_lower.against == "source_only"
    assert row.versus_lower.p == extreme / 64 == 0.03125
    assert row.versus_lower.verdict == "better"
    assert row.versus_lower.difference.mean == pytest.approx(sum(differences) / 6)
    assert row.versus_lower.probability_of_improvement == 1.0
    assert row.gap is not None
    assert row.gap.mean == pytest.approx(sum(differences) / sum(c - b for b, c in zip(lower, upper, strict=True)))
    assert row.gap.low is not None
    assert row.gap.high is not None
    assert row.gap.low < row.gap.mean < row.gap.high
    assert row.bound == pytest.approx(mean - 0.2)
    assert row.total_seconds == pytest.approx(MEANS["dann"][2] + 3.7)


def test_references_are_paired_by_seed_and_not_by_place(tmp_path: Path) -> None:
    for seed, a, b in ((3, 0.9, 0.6), (1, 0.7, 0.65), (2, 0.8, 0.5)):
        changes = {"references": {"lower": None, "upper": None}} if seed == 2 else {}
        made_run(tmp_path, seed=seed, accuracy=a, lower=b, changes=changes)
    row = group_of(collect(tmp_path)).rows[0]
    assert (row.seeds, row.accuracies) == ((1, 2, 3), (0.7, 0.8, 0.9))
    assert row.versus_lower is not None
    assert row.versus_lower.seeds == (1, 3)
    assert row.versus_lower.difference.mean == pytest.approx((0.05 + 0.3) / 2)
    assert row.versus_lower.verdict == "undecided"  # two seeds decide nothing


def test_a_run_that_was_only_a_reference_has_the_references_of_the_others(tmp_path: Path) -> None:
    for seed in SEEDS:
        made_run(tmp_path, "dann", seed=seed, lower=0.7, upper=0.9)
        folder = made_run(tmp_path, "adabn", seed=seed, accuracy=0.75)
        result = json.loads((folder / "result.json").read_text())
        for key in ("references", "beside", "versus_lower", "recovered_gap", "recovered_gap_reason"):
            del result[key]
        (folder / "result.json").write_text(json.dumps(result))
    row = rows_of(group_of(collect(tmp_path)))["adabn"]
    assert row.versus_lower is not None
    assert (row.versus_lower.against, row.versus_lower.p) == ("source_only", 0.03125)
    assert row.versus_lower.difference.mean == pytest.approx(0.05)
    assert row.gap is not None
    assert row.gap.mean == pytest.approx(0.25)


def test_one_seed_is_judged_by_its_own_test(tmp_path: Path) -> None:
    own = {"difference": -0.1, "p": 0.004, "verdict": "worse", "test": "McNemar, one seed"}
    made_run(tmp_path, accuracy=0.6, lower=0.7, changes={"versus_lower": own, "recovered_gap": -0.3})
    row = group_of(collect(tmp_path)).rows[0]
    assert row.versus_lower is not None
    assert (row.versus_lower.p, row.versus_lower.verdict) == (0.004, "worse")
    assert row.versus_lower.test == "McNemar, one seed"
    assert row.versus_lower.difference.low is None
    assert (row.accuracy.low, row.deviation) == (None, None)
    assert row.gap is not None
    assert row.gap.mean == -0.3


def test_an_undefined_gap_says_why(tmp_path: Path) -> None:
    for seed, upper in zip(SEEDS, (0.69, 0.73, 0.70, 0.71, 0.69, 0.70), strict=True):
        made_run(tmp_path, seed=seed, accuracy=0.8, lower=0.7, upper=upper)
    row = group_of(collect(tmp_path)).rows[0]
    assert row.gap is None
    assert "not clearly above" in row.gap_reason


def test_rows_are_methods_with_what_differs_from_the_defaults(tmp_path: Path) -> None:
    for seed in (0, 1):
        made_run(tmp_path, seed=seed)
        made_run(tmp_path, seed=seed, keys={"method.weight": 0.5, "train.lr": 0.01})
    made_run(tmp_path, "mcc")
    rows = rows_of(group_of(collect(tmp_path)))
    assert {name: row.seeds for name, row in rows.items()} == {
        "dann": (0, 1),
        "dann method.weight=0.5 train.lr=0.01": (0, 1),
        "mcc": (0,),
    }


def test_of_one_seed_the_newest_counts_and_the_older_is_told(tmp_path: Path) -> None:
    older = made_run(tmp_path, accuracy=0.5, keys={"device": "cuda"}, age=100)
    newer = made_run(tmp_path, accuracy=0.8)
    board = collect(tmp_path)
    assert group_of(board).rows[0].accuracies == (0.8,)
    (other,) = board.others
    assert (other["folder"], other["status"]) == (str(older), "superseded")
    assert str(newer) in other["reason"]


# ---- groups


def test_runs_that_may_not_be_compared_stand_apart_and_say_why(tmp_path: Path) -> None:
    for method in ("dann", "mcc"):
        made_run(tmp_path, method)
    made_run(tmp_path, "mcc", keys={"image_size": 28, "train.steps": 600})
    board = collect(tmp_path)
    large, small = board.groups
    assert {row.method for row in large.rows} == {"dann", "mcc"}
    assert large.differs == "image size 16 against 28; budget 500 steps of 64, fp32 against 600 steps of 64, fp32"
    assert small.differs == "image size 28 against 16; budget 600 steps of 64, fp32 against 500 steps of 64, fp32"
    assert [table.title for table in tables(board)] == [
        f"synth → digits, {group.differs} (a development pair)" for group in board.groups
    ]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"image size": 16, "labels": "closed"}, {"image size": 16, "labels": "closed"}, ""),
        ({"image size": 16, "budget": "b"}, {"image size": 28, "budget": "b"}, "image size 16 against 28"),
        ({"data": "ab", "x": 1}, {"data": "cd", "x": 1}, "other data: their contents differ"),
        ({"shots": None}, {"shots": 5}, "shots none against 5"),
        ({"transductive": True}, {}, "too old to compare"),
        ({"a": 1}, {"a": 1, "new": 2}, "new none against 2"),
    ],
)
def test_a_refusal_says_what_differs(first: Mapping[str, Any], second: Mapping[str, Any], says: str) -> None:
    assert refusal(first, second).startswith(says)
    assert (refusal(first, second) == "") == (says == "")


def test_old_runs_are_shown_and_never_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        made_run(tmp_path, seed=seed, old=True)
    made_run(tmp_path, seed=2)
    new, old = collect(tmp_path).groups
    assert [row.seeds for row in new.rows] == [(2,)]
    assert sorted(row.seeds for row in old.rows) == [(0,), (1,)]  # not even with each other
    assert "too old to compare" in old.differs
    assert old.between == ()
    assert {row.versus_baseline for row in old.rows} == {None}
    assert all(row.selected == {"last": row.accuracies[0]} and row.regrets == {} for row in old.rows)


def test_development_pairs_are_marked_and_stand_first(tmp_path: Path) -> None:
    made_run(tmp_path, src="digits", tgt="synth")
    made_run(tmp_path)
    first, second = collect(tmp_path).groups
    assert (first.src, first.development) == ("synth", True)
    assert (second.src, second.development) == ("digits", False)


# ---- the best cheap baseline


def test_the_best_cheap_baseline_has_the_highest_mean_over_common_seeds(tmp_path: Path) -> None:
    assert {"adabn", "coral"} <= CHEAP
    beside = [{"adabn": 0.90}, {"adabn": 0.70, "coral": 0.75}, {"adabn": 0.71, "coral": 0.76}]
    for seed, cheap in enumerate(beside):
        made_run(tmp_path, seed=seed, accuracy=0.8 + 0.01 * seed, beside=cheap)
    group = group_of(collect(tmp_path))
    assert group.baseline.startswith("coral, ")  # adabn's mean over its own three seeds is higher
    assert "which favours the baseline" in group.baseline
    versus = group.rows[0].versus_baseline
    assert versus is not None
    assert (versus.against, versus.seeds) == ("coral", (1, 2))
    assert versus.difference.mean == pytest.approx((0.81 - 0.75 + 0.82 - 0.76) / 2)


def test_a_method_without_rows_beside_it_is_compared_with_the_groups_baseline(tmp_path: Path) -> None:
    for seed in SEEDS:
        made_run(tmp_path, "adabn", seed=seed, accuracy=0.75, beside={})
        made_run(tmp_path, "shot", seed=seed, accuracy=0.7, beside={})
        for method in ("source_only", "joint_supervised"):
            made_run(tmp_path, method, seed=seed)
    rows = rows_of(group_of(collect(tmp_path)))
    versus = rows["shot"].versus_baseline
    assert versus is not None
    assert (versus.against, versus.verdict, versus.p) == ("adabn", "worse", 0.03125)
    for method in ("adabn", "source_only", "joint_supervised"):
        assert rows[method].versus_baseline is None


def test_what_is_trained_with_target_labels_is_no_baseline(tmp_path: Path) -> None:
    made_run(tmp_path, beside={"target_supervised": 0.97, "adabn": 0.7})
    assert group_of(collect(tmp_path)).baseline.startswith("adabn, ")
    assert {baseline.method for rule in RULES.values() for baseline in rule.baselines} == CHEAP


# ---- claims between methods, and across pairs


def test_claims_between_methods_are_paired_and_adjusted(tmp_path: Path) -> None:
    accuracies = {"dann": [0.8, 0.81, 0.82, 0.83, 0.84, 0.85], "mcc": [0.9, 0.91, 0.92, 0.93, 0.94, 0.95]}
    accuracies["mcd"] = [0.81, 0.80, 0.83, 0.82, 0.85, 0.84]
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            made_run(tmp_path, method, seed=seed, accuracy=value)
    made_run(tmp_path, "source_only")
    for seed in range(8):  # more seeds, and not the defaults
        made_run(tmp_path, "dann", seed=seed, keys={"method.weight": 0.1}, accuracy=0.99)
    claims = {claim.against: claim for claim in group_of(collect(tmp_path)).between}
    assert set(claims) == {"mcc over dann", "mcc over mcd", "dann over mcd"} or set(claims) == {
        "mcc over dann",
        "mcc over mcd",
        "mcd over dann",
    }
    p_values = {name: claim.p for name, claim in claims.items()}
    assert p_values["mcc over dann"] == p_values["mcc over mcd"] == 0.03125
    (tie,) = [name for name in claims if not name.startswith("mcc")]
    assert p_values[tie] == 1.0
    assert claims["mcc over dann"].adjusted_p == pytest.approx(3 * 0.03125)
    assert claims["mcc over mcd"].adjusted_p == pytest.approx(3 * 0.03125)
    assert claims[tie].adjusted_p == 1.0


def test_average_ranks_are_over_the_pairs_that_methods_share(tmp_path: Path) -> None:
    made_runs(tmp_path, seeds=(0, 1), pictures=False)
    board = collect(tmp_path)
    assert set(board.across.pairs) == {f"{src} → {tgt}" for src, tgt in PAIRS}
    means: dict[str, list[float]] = {}
    for group in board.groups:
        if len(group.rows) >= 8:
            for row in group.rows:
                if row.hyperparameters == "" and row.setting != "joint_supervised":
                    means.setdefault(row.method, []).append(row.accuracy.mean)
    methods = sorted(means)
    table = np.array([means[method] for method in methods])
    expected = stats.rankdata(-table, axis=0).mean(axis=1)
    assert board.across.average_rank == pytest.approx(dict(zip(methods, expected, strict=True)))
    assert any("my_<i>method" in note for note in board.across.notes)
    assert any("most rows stands for synth → digits" in note for note in board.across.notes)
    assert board.across.wilcoxon == ()
    assert "too few pairs" in board.across.reason


def test_an_oracles_row_makes_no_claim(tmp_path: Path) -> None:
    for method in ("dann", "mcc"):
        for seed in (0, 1):
            made_run(tmp_path, method, seed=seed, keys={"select": "oracle"}, changes={"selection": "oracle"})
    board = collect(tmp_path)
    assert group_of(board).between == ()
    assert board.across.average_rank == {}


def test_nothing_in_a_board_is_nan(tmp_path: Path) -> None:
    made_runs(tmp_path, seeds=(0,), pictures=False)
    board = collect(tmp_path)

    def check(value: Any) -> None:
        if isinstance(value, float):
            assert math.isfinite(value)
        elif isinstance(value, Mapping):
            for inner in value.values():
                check(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                check(inner)
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                check(getattr(value, name))

    check(board)
    json.dumps(board.runs, allow_nan=False)
