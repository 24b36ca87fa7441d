"""What a validator may see of a model: source validation with its labels, target validation without."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dafw.errors import UsageError
from dafw.registry import VALIDATORS
from dafw.setting import Output
from dafw.split import Split

if TYPE_CHECKING:
    from dafw.classifier import Classifier


@dataclass(frozen=True)
class Evidence:
    """Features and logits of the two validation splits; a target label has no place in it.

    source, source_labels: of source validation, features (M, D), logits (M, C), labels (M,) int64; None where the
        setting or the protocol leaves no source validation
    target: of unlabelled target validation, features (N, D), logits (N, C); None where none is set aside
    source_inputs, target_inputs, predict, fresh_model: for the validators that are run only when named: the inputs of
        the two splits, `Method.predict`, and the classifier as it was before training. They are called, not held
    """

    source: Output
    source_labels: Tensor
    target: Output
    source_inputs: Callable[[], Tensor]
    target_inputs: Callable[[], Tensor]
    predict: Callable[[Tensor], Output]
    fresh_model: Callable[[], Classifier]

    def has(self, part: str) -> bool:
        """Whether the part that a validator `sees` ("source" or "target") is there."""
        return getattr(self, part) is not None


def evidence_of(
    method: Any, source: Split | None, target: Split | None, fresh_model: Callable[[], Classifier]
) -> Evidence:
    """One forward pass over each validation split; on the CPU, where the validators work."""

    def outputs(split: Split | None) -> Any:
        return None if split is None or not len(split) else Output(*(t.cpu() for t in split.outputs(method)))

    labels: Any = None if source is None else source.labels
    return Evidence(
        source=outputs(source),
        source_labels=labels,
        target=outputs(target),
        source_inputs=lambda: _inputs(source),
        target_inputs=lambda: _inputs(target),
        predict=method.predict,
        fresh_model=fresh_model,
    )


def _inputs(split: Split | None) -> Tensor:
    assert split is not None
    return split.inputs


def cheap_validators() -> list[str]:
    """The validators that every evaluation point logs."""
    return [name for name in VALIDATORS.names() if not VALIDATORS.get(name).only_named]


def validate(seen: Evidence, names: list[str]) -> Mapping[str, float]:
    """The value of each validator that has all it sees. Raises UsageError where one fails or returns no float."""
    values = {}
    for name in names:
        validator = VALIDATORS.get(name)
        if all(map(seen.has, validator.sees)):
            try:
                value = validator(seen)
            except Exception as error:  # a stranger's code may fail in any way; it is named, never ignored
                raise UsageError(
                    f"the validator {name!r} fails: {type(error).__name__}: {error}; mend it, or leave its plug-in out"
                ) from error
            if not isinstance(value, float):
                raise UsageError(f"the validator {name!r} returned {value!r}; expected a float, as in float(score)")
            if math.isfinite(value):  # a score that does not exist is left out
                values[name] = value
    return values
