"""Made runs judged by made references."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dafw import record
from dafw.judgement import judge, table
from dafw.record import Record

COUNT = 100


def run(
    folder: Path, method: str, right: int, order: np.ndarray | None = None, reused: bool = False, **changed: Any
) -> Record:
    """A finished run that gets the first `right` of 100 examples right, written in this order."""
    folder = record.new_folder(folder, method)
    labels = np.arange(COUNT) % 2
    predicted = np.where(np.arange(COUNT) < right, labels, 1 - labels)
    index = np.arange(COUNT) if order is None else order
    record.write_predictions(folder, np.eye(2, dtype=np.float32)[predicted[index]], labels[index], index)
    result = {
        "method": method,
        "config_hash": method,
        "target": {"accuracy": right / COUNT, "macro_f1": 0.5, "per_class_accuracy": 0.5, "examples": COUNT},
        "source": {"accuracy": 0.9},
        "seconds": 1.5,
        "remarks": [],
        **changed,
    }
    return Record(folder, result, reused)


@pytest.fixture
def rows(tmp_path: Path):
    def make(method: int = 70, lower: int = 50, upper: int = 90, **changed: Any) -> list[tuple[str, Record]]:
        return [
            ("lower", run(tmp_path, "source_only", lower)),
            ("baseline", run(tmp_path, "adabn", 60)),
            ("method", run(tmp_path, "dann", method, **changed)),
            ("upper", run(tmp_path, "joint_supervised", upper)),
        ]

    return make


def test_a_run_is_judged_by_its_references(rows):
    given = rows()
    judged = judge(given[2][1], given)
    assert judged["references"] == {
        "lower": {"method": "source_only", "accuracy": 0.5, "run": str(given[0][1].folder)},
        "upper": {"method": "joint_supervised", "accuracy": 0.9, "run": str(given[3][1].folder)},
    }
    assert judged["beside"] == [{"method": "adabn", "accuracy": 0.6, "run": str(given[1][1].folder)}]
    assert judged["versus_lower"] == {
        "difference": pytest.approx(0.2),
        "p": pytest.approx(2 / 2**20),
        "verdict": "better",
        "test": "McNemar, one seed",
    }
    assert judged["versus_baseline"] == {
        "method": "adabn",
        "accuracy": 0.6,
        "difference": pytest.approx(0.1),
        "p": pytest.approx(2 / 2**10),
        "verdict": "better",
        "test": "McNemar, one seed",
    }
    assert judged["recovered_gap"] == pytest.approx(0.5)
    assert judged["recovered_gap_reason"] is None


def test_the_best_cheap_baseline_is_the_one_that_counts_and_what_is_shown_beside_is_none(rows, tmp_path):
    given = rows(method=55)
    given.insert(1, ("baseline", run(tmp_path, "coral", 65)))
    given.append(("beside", run(tmp_path, "target_supervised", 95)))
    judged = judge(given[3][1], given)
    assert judged["versus_baseline"]["method"] == "coral"
    assert judged["versus_baseline"]["verdict"] == "worse"
    assert [other["method"] for other in judged["beside"]] == ["coral", "adabn", "target_supervised"]


def test_negative_transfer_is_worse_and_its_gap_negative(rows):
    given = rows(method=30)
    judged = judge(given[2][1], given)
    assert judged["versus_lower"]["verdict"] == "worse"
    assert judged["recovered_gap"] == pytest.approx(-0.5)


def test_no_clear_room_leaves_no_gap_but_a_verdict(rows):
    given = rows(upper=53)
    judged = judge(given[2][1], given)
    assert judged["recovered_gap"] is None
    assert judged["recovered_gap_reason"] == "the upper reference is not clearly above the lower one"
    assert judged["versus_lower"]["verdict"] == "better"


def test_answers_to_a_stream_are_compared_example_by_example(rows):
    straight, shuffled = rows(), rows(order=np.random.default_rng(0).permutation(COUNT))
    assert judge(shuffled[2][1], shuffled)["versus_lower"] == judge(straight[2][1], straight)["versus_lower"]


def test_without_a_lower_or_an_upper_reference(rows):
    _, _, method, upper = rows()
    alone = judge(method[1], [method])
    assert alone["references"] == {"lower": None, "upper": None}
    assert (alone["versus_lower"], alone["recovered_gap"], alone["beside"]) == (None, None, [])
    assert alone["versus_baseline"] is None
    assert alone["recovered_gap_reason"] == "it has no upper or no lower reference here"
    assert judge(method[1], [method, upper])["versus_lower"] is None
    lower = rows()[0]
    judged = judge(method[1], [lower, method])
    assert judged["versus_lower"]["verdict"] == "better"
    assert judged["recovered_gap"] is None
    assert judged["recovered_gap_reason"] == "it has no upper or no lower reference here"


def test_a_run_without_target_test_examples_is_not_judged(tmp_path):
    bare = run(tmp_path, "source_only", 0, target=None)
    judged = judge(bare, [("method", bare)])
    assert (judged["versus_lower"], judged["recovered_gap"]) == (None, None)
    assert judged["recovered_gap_reason"] == "there is no target test example"


def test_a_transductive_run_says_why_there_is_no_gap(rows):
    lower, method = (next(r for role, r in rows() if role == wanted) for wanted in ("lower", "method"))
    method.result["protocol"] = {"transductive": True}
    judged = judge(method, [("lower", lower), ("method", method)])
    assert judged["recovered_gap"] is None
    assert judged["recovered_gap_reason"].startswith("train and test are the same target examples")


def test_the_verdict_can_be_written(rows, tmp_path):
    given = rows()
    record.write_result(tmp_path, {"status": "failed", **judge(given[2][1], given)})
    assert record.read(tmp_path).result["versus_lower"]["verdict"] == "better"


def test_the_table_has_a_row_a_run_with_its_role_and_remarks(tmp_path):
    first = run(tmp_path, "source_only", 50, reused=True)
    second = run(tmp_path, "adabn", 60, remarks=["no batch norm in this network"])
    third = run(tmp_path, "dann", 70, reused=True, remarks=["a note"])
    shown = table([("lower", first), ("beside", second), ("method", third), ("upper", second)])
    assert [row["role"] for row in shown] == ["lower reference", "beside", "method", "upper reference"]
    assert [row["method"] for row in shown] == ["source_only", "adabn", "dann", "adabn"]
    assert [row["note"] for row in shown] == [
        "found again",
        "no batch norm in this network",
        "found again; a note",
        "no batch norm in this network",
    ]
    assert shown[0]["target"] == first.result["target"]
    assert shown[0]["source"] == {"accuracy": 0.9}
    assert shown[0]["seconds"] == 1.5
