"""Which checkpoint, or which hyper-parameters, are the answer. An oracle's choice is marked wherever it is used."""

from __future__ import annotations

from collections.abc import Sequence

from dafw.registry import VALIDATORS

ORACLE = "oracle/target_accuracy"  # the name of target accuracy wherever it is logged during training


def rules() -> list[str]:
    """What `select=` takes."""
    return ["last", "oracle", *VALIDATORS.names()]


def score_of(rule: str) -> tuple[str, bool]:
    """The logged value that a rule other than "last" looks at, and whether more of it is better."""
    if rule == "oracle":
        return ORACLE, True
    return f"validator/{rule}", bool(VALIDATORS.get(rule).higher_is_better)


def chosen(scores: Sequence[float | None], higher_is_better: bool) -> int | None:
    """The place of the best score; of equal ones the first, and None where there is no score."""
    best: int | None = None
    for place, score in enumerate(scores):
        if score is None:
            continue
        held = None if best is None else scores[best]
        if held is None or (score > held if higher_is_better else score < held):
            best = place
    return best
