"""Layers that several methods share."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradients[0], None


def reverse_gradient(inputs: Tensor, coefficient: float = 1.0) -> Tensor:
    """The identity forward, -coefficient x the gradient backward (Ganin et al. 2016, JMLR 17(59), section 4.2)."""
    return _ReverseGradient.apply(inputs, coefficient)  # type: ignore[no-any-return]


def ganin_ramp(fraction: float, gamma: float = 10.0) -> float:
    """2 / (1 + exp(-gamma p)) - 1: from 0 to 1 as training goes from p = 0 to 1 (Ganin et al. 2016, section 5.2.2)."""
    return 2.0 / (1.0 + math.exp(-gamma * fraction)) - 1.0


class HalfDropout(nn.Module):
    """nn.Dropout(0.5) of any shape, by a random byte for each input on a CPU.

    There nn.Dropout drew a 53-bit number for each, on one thread: ten times slower, as measured on an AMD EPYC.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or inputs.device.type != "cpu":
            return F.dropout(inputs, 0.5, self.training)
        count = inputs.numel()
        draws = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits of each
        # each byte, eight at once: 2 where its highest bit is 0, else 0
        factors = draws.bitwise_not_().bitwise_right_shift_(6).bitwise_and_(0x0202020202020202)
        return inputs * factors.view(torch.uint8)[:count].view(inputs.shape).to(inputs.dtype)


class Discriminator(nn.Sequential):
    """features (B, feature_dim) → one logit (B,), positive for the source.

    Two hidden layers, each with ReLU and half of it dropped: AdversarialNetwork in the code of CDAN's authors
    (thuml/CDAN, pytorch/network.py).
    """

    def __init__(self, feature_dim: int, hidden: int):
        first, second = nn.Linear(feature_dim, hidden), nn.Linear(hidden, hidden)
        super().__init__(first, nn.ReLU(), HalfDropout(), second, nn.ReLU(), HalfDropout(), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).squeeze(1)  # type: ignore[no-any-return]
