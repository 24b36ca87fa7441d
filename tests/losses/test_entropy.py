"""Entropies and class confusion against NumPy, slow loops and the formulas of published code."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.losses.entropy import entropy, marginal_entropy, minimum_class_confusion


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(1))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def probabilities(logits: Tensor) -> np.ndarray:
    return softmax(logits.double().numpy())


def slow_class_confusion(logits: Tensor, temperature: float) -> float:
    """Jin et al. 2020, eq. 2 to 8, one number at a time."""
    batch, classes = logits.shape
    p = softmax(logits.double().numpy() / temperature)  # eq. 4
    raw = [1 + math.exp(sum(p[i, j] * math.log(p[i, j]) for j in range(classes))) for i in range(batch)]
    weights = [batch * w / sum(raw) for w in raw]  # eq. 5
    confusion = [
        [sum(weights[i] * p[i, j] * p[i, k] for i in range(batch)) for k in range(classes)] for j in range(classes)
    ]  # eq. 6
    return (
        sum(confusion[j][k] / sum(confusion[j]) for j in range(classes) for k in range(classes) if j != k) / classes
    )  # eq. 7 and 8


def published_class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """The arithmetic of the authors' code, which builds the matrix and divides its columns by its row sums."""
    p = (logits / temperature).softmax(1)
    weight = 1 + torch.exp(-(-p * torch.log(p + 1e-5)).sum(1)).detach()
    weight = len(logits) * weight / weight.sum()
    matrix = (p * weight[:, None]).T @ p
    matrix = matrix / matrix.sum(1)
    return (matrix.sum() - matrix.trace()) / logits.shape[1]


def gradient(function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    function(logits).backward()
    assert logits.grad is not None
    return logits.grad


def test_entropy_is_that_of_each_row(logits: Tensor) -> None:
    p = probabilities(logits)
    expected = [-sum(q * math.log(q) for q in row) for row in p]
    torch.testing.assert_close(entropy(logits).double(), torch.tensor(expected).double(), atol=1e-5, rtol=1e-5)


def test_marginal_entropy_is_that_of_the_mean(logits: Tensor) -> None:
    mean = probabilities(logits).mean(0)
    assert marginal_entropy(logits).item() == pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-5)


def test_information_maximisation_equals_the_authors_code(logits: Tensor) -> None:
    p = probabilities(logits)
    published = (-p * np.log(p + 1e-5)).sum(1).mean() - (-p.mean(0) * np.log(p.mean(0) + 1e-5)).sum()
    assert (entropy(logits).mean() - marginal_entropy(logits)).item() == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_confusion_equals_its_equations(logits: Tensor, temperature: float) -> None:
    expected = slow_class_confusion(logits, temperature)
    assert minimum_class_confusion(logits, temperature).item() == pytest.approx(expected, abs=1e-5)
    assert published_class_confusion(logits, temperature).item() == pytest.approx(expected, abs=1e-4)


def test_class_confusion_has_the_gradient_of_the_authors_code(logits: Tensor) -> None:
    ours = gradient(lambda x: minimum_class_confusion(x, 2.5), logits)
    theirs = gradient(lambda x: published_class_confusion(x, 2.5), logits)
    assert ours.abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_known_values() -> None:
    equal = torch.full((5, 4), 2.0)
    torch.testing.assert_close(entropy(equal), torch.full((5,), math.log(4)))
    assert marginal_entropy(equal).item() == pytest.approx(math.log(4), abs=1e-6)
    assert minimum_class_confusion(equal, 2.5).item() == pytest.approx(3 / 4, abs=1e-6)
    certain = 100 * torch.eye(4)
    torch.testing.assert_close(entropy(certain), torch.zeros(4))
    assert marginal_entropy(certain).item() == pytest.approx(math.log(4), abs=1e-6)
    assert minimum_class_confusion(certain, 2.5).item() == pytest.approx(0, abs=1e-6)


def test_a_step_down_the_gradient_lowers_each(logits: Tensor) -> None:
    functions = {
        "entropy": lambda x: entropy(x).mean(),
        "marginal": marginal_entropy,
        "confusion": lambda x: minimum_class_confusion(x, 2.5),
    }
    for name, function in functions.items():
        moved = logits - 0.1 * gradient(function, logits)
        assert function(moved) < function(logits) - 1e-5, name


def test_certain_examples_weigh_more_in_the_confusion() -> None:
    """Without the weights of eq. 5 the mass of the two halves would be equal and so this value another."""
    logits = torch.tensor([[6.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    p = probabilities(logits)
    unweighted = 1 - ((p**2).sum(0) / p.sum(0)).mean()
    assert minimum_class_confusion(logits, 1.0).item() < unweighted - 0.01


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]),
        torch.tensor([[1e4, -1e4, -1e4]]).repeat(4, 1),  # a batch of one class, the others' mass underflows
        torch.zeros(4, 3),
        torch.tensor([[2.0, -1.0, 0.5]]),  # a batch of one
    ],
    ids=["extreme", "one class", "equal", "one example"],
)
def test_degenerate_logits_give_finite_values_and_gradients(logits: Tensor) -> None:
    for function in (lambda x: entropy(x).mean(), marginal_entropy, lambda x: minimum_class_confusion(x, 2.5)):
        assert torch.isfinite(function(logits))
        assert function(logits) >= -1e-6
        assert torch.isfinite(gradient(function, logits)).all()


def test_a_class_that_vanishes_is_wholly_confused_as_in_the_limit() -> None:
    """The mass of two classes falls to 0: their rows tend to wholly confused, and do not jump when it underflows."""
    nearly, gone = (minimum_class_confusion(torch.tensor([[x, 0.0, 0.0]] * 3), 1.0).item() for x in (20.0, 1e4))
    assert nearly == pytest.approx(2 / 3, abs=1e-5)
    assert gone == pytest.approx(2 / 3, abs=1e-6)
