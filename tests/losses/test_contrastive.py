"""NT-Xent against slow loops over pairs and the arithmetic of published code."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.losses.contrastive import nt_xent


@pytest.fixture
def views() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(5, 6, generator=generator)
    return first, first + 0.7 * torch.randn(5, 6, generator=generator)


def slow_nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """Chen et al. 2020, eq. 1 and algorithm 1: pairs (2k - 1, 2k) stand beside each other, one number at a time."""
    z = [row for pair in zip(first.double().tolist(), second.double().tolist(), strict=True) for row in pair]

    def similarity(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(z[i], z[j], strict=True))
        return dot / (math.hypot(*z[i]) * math.hypot(*z[j]))

    def loss(i: int, j: int) -> float:
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(len(z)) if k != i)
        return -math.log(math.exp(similarity(i, j) / temperature) / others)

    return sum(loss(k, k + 1) + loss(k + 1, k) for k in range(0, len(z), 2)) / len(z)


def published_nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """The authors' code adds the means over the two views (twice the paper's mean) and masks by subtracting 1e9."""
    a, b = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (first, second))
    mask = np.eye(len(a)) * 1e9

    def cross_entropy(scores: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores)))

    aa, bb, ab, ba = a @ a.T / temperature - mask, b @ b.T / temperature - mask, a @ b.T / temperature, b @ a.T
    return cross_entropy(np.hstack([ab, aa])) + cross_entropy(np.hstack([ba / temperature, bb]))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_equals_slow_loops_and_the_authors_code(views: tuple[Tensor, Tensor], temperature: float) -> None:
    expected = slow_nt_xent(*views, temperature)
    assert nt_xent(*views, temperature).item() == pytest.approx(expected, abs=1e-5)
    assert published_nt_xent(*views, temperature) / 2 == pytest.approx(expected, abs=1e-9)


def test_known_values() -> None:
    """Orthogonal pairs: e^(1/t) for the positive and 1 for each of the 2N - 2 negatives; all alike: log(2N - 1)."""
    eye = torch.eye(4)
    assert nt_xent(eye, eye, 0.5).item() == pytest.approx(math.log(math.exp(2) + 6) - 2, abs=1e-6)
    assert nt_xent(torch.ones(4, 3), torch.ones(4, 3), 0.5).item() == pytest.approx(math.log(7), abs=1e-6)
    assert nt_xent(torch.ones(1, 3), torch.randn(1, 3), 0.5).item() == 0.0  # no negatives: nothing to tell apart


def test_views_may_be_exchanged_and_embeddings_scaled(views: tuple[Tensor, Tensor]) -> None:
    first, second = views
    torch.testing.assert_close(nt_xent(first, second, 0.5), nt_xent(second, first, 0.5))
    torch.testing.assert_close(nt_xent(first, second, 0.5), nt_xent(3 * first, 0.1 * second, 0.5))


def test_the_gradient_pulls_positives_together_and_pushes_negatives_apart(views: tuple[Tensor, Tensor]) -> None:
    first, second = (view.clone().requires_grad_() for view in views)
    nt_xent(first, second, 0.5).backward()

    def similarities(a: Tensor, b: Tensor) -> tuple[float, float]:
        cosine = torch.cosine_similarity(a[:, None], b[None], dim=2)
        return cosine.diag().mean().item(), cosine[~torch.eye(5, dtype=torch.bool)].mean().item()

    with torch.no_grad():
        moved = similarities(first - 0.5 * first.grad, second - 0.5 * second.grad)  # type: ignore[operator]
    before = similarities(*views)
    assert moved[0] > before[0] + 1e-3
    assert moved[1] < before[1] - 1e-3


def test_degenerate_embeddings_give_finite_gradients() -> None:
    for first in (torch.zeros(3, 2), torch.full((3, 2), 1e4), torch.tensor([[1e4, -1e4]])):
        first = first.clone().requires_grad_()
        loss = nt_xent(first, torch.ones_like(first), 0.01)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(first.grad).all()  # type: ignore[arg-type]
