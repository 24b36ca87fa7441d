"""Mutants whose slip no check can know, a sign above all: a named test of tests/methods catches each.

The method as it is passes the same test, so that it is the test which decides.
"""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
import whole
from torch import Tensor

from dafw.classifier import Classifier
from dafw.layers import _ReverseGradient
from dafw.method import Method
from dafw.registry import METHODS
from dafw.setting import Batch

surroundings, mutated = whole.surroundings, whole.mutated  # fixtures


@pytest.fixture
def tests_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of a method's tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "methods"))
    return lambda method: importlib.import_module(f"test_{method}")


def flipped(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
    return ctx.coefficient * gradients[0], None


@pytest.mark.parametrize(
    "function",
    [
        "test_features_get_minus_lambda_times_the_discriminators_gradient",
        "test_the_two_sides_oppose_each_other",
    ],
)
def test_a_flipped_reversal_is_caught(
    function: str,
    tests_of: Callable[[str], ModuleType],
    model: Classifier,
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    method = METHODS.get("dann")(model, weight=0.7, hidden=5)
    arguments = (0.5,) if "lambda" in function else ()
    test = getattr(tests_of("dann"), function)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    test(method, batch, *arguments)
    method.load_state_dict(start)
    method.zero_grad()
    monkeypatch.setattr(_ReverseGradient, "backward", staticmethod(flipped))
    with pytest.raises(AssertionError):
        test(method, batch, *arguments)


class Slip(NamedTuple):
    """A method's source changed, and which of the tests of that method, which build it as `name`, must fail."""

    method: str
    name: str
    values: dict[str, Any]
    old: str
    new: str
    test: str


SLIPS = [
    Slip(
        "dann",
        "DANN",
        {"weight": 0.7, "hidden": 5},
        "torch.cat([source.features, target.features])",
        "torch.cat([source.features, source.features])",
        "test_both_domains_move_the_features",
    ),
    Slip(
        "dann",
        "DANN",
        {"weight": 0.7, "hidden": 5},
        "is_source[: len(source.features)] = 1.0",
        "is_source[:] = 1.0",
        "test_terms_equal_numpy",
    ),
    Slip(
        "mcc",
        "MCC",
        {},
        "minimum_class_confusion(target.logits",
        "minimum_class_confusion(source.logits",
        "test_terms_come_from_a_forward_pass_of_each_domain",
    ),
    Slip(
        "mcc",
        "MCC",
        {},
        '"class_confusion": self',
        '"class_confusion": -self',
        "test_steps_lower_the_confusion_of_the_target",
    ),
    Slip(
        "mcd",
        "MCD",
        {"weight": 0.8, "generator_steps": 2},
        '"disagreement": -self',
        '"disagreement": self',
        "test_each_step_goes_its_way",
    ),
    Slip(
        "mcd",
        "MCD",
        {"weight": 0.8, "generator_steps": 2},
        'only=("model.head", "second_head")',
        "only=()",
        "test_a_batch_is_one_step_of_all_one_of_the_heads_then_the_features",
    ),
    Slip(
        "l2sp",
        "L2SP",
        {},
        "(loaded - self.start_point)",
        "loaded",
        "test_the_start_term_is_zero_at_the_start",
    ),
]


@pytest.mark.parametrize("slip", SLIPS, ids=[f"{s.method}: {s.new}" for s in SLIPS])
def test_a_test_of_the_method_catches(
    slip: Slip,
    mutated: Callable[..., type[Method]],
    tests_of: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    module = tests_of(slip.method)
    test = getattr(module, slip.test)
    names = test.__code__.co_varnames[: test.__code__.co_argcount]

    def arguments(method_class: type[Method]) -> dict[str, Any]:
        model = copy.deepcopy(request.getfixturevalue("model"))
        torch.manual_seed(1)
        made = {"model": model, "method": method_class(model, **slip.values) if "method" in names else None}
        return {name: made[name] if name in made else request.getfixturevalue(name) for name in names}

    test(**arguments(METHODS.get(slip.method)))
    mutant = mutated(slip.method, ((slip.old, slip.new),))
    monkeypatch.setattr(module, slip.name, mutant)
    with pytest.raises(AssertionError):
        test(**arguments(mutant))
