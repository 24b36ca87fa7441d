"""What a backbone must offer.

A registered backbone is a function `name(shape, pretrained, *, options) -> Backbone`: `shape` is that of one example
((C, H, W) for images), `pretrained` asks for its published weights (UsageError where there are none).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Normalises inputs and turns them into features.

    features: the width of what `forward` returns, (B, features)
    input_size: the largest side of an image it wants; the pair's image size is at most this
    channels: how many channels it needs, or None for whatever the pair has
    normalised: inputs in [0, 1] are shifted by `mean` and divided by `std`, one value a channel
    """

    mean: Tensor
    std: Tensor
    features: int
    channels: int | None = None
    input_size: int = 32

    def __init__(self, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, inputs: Tensor) -> Tensor:
        """Float inputs in [0, 1], (B, C, H, W), to the scale the network was made for."""
        return (inputs - self.mean) / self.std


def recipe_of(register: Any) -> Mapping[str, Any]:
    """The values a backbone is trained with where nothing else is said (`recipe` on its function), as dotted keys."""
    return getattr(register, "recipe", {})
