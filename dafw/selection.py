"""Which checkpoint of a run is the answer. An oracle's score is marked wherever it is used."""

from __future__ import annotations


def better(score: float, best: float) -> bool:
    """Whether a score replaces the best so far; of equal ones the first stays."""
    return score > best
