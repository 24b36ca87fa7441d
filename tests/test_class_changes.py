"""Classes won and lost on made runs."""

from pathlib import Path

import numpy as np
import pytest

from dafw import class_changes, record
from dafw.errors import UsageError
from dafw.record import Record

CLASSES = ("ant", "bee", "cat")


def run(
    folder: Path, labels: list[int], predicted: list[int], order: list[int] | None = None, source: float | None = None
) -> Record:
    labels, predicted = np.array(labels), np.array(predicted)
    index = np.arange(len(labels)) if order is None else np.array(order)
    folder = record.new_folder(folder, "run")
    record.write_predictions(folder, np.eye(3, dtype=np.float32)[predicted[index]], labels[index], index)
    return Record(folder, {"classes": list(CLASSES), "source": source and {"accuracy": source}})


LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
LOWER = [0, 0, 2, 2, 1, 1, 1, 1]
METHOD = [0, 0, 0, 0, 1, 1, 0, 2]


def test_classes_won_and_lost_whatever_the_order_of_the_rows(tmp_path: Path):
    lower = run(tmp_path, LABELS, LOWER, source=0.9)
    for order in (None, [7, 3, 1, 0, 2, 4, 5, 6]):
        found = class_changes.against(run(tmp_path, LABELS, METHOD, order, source=0.8), lower)
        assert found["per_class"] == [
            {"class": "ant", "examples": 4, "accuracy": 1, "lower": 0.5, "change": 0.5, "p": 0.5},
            {"class": "bee", "examples": 4, "accuracy": 0.5, "lower": 1, "change": -0.5, "p": 0.5},
        ]
        assert found["confusions"] == {
            "grown": [
                {"true": "bee", "predicted": "ant", "share": 0.25},
                {"true": "bee", "predicted": "cat", "share": 0.25},
            ],
            "fallen": [{"true": "ant", "predicted": "cat", "share": 0.5}],
        }
        assert found["source"] == {"accuracy": 0.8, "lower": 0.9, "change": pytest.approx(-0.1)}


def test_without_a_source_nothing_is_given_up(tmp_path: Path):
    assert class_changes.against(run(tmp_path, LABELS, METHOD), run(tmp_path, LABELS, LOWER))["source"] is None


def test_runs_on_other_examples_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"different examples \(8 and 7\).*expected runs on one target test split"):
        class_changes.against(run(tmp_path, LABELS, METHOD), run(tmp_path, LABELS[:7], LOWER[:7]))


def test_confusion_is_of_shares():
    found = class_changes.confusion(np.array(LABELS), np.array(METHOD), 3)
    np.testing.assert_array_equal(found, [[1, 0, 0], [0.25, 0.5, 0.25], [0, 0, 0]])
