"""Views of cached feature vectors: split (N, views, D) float32 → (B, D) float32, with a draw for every row."""

from __future__ import annotations

import torch
from torch import Tensor

DROPOUT = 0.2


def weak(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """One of the cached views at random; with a single one that is the clean view. `flip` has nothing to do."""
    count, views, width = data.shape
    drawn = torch.randint(views, (len(rows),), generator=generator).to(rows.device)
    return data.view(count * views, width).index_select(0, rows * views + drawn).to(device)


def strong(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
    """One of the cached views at random, then dropout at .2: what is kept is divided by .8."""
    features = weak(data, rows, generator, flip, device)
    kept = torch.rand(features.shape, generator=generator) >= DROPOUT
    return features * (kept.to(device) / (1 - DROPOUT))


VIEWS = {"weak": weak, "strong": strong, "ssl": strong}
