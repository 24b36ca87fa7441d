"""What may not be mixed: references, budgets, labels and hyper-parameters of other runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import whole
from reported import comparable_of, group_of, made_run, rows_of
from scipy import stats

from dafw.identity import hash_of
from dafw.report.gather import collect
from dafw.report.tables import best_line

surroundings = whole.surroundings  # a fixture

SEEDS = range(6)


# ---- what may not be mixed


def without_judgement(folder: Path, right: Sequence[bool]) -> Path:
    """As a run that was only ever a reference, with the predictions of two classes that these were."""
    result = json.loads((folder / "result.json").read_text())
    for key in ("references", "beside", "versus_lower", "versus_baseline", "recovered_gap", "recovered_gap_reason"):
        del result[key]
    result["target"]["accuracy"] = float(np.mean(right))
    (folder / "result.json").write_text(json.dumps(result))
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    np.savez(folder / "predictions.npz", predicted=predicted, labels=labels, index=np.arange(len(right)))
    return folder


def test_a_reference_of_one_seed_is_judged_by_its_predictions(tmp_path: Path) -> None:
    examples = np.arange(100)
    without_judgement(made_run(tmp_path, "source_only"), examples < 50)
    without_judgement(made_run(tmp_path, "adabn"), examples < 75)
    without_judgement(made_run(tmp_path, "joint_supervised"), examples < 100)
    made_run(tmp_path, "dann", accuracy=0.8, lower=0.5, upper=1.0)
    rows = rows_of(group_of(collect(tmp_path)))
    for method, won, gap in (("adabn", 25, 0.5), ("joint_supervised", 50, None)):
        versus = rows[method].versus_lower
        assert versus is not None
        assert (versus.test, versus.verdict) == ("McNemar, one seed", "better")
        assert versus.p == pytest.approx(stats.binomtest(won, won).pvalue)
        found = rows[method].gap
        assert (None if found is None else found.mean) == gap
    assert rows["source_only"].versus_lower is None


def test_a_reference_that_was_trained_again_counts_by_its_newest(tmp_path: Path) -> None:
    for seed in SEEDS:
        made_run(tmp_path, "dann", seed=seed, lower=0.5, keys={"device": "cuda"}, age=100)
        made_run(tmp_path, "dann", seed=seed, lower=0.7)
        without_judgement(made_run(tmp_path, "joint_supervised", seed=seed), np.arange(10) < 9)
    versus = rows_of(group_of(collect(tmp_path)))["joint_supervised"].versus_lower
    assert versus is not None
    assert versus.difference.mean == pytest.approx(0.2)


def test_a_run_is_no_reference_of_itself(tmp_path: Path) -> None:
    for seed in (0, 1):
        lower = {"method": "finetune", "accuracy": 0.5, "run": "made"}
        changes = {"setting": "transfer", "references": {"lower": lower, "upper": None}}
        keys = {"tgt.labels_per_class": 3}
        made_run(tmp_path, "lp_ft", seed=seed, keys=keys, changes=changes)
        own = made_run(tmp_path, "finetune", seed=seed, keys=keys, changes={"setting": "transfer"})
        without_judgement(own, np.arange(10) < 5)
    assert rows_of(group_of(collect(tmp_path)))["finetune"].versus_lower is None


def test_transfer_with_every_target_label_is_not_compared_with_adaptation(tmp_path: Path) -> None:
    made_run(tmp_path, "dann")
    made_run(tmp_path, "finetune", accuracy=0.97, changes={"setting": "transfer"})
    adapted, transferred = sorted(collect(tmp_path).groups, key=lambda group: group.rows[0].method)
    assert [row.method for row in adapted.rows] == ["dann"]
    assert [row.method for row in transferred.rows] == ["finetune"]
    assert transferred.differs == "labels per class all against none"


def test_a_recipe_with_a_budget_of_its_own_is_grouped_by_it(tmp_path: Path) -> None:
    made_run(tmp_path, "dann")
    general = comparable_of(json.loads(next(tmp_path.rglob("result.json")).read_text())["config"], "synth", "digits")
    changes = {"comparable": general, "comparable_hash": hash_of(general)}  # as a method's recipe leaves it
    for steps in (40, 80):
        made_run(tmp_path, "mcc", keys={"train.steps": steps}, changes={**changes, "hyperparameters": []})
    board = collect(tmp_path)
    assert sorted(group.comparable["budget"].split(" of ")[0] for group in board.groups) == [
        "40 steps",
        "500 steps",
        "80 steps",
    ]
    assert board.others == ()


def test_a_stressed_development_pair_is_one(tmp_path: Path) -> None:
    told = {"pair": "a development pair: the default recipes were chosen on it"}
    made_run(tmp_path, tgt="usps", changes={"tgt": "digits-contrast4", "protocol": told})
    made_run(tmp_path, src="usps", tgt="mnist")
    board = collect(tmp_path)
    assert [(group.tgt, group.development) for group in board.groups] == [("digits-contrast4", True), ("mnist", False)]


def test_the_best_row_is_no_choice_among_hyperparameters(tmp_path: Path) -> None:
    for weight, accuracy in ((0.1, 0.7), (3.0, 0.95)):
        made_run(tmp_path, keys={"method.weight": weight}, accuracy=accuracy)
    made_run(tmp_path, accuracy=0.8)
    group = group_of(collect(tmp_path))
    best = best_line(group.rows)
    assert best is not None
    assert group.rows[best].hyperparameters == ""
