"""Which checkpoint and which hyper-parameters each rule would have chosen, over the runs of a folder."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import whole
from reported import made_run
from scipy import stats

from dafw.registry import VALIDATORS
from dafw.report.gather import collect
from dafw.report.groups import undecidable
from dafw.report.rows import rank_correlation, selected_accuracies, warned
from dafw.selection import ORACLE

surroundings = whole.surroundings  # a fixture


@pytest.fixture(autouse=True)
def directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two validators, one of each direction."""
    for name, higher_is_better in (("up", True), ("down", False)):
        monkeypatch.setitem(VALIDATORS._plugins, name, SimpleNamespace(higher_is_better=higher_is_better))


def points(accuracies: Sequence[float], **scores: Sequence[float | None]) -> list[dict[str, Any]]:
    """Evaluations with these target accuracies and validators' values."""
    return [
        {"step": 100 * i, ORACLE: a, **{f"validator/{name}": values[i] for name, values in scores.items()}}
        for i, a in enumerate(accuracies)
    ]


# ---- selection


def test_each_rule_chooses_its_checkpoint() -> None:
    evaluations = points([0.5, 0.7, 0.6, 0.65], up=[1.0, 2.0, 3.0, 3.0], down=[4.0, None, 2.0, 2.0], gone=[9, 9, 9, 9])
    chosen = selected_accuracies({"selection": "last", "evaluations": evaluations})
    assert chosen == {"last": 0.65, "up": 0.6, "down": 0.6, "oracle": 0.7}


def test_selection_is_averaged_over_seeds(tmp_path: Path) -> None:
    first = points([0.5, 0.7, 0.6], up=[0.0, 1.0, 2.0], down=[3.0, 2.0, 2.5])
    second = points([0.6, 0.5, 0.8], up=[5.0, 4.0, 3.0], down=[3.0, 2.0, 2.5])
    for seed, evaluations in enumerate((first, second)):
        made_run(tmp_path, seed=seed, accuracy=evaluations[-1][ORACLE], evaluations=evaluations)
    board = collect(tmp_path)
    row = board.groups[0].rows[0]
    assert row.selected == pytest.approx({"last": 0.7, "up": 0.6, "down": 0.6, "oracle": 0.75})
    assert row.regrets == pytest.approx({"up": 0.15, "down": 0.15})
    accuracies = [p[ORACLE] for p in first + second]
    for name, sign in (("up", 1), ("down", -1)):
        scores = [sign * p[f"validator/{name}"] for p in first + second]
        ranks = [stats.rankdata(values) for values in (scores, accuracies)]
        assert row.correlations[name] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert {(s.name, s.rows) for s in board.development} == {("up", 1), ("down", 1)}
    assert board.report == ()


def test_a_correlation_that_does_not_exist_is_none() -> None:
    assert rank_correlation("up", points([0.1, 0.2], up=[1, 2])) is None
    assert rank_correlation("up", points([0.1, 0.2, 0.3], up=[1, 2, None])) is None
    assert rank_correlation("up", points([0.1, 0.2, 0.3], up=[1, 1, 1])) is None
    assert rank_correlation("up", points([0.1, 0.1, 0.1], up=[1, 2, 3])) is None
    assert rank_correlation("up", points([0.1, 0.2, 0.3], up=[1, 2, 3])) == pytest.approx(1.0)
    assert rank_correlation("down", points([0.1, 0.2, 0.3], down=[1, 2, 3])) == pytest.approx(-1.0)


def test_a_single_evaluation_praises_no_validator(tmp_path: Path) -> None:
    made_run(tmp_path, "adabn", evaluations=points([0.7], up=[1.0]))
    row = collect(tmp_path).groups[0].rows[0]
    assert row.selected == {"last": 0.7, "up": 0.7, "oracle": 0.7}
    assert row.regrets == {}


def test_the_recommended_validator_is_chosen_on_development_pairs(tmp_path: Path) -> None:
    good = points([0.5, 0.7, 0.6], up=[1.0, 3.0, 2.0], down=[1.0, 2.0, 3.0])
    bad = points([0.5, 0.7, 0.6], up=[3.0, 2.0, 1.0], down=[3.0, 1.0, 2.0])
    made_run(tmp_path, "dann", evaluations=good)
    made_run(tmp_path, "source_only", evaluations=bad)  # it adapts nothing and is not asked
    made_run(tmp_path, "dann", src="digits", tgt="synth", evaluations=bad)
    board = collect(tmp_path)
    assert board.recommended == "up"
    assert {score.name: score.regret for score in board.development} == pytest.approx({"up": 0.0, "down": 0.2})
    assert {score.name: score.regret for score in board.report} == pytest.approx({"up": 0.2, "down": 0.0})
    development = next(group for group in board.groups if group.development)
    assert development.validators == board.development


# ---- sweeps


def test_a_sweep_names_the_best_by_each_validator_and_by_the_oracle(tmp_path: Path) -> None:
    tried = {1.0: (0.80, 1.0, 5.0), 0.1: (0.85, 2.0, 4.0), 10.0: (0.60, 3.0, 1.0)}
    for weight, (accuracy, up, down) in tried.items():
        for seed in (0, 1):
            keys = {} if weight == 1.0 else {"method.weight": weight}
            offset = 0.01 if seed else -0.01
            validators = {"validators": {"up": up + offset, "down": down - offset}}
            made_run(tmp_path, seed=seed, accuracy=accuracy + offset, keys=keys, changes=validators)
    made_run(tmp_path, seed=2, accuracy=0.99, changes={"validators": {"up": 99.0, "down": 0.0}})  # others lack it
    made_run(tmp_path, "mcc")
    board = collect(tmp_path)
    (sweep,) = board.sweeps
    assert (sweep.method, sweep.keys, sweep.group) == ("dann", ("method.weight",), board.groups[0].key)
    assert {key: best["words"] for key, best in sweep.best.items()} == {
        "up": "method.weight=10.0",
        "down": "method.weight=10.0",
        "oracle": "method.weight=0.1",
    }
    assert {key: best["accuracy"] for key, best in sweep.best.items()} == pytest.approx(
        {"up": 0.6, "down": 0.6, "oracle": 0.85}
    )
    assert {(best["trials"], best["seeds"]) for best in sweep.best.values()} == {(3, 2)}
    found = {(p["method.weight"], p["seed"]): p["accuracy"] for p in sweep.points}
    assert found[10.0, 1] == pytest.approx(0.61)
    assert found[1.0, 2] == 0.99  # the default is read from the config
    assert len(found) == 7


def test_a_kind_of_warning_is_said_once_with_its_seeds() -> None:
    said = warned([["near-collapse: 3 of 5", "bad calibration: .2"], [], ["near-collapse: 4 of 5"]])
    assert said == ("near-collapse (2 of 3 seeds): 3 of 5", "bad calibration (1 of 3 seeds): .2")
    assert warned([[], []]) == ()


def test_claims_that_nothing_could_decide_are_said_so() -> None:
    def claims(count: int, seeds: int) -> list[Any]:
        return [SimpleNamespace(seeds=tuple(range(seeds)))] * count

    assert undecidable([]) == ""
    assert undecidable(claims(1, 6)) == ""  # p may be 1/32
    assert undecidable(claims(2, 6)).endswith("7 seeds could decide")  # 2/64 < .05
    assert undecidable(claims(3, 5)).startswith("too few seeds: 5, where p is at least 0.19 for 3 comparisons; ")
    assert undecidable(claims(36, 6)).endswith("11 seeds could decide")  # 36/1024 < .05 < 36/512
    assert undecidable(claims(36, 11)) == ""
