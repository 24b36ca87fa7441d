"""How much two classifiers disagree."""

from __future__ import annotations

from torch import Tensor


def classifier_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """The mean over examples and classes of |p1 - p2|, for two logits (B, K) (Saito et al. 2018, CVPR, section 3.2)."""
    return (first.softmax(1) - second.softmax(1)).abs().mean()
