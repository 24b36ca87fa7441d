"""One run judged by its references: verdict, recovered gap, and the rows of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dafw import symptoms
from dafw.class_changes import against
from dafw.evaluation import recovered_gap_of_one_seed, verdict_of_one_seed
from dafw.record import Record

ROLES = {
    "lower": "lower reference",
    "baseline": "cheap baseline",
    "method": "method",
    "upper": "upper reference",
    "beside": "beside",
}


def in_split_order(record: Record) -> Any:
    """Which target test examples are right, sorted by their row, so that two runs can be compared."""
    saved = record.predictions()
    return (saved["predicted"] == saved["labels"])[np.argsort(saved["index"])]


def judge(record: Record, rows: Sequence[tuple[str, Record]]) -> dict[str, Any]:
    """The keys of result.json that compare a run with its references; null where there is nothing to compare."""
    by_role = {role: other for role, other in rows if role in ("lower", "upper")}
    references = {
        role: {"method": other.result["method"], "accuracy": other.accuracy, "run": str(other.folder)}
        for role, other in by_role.items()
        if other.result["target"] is not None
    }
    judged: dict[str, Any] = {
        "references": {role: references.get(role) for role in ("lower", "upper")},
        "beside": [
            {"method": r.result["method"], "accuracy": r.accuracy, "run": str(r.folder)}
            for role, r in rows
            if role in ("baseline", "beside")
        ],
        "recovered_gap": None,
        "recovered_gap_reason": None,
        "versus_lower": None,
        "versus_baseline": None,
    }
    if record.result["target"] is None:
        judged["recovered_gap_reason"] = "there is no target test example"
        return judged
    right = in_split_order(record)
    baselines = [other for role, other in rows if role == "baseline" and other.result["target"] is not None]
    if baselines:  # the best of them by its test accuracy, which is in its favour
        best = max(baselines, key=lambda other: other.accuracy)
        judged["versus_baseline"] = {
            "method": best.result["method"],
            "accuracy": best.accuracy,
            **verdict_of_one_seed(right, in_split_order(best))._asdict(),
        }
    if "lower" in references:
        lower = in_split_order(by_role["lower"])
        judged["versus_lower"] = verdict_of_one_seed(right, lower)._asdict()
        if "upper" in references:
            gap = recovered_gap_of_one_seed(right, lower, in_split_order(by_role["upper"]))
            judged["recovered_gap"] = gap.value
            judged["recovered_gap_reason"] = gap.reason or None
            return judged
    judged["recovered_gap_reason"] = "it has no upper or no lower reference here"
    if record.result.get("protocol", {}).get("transductive"):
        judged["recovered_gap_reason"] = "train and test are the same target examples, so no reference may use labels"
    return judged


def diagnosed(record: Record, rows: Sequence[tuple[str, Record]]) -> dict[str, Any]:
    """The keys of result.json that say why: what the lower reference adds to the diagnosis, and warnings in words."""
    result = record.result
    lower = dict(rows).get("lower")
    found = result.get("diagnosis")
    if found is not None:
        changes = against(record, lower) if lower is not None and lower.result["target"] is not None else None
        found = {**found, "against_lower": changes}
    return {"diagnosis": found, "warnings": symptoms.warnings({**result, "diagnosis": found}, record.metrics())}


def table(rows: Sequence[tuple[str, Record]]) -> list[dict[str, Any]]:
    """The rows of the final table."""
    shown = []
    for role, record in rows:
        notes = [*(["found again"] if record.reused else []), *record.result["remarks"]]
        shown.append(
            {
                "role": ROLES.get(role, role),  # a run that an option names, such as a teacher, is called by it
                "method": record.result["method"],
                "target": record.result["target"],
                "source": record.result["source"],
                "seconds": record.result["seconds"],
                "note": "; ".join(notes),
            }
        )
    return shown
