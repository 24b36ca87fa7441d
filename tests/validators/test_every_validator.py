"""What every registered validator must hold, a stranger's too."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_evidence import evidence, logits_of, random_evidence
from torch import Tensor

from dafw.evidence import Evidence, cheap_validators, validate
from dafw.registry import VALIDATORS, about
from dafw.setting import Output

NAMES = VALIDATORS.names()
HIGHER = {"source_accuracy", "im", "bnm", "snd", "class_ami", "mano", "mixval", "reverse"}
LOWER = {"source_loss", "entropy", "iwv", "dev"}


def made(
    *, source: int = 20, target: int = 20, classes: int = 3, scale: float = 1.0, width: int = 4, seed: int = 0
) -> Evidence:
    generator = torch.Generator().manual_seed(seed)

    def output(count: int) -> Output:
        return Output(
            torch.randn(count, width, generator=generator), scale * torch.randn(count, classes, generator=generator)
        )

    return evidence(output(source), torch.randint(classes, (source,), generator=generator), output(target))


def changed(seen: Evidence, change: Callable[[Output], Output]) -> Evidence:
    return evidence(change(seen.source), seen.source_labels, change(seen.target))


def one_class(output: Output) -> Output:
    return Output(output.features, logits_of(torch.zeros(len(output.logits), dtype=torch.long), 3, 5.0))


def constant_feature(output: Output) -> Output:
    features = output.features.clone()
    features[:, 0] = 3.3
    return Output(features, output.logits)


def constant(output: Output) -> Output:
    return Output(torch.full_like(output.features, 0.1), torch.full_like(output.logits, 0.7))


DEGENERATE = {
    "twenty examples": made(),
    "two classes": made(classes=2),
    "more classes than examples": made(source=8, target=6, classes=12),
    "logits of 1e4": made(scale=1e4),
    "one class predicted": changed(made(), one_class),
    "one class predicted with logits of 1e4": changed(made(), lambda o: Output(o.features, 1e4 * one_class(o).logits)),
    "a constant feature": changed(made(), constant_feature),
    "everything constant": changed(made(), constant),
    "features of zero": changed(made(), lambda o: Output(0 * o.features, o.logits)),
    "features of 1e6": changed(made(), lambda o: Output(1e6 * o.features, o.logits)),
    "one example each": made(source=1, target=1),
    "two examples each": made(source=2, target=2),
    "more features than examples": made(source=9, target=5, width=40),
    "half precision": changed(made(), lambda o: Output(o.features.half().float(), o.logits.bfloat16().float())),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", DEGENERATE)
def test_it_returns_a_finite_float(name: str, case: str) -> None:
    value = VALIDATORS.get(name)(DEGENERATE[case])
    assert type(value) is float
    assert math.isfinite(value)


@pytest.mark.parametrize("name", NAMES)
def test_it_returns_the_same_again_and_leaves_the_global_random_state_alone(name: str) -> None:
    validator = VALIDATORS.get(name)
    first = validator(random_evidence())
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global state is what is watched
    random.seed(123)
    again = validator(random_evidence())
    assert again == first
    drawn = torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)
    assert drawn == (torch.rand(()).item(), np.random.rand(), random.random())  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_nothing_that_it_is_given(name: str) -> None:
    seen = random_evidence()
    tensors: list[Tensor] = [*seen.source, *seen.target, seen.source_inputs(), seen.target_inputs()]
    before = [t.clone() for t in tensors]
    VALIDATORS.get(name)(seen)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_it_depends_on_what_it_sees_and_on_nothing_else(name: str) -> None:
    validator = VALIDATORS.get(name)
    seen, other = random_evidence(0), random_evidence(5)
    for part in ("source", "target"):
        mixed = dataclasses.replace(seen, **{part: getattr(other, part)})
        if part == "source":
            mixed = dataclasses.replace(mixed, source_labels=other.source_labels, source_inputs=other.source_inputs)
        else:
            mixed = dataclasses.replace(mixed, target_inputs=other.target_inputs)
        assert (validator(mixed) != validator(seen)) == (part in validator.sees)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_left_out_where_it_would_miss_something(name: str) -> None:
    seen = random_evidence()
    for part in ("source", "target"):
        missing: dict[str, Any] = {part: None}
        without = dataclasses.replace(seen, **missing)
        assert (name in validate(without, [name])) == (part not in VALIDATORS.get(name).sees)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_whose(name: str) -> None:
    validator = VALIDATORS.get(name)
    sentence, paper = about(validator)
    assert sentence
    assert paper, f"{name}: the first paragraph of its docstring names no paper with a year"
    assert isinstance(validator.higher_is_better, bool)
    assert set(validator.sees) <= {"source", "target"}
    assert validator.sees


def test_the_direction_of_each_is_the_one_its_paper_gives() -> None:
    assert set(NAMES) >= HIGHER | LOWER
    assert {name for name in HIGHER | LOWER if VALIDATORS.get(name).higher_is_better} == HIGHER


def test_those_that_run_a_model_are_computed_only_when_named() -> None:
    assert (HIGHER | LOWER) - set(cheap_validators()) == {"mixval", "reverse"}


def test_the_cheap_ones_call_nothing() -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("a cheap validator ran a model or asked for inputs")

    calls: dict[str, Any] = dict.fromkeys(("source_inputs", "target_inputs", "predict", "fresh_model"), forbidden)
    seen = dataclasses.replace(random_evidence(), **calls)
    cheap = sorted((HIGHER | LOWER) - {"mixval", "reverse"})
    assert set(validate(seen, cheap)) == set(cheap)


def test_evidence_has_no_place_for_a_target_label() -> None:
    fields = {field.name for field in dataclasses.fields(Evidence)}
    callables = {"source_inputs", "target_inputs", "predict", "fresh_model"}
    assert fields == {"source", "source_labels", "target"} | callables
    assert Output._fields == ("features", "logits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        random_evidence().target_labels = torch.zeros(3)  # type: ignore[attr-defined]
