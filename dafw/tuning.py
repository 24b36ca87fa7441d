"""Equal tuning: every method gets the same number of random trials, and a validator chooses among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dafw.registry import METHODS, options
from dafw.selection import chosen, score_of
from dafw.split import mixed_seed
from dafw.store import as_typed


def trials(method: str, count: int, seed: int) -> list[list[str]]:
    """The words of `count` random draws from the ranges that a method's hyper-parameters declare.

    They do not depend on the pair. A method that declares no range has one trial, its defaults.
    """
    ranges = [option for option in options(METHODS.get(method.split("/")[0])) if option.range is not None]
    if not ranges:
        return [[]]
    random = np.random.default_rng(mixed_seed("tuning", method, seed))
    drawn = []
    for _ in range(count):
        values = {o.name: o.range.at(random.random()) for o in ranges if o.range is not None}
        whole = {o.name for o in ranges if o.type is int}
        drawn.append([as_typed(f"method.{k}", round(v) if k in whole else v) for k, v in values.items()])
    return drawn


def best(results: Sequence[Mapping[str, Any] | None], validator: str) -> int | None:
    """Which trial the validator chooses, by its value for the state that each run kept; None where none has one.

    results: result.json of each trial, None for one that failed
    """
    _, higher_is_better = score_of(validator)
    return chosen([None if r is None else r["validators"].get(validator) for r in results], higher_is_better)
