"""Every warning is heard on a case made for it, and a healthy run is left in peace."""

import copy
from typing import Any

import pytest

from dafw import symptoms


def reliability(ece: float, confidence: float, accuracy: float) -> dict[str, Any]:
    return {"ece": ece, "nll": 1.0, "confidence": confidence, "accuracy": accuracy, "bins": {}}


HEALTHY: dict[str, Any] = {
    "method": "dann",
    "steps": 500,
    "classes": ["ant", "bee", "cat", "dog"],
    "config": {"method": {"name": "dann", "weight": 1.0, "hidden": 1024}},
    "references": {"lower": {"method": "source_only", "accuracy": 0.7}, "upper": None},
    "versus_lower": {"difference": 0.1, "p": 0.001, "verdict": "better", "test": "McNemar, one seed"},
    "diagnosis": {
        "calibration": {
            "before": reliability(0.1, 0.9, 0.8),
            "after": reliability(0.08, 0.88, 0.8),
            "temperature": 1.2,
            "at_bound": False,
        },
        "predictions": {"examples": [25, 25, 25, 25], "predicted": [30, 20, 22, 28]},
        "a_distance": 1.2,
        "drift": {
            "mean_shift": 0.1,
            "layers": [
                {"layer": "model.a", "mean_shift": 0.05, "log_variance_ratio": 0.1},
                {"layer": "model.b", "mean_shift": 0.15, "log_variance_ratio": 0.1},
            ],
        },
        "against_lower": {
            "per_class": [
                {"class": "ant", "examples": 25, "accuracy": 0.9, "lower": 0.5, "change": 0.4, "p": 0.01},
                {"class": "bee", "examples": 25, "accuracy": 0.5, "lower": 0.6, "change": -0.1, "p": 0.5},
                {"class": "dog", "examples": 25, "accuracy": 0.3, "lower": 0.9, "change": -0.6, "p": 0.01},
            ],
            "source": {"accuracy": 0.97, "lower": 0.99, "change": -0.02},
        },
    },
}


def metrics(*accuracies: float) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"step": i, "discriminator_accuracy": a} for i, a in enumerate(accuracies)]
    return [*lines, {"step": 99, "source/validation_accuracy": 0.9}, {"step": 99, "discriminator_accuracy": None}]


LEARNT = metrics(*[0.5, 0.7, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.5] * 3)  # learnt first, then fooled


def changed(path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(HEALTHY)
    *parents, last = path.split("/")
    node = result
    for name in parents:
        node = node[name]
    node[last] = value
    return result


def the_one(found: list[str]) -> str:
    assert len(found) == 1, found
    assert "\n" not in found[0]
    assert " try " in found[0] or "look at" in found[0]
    return found[0]


def test_a_healthy_run_is_left_in_peace():
    assert symptoms.warnings(HEALTHY, LEARNT) == []


@pytest.mark.parametrize("found", [None, {}])
def test_a_run_without_a_diagnosis_or_a_reference_has_no_symptom(found: Any):
    result = {"classes": ["a"], "steps": 0, "diagnosis": found, "versus_lower": None, "references": {"lower": None}}
    assert symptoms.warnings(result, []) == []
    assert symptoms.warnings({"classes": ["a"], "steps": 0}, []) == []


def test_parts_that_are_not_there_have_no_symptom():
    nothing = dict.fromkeys(HEALTHY["diagnosis"])
    assert symptoms.warnings(changed("diagnosis", nothing), LEARNT) == []


def test_negative_transfer_names_the_classes_that_were_harmed():
    result = changed("versus_lower", {"difference": -0.123, "p": 2e-5, "verdict": "worse", "test": ""})
    line = the_one(symptoms.warnings(result, LEARNT))
    assert line.startswith("negative transfer: -12.3 points against source_only (p = 2e-05), most of all on 'dog' ")
    assert "on 'dog' (0.90 to 0.30), 'bee' (0.60 to 0.50); " in line
    assert "ant" not in line.split(";")[0].split("source_only")[1]
    assert "try a smaller method.weight, fewer train.steps" in line


def test_a_difference_that_is_not_significant_is_no_negative_transfer():
    result = changed("versus_lower", {"difference": -0.123, "p": 0.2, "verdict": "undecided", "test": ""})
    assert symptoms.warnings(result, LEARNT) == []


def test_a_class_that_is_never_predicted():
    predictions = {"examples": [25, 24, 26, 25], "predicted": [38, 0, 36, 26]}
    line = the_one(symptoms.warnings(changed("diagnosis/predictions", predictions), LEARNT))
    assert line.startswith("collapsed predictions: never predicted: 'bee', 1 of 4 classes, though 24 of 100 target")


@pytest.mark.parametrize("few", [0, 4])
def test_a_class_with_hardly_an_example_may_be_missed(few: int):
    predictions = {"examples": [25, few, 25, 25], "predicted": [25 + few, 0, 25, 25]}
    assert symptoms.warnings(changed("diagnosis/predictions", predictions), LEARNT) == []


def test_many_collapsed_classes_are_counted_not_listed():
    names = [f"c{i}" for i in range(20)]
    result = changed("diagnosis/predictions", {"examples": [10] * 20, "predicted": [200] + [0] * 19})
    collapsed, near = symptoms.warnings({**result, "classes": names}, LEARNT)
    assert "'c1', 'c2', 'c3', 'c4', 'c5' and 14 more, 19 of 20 classes, though 190 of 200" in collapsed
    assert near.startswith("near-collapse: 'c0' is predicted for 200 of 200 target test examples and is true of 10;")


def test_a_class_that_swallows_others_and_one_that_is_merely_large():
    swallowing = {"examples": [25, 25, 25, 25], "predicted": [41, 20, 20, 19]}
    line = the_one(symptoms.warnings(changed("diagnosis/predictions", swallowing), LEARNT))
    assert "'ant' is predicted for 41 of 100" in line
    small = {"examples": [60, 10, 20, 10], "predicted": [62, 28, 5, 5]}
    line = the_one(symptoms.warnings(changed("diagnosis/predictions", small), LEARNT))
    assert "'bee' is predicted for 28 of 100 target test examples and is true of 10" in line
    large = {"examples": [70, 10, 10, 10], "predicted": [75, 9, 8, 8]}
    assert symptoms.warnings(changed("diagnosis/predictions", large), LEARNT) == []


def test_a_discriminator_that_won():
    line = the_one(symptoms.warnings(HEALTHY, metrics(*[0.5] * 5, *[0.98] * 25)))
    assert line.startswith("discriminator won: it is right 0.98 of the time over the last third of training")
    assert "1.20 of 2" in line
    assert symptoms.warnings(HEALTHY, metrics(*[0.98] * 20, *[0.6] * 9, 0.98)) == []


def test_a_discriminator_that_lost_from_the_start():
    line = the_one(symptoms.warnings(HEALTHY, metrics(*[0.5, 0.54, 0.49] * 10)))
    assert line.startswith("discriminator lost: it is right at most 0.51 of the time in every tenth")
    assert symptoms.warnings(HEALTHY, metrics(*[0.5] * 3, *[0.7] * 3, *[0.5] * 24)) == []  # it learnt at first


def test_a_few_logged_accuracies_say_nothing():
    assert symptoms.warnings(HEALTHY, metrics(*[0.5] * 9)) == []
    assert symptoms.warnings(HEALTHY, metrics(*[1.0] * 9)) == []


def test_batch_norm_drift_names_the_layer():
    drift = copy.deepcopy(HEALTHY["diagnosis"]["drift"]) | {"mean_shift": 0.44}
    line = the_one(symptoms.warnings(changed("diagnosis/drift", drift), LEARNT))
    assert "0.44 standard deviations" in line
    assert "most in model.b: 0.15" in line


def test_source_accuracy_given_up():
    given_up = {"accuracy": 0.93, "lower": 0.99, "change": -0.06}
    line = the_one(symptoms.warnings(changed("diagnosis/against_lower/source", given_up), LEARNT))
    assert line.startswith("source accuracy given up: 0.930 on source test, 0.990 for the lower reference")


@pytest.mark.parametrize(("confidence", "word"), [(0.95, "overconfident"), (0.3, "underconfident")])
def test_calibration_gone_bad(confidence: float, word: str):
    result = changed("diagnosis/calibration/before", reliability(0.25, confidence, 0.6))
    line = the_one(symptoms.warnings(result, LEARNT))
    assert "error 0.25 on target test, 0.08 after temperature scaling" in line
    assert word in line
    result["diagnosis"]["calibration"]["after"] = None
    assert "after temperature" not in the_one(symptoms.warnings(result, LEARNT))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"steps": 500, "config": {"method": {"name": "dann", "weight": 1.0}}}, "a smaller method.weight, fewer"),
        (
            {"steps": 500, "config": {"method": {"name": "mcc", "mcc_weight": 1.0}}},
            "a smaller method.mcc_weight, fewer",
        ),
        ({"steps": 500, "config": {"method": {"name": "source_only"}}}, "fewer train.steps"),
        ({"steps": 0, "config": {"method": {"name": "adabn"}}}, "another method"),
    ],
)
def test_what_to_try_is_what_the_method_has(result: dict[str, Any], expected: str):
    assert symptoms.gentler(result).startswith(expected)
