"""The keys under which a run's final numbers stand in Weights & Biases."""

from typing import Any

from tracked import RESULT

from dafw import tracking


def test_the_summary_has_what_a_run_was_selected_and_judged_by() -> None:
    versus = {"method": "coral", "accuracy": 0.6, "difference": 0.2, "p": 0.03, "verdict": "better", "test": "McNemar"}
    said = tracking.summary(
        {
            **RESULT,
            "selection": "im",
            "selected_step": 0,
            "validators": {"im": 0.25, "entropy": 0.0},
            "versus_baseline": versus,
            "bound": {"accuracy": 0.0, "source_accuracy": 0.9, "discrepancy": 0.5, "epsilon": 0.6, "delta": 0.01},
            "command": "python -m dafw.run method=dann",
            "comparable_hash": "0123",
            "warnings": ["collapsed"],
            "diagnosis": {"calibration": {"before": {"ece": 0.5}, "bins": [1, 2]}, "helped": 3, "named": "x"},
        }
    )
    new = {
        "selection": "im",
        "selected_step": 0,
        "validator/im": 0.25,
        "validator/entropy": 0.0,
        "baseline/method": "coral",
        "baseline/accuracy": 0.6,
        "versus_baseline/difference": 0.2,
        "versus_baseline/p": 0.03,
        "versus_baseline/verdict": "better",
        "bound/accuracy": 0.0,
        "command": "python -m dafw.run method=dann",
        "comparable_hash": "0123",
        "warnings": ["collapsed"],
        "diagnosis/calibration/before/ece": 0.5,
        "diagnosis/helped": 3,
    }
    old = tracking.summary(RESULT)
    assert said == {**old, **new}
    assert not set(old) & set(new)


def test_what_does_not_exist_is_no_key_of_the_summary() -> None:
    none: dict[str, Any] = dict.fromkeys(("target", "source", "bound", "versus_lower", "versus_baseline", "selection"))
    assert tracking.summary({**none, "references": {"lower": None, "upper": None}, "seconds": 0.0}) == {"seconds": 0.0}
    assert tracking.summary({}) == {}


def test_numbers_are_found_by_their_path() -> None:
    nested = {"a": {"b": {"c": 1}, "d": 0.5}, "e": 2, "f": [1.0], "g": "1", "h": None, "i": True, "j": {}}
    assert dict(tracking.numbers(nested)) == {"a/b/c": 1, "a/d": 0.5, "e": 2}
