"""The classifier discrepancy against a slow loop."""

import math

import pytest
import torch

from dafw.losses.discrepancy import classifier_discrepancy


def test_equals_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    first, second = (2 * torch.randn(5, 3, generator=generator) for _ in range(2))
    total = 0.0
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        for a, b in zip(one, two, strict=True):
            total += abs(math.exp(a) / sum(map(math.exp, one)) - math.exp(b) / sum(map(math.exp, two)))
    assert classifier_discrepancy(first, second).item() == pytest.approx(total / 15, abs=1e-6)


def test_known_values() -> None:
    sure = 1e4 * torch.eye(2)
    assert classifier_discrepancy(sure, sure.flip(0)).item() == 1.0  # two classes, sure of opposite ones
    assert classifier_discrepancy(sure, sure).item() == 0.0
    assert classifier_discrepancy(sure, sure + 7).item() == 0.0  # a shift of all logits changes no probability


def test_symmetric_and_its_gradient_brings_the_two_together() -> None:
    first = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    second = torch.tensor([[0.0, 1.0, 0.5]], requires_grad=True)
    loss = classifier_discrepancy(first, second)
    assert loss == classifier_discrepancy(second, first)
    loss.backward()
    assert first.grad[0, 0] > 0 > second.grad[0, 0]  # type: ignore[index]
    assert classifier_discrepancy(first - 0.1 * first.grad, second - 0.1 * second.grad) < loss - 1e-3  # type: ignore[operator]


def test_extreme_logits_give_finite_gradients() -> None:
    first = torch.tensor([[1e4, -1e4], [0.0, 0.0]], requires_grad=True)
    classifier_discrepancy(first, -first).backward()
    assert torch.isfinite(first.grad).all()  # type: ignore[arg-type]
