"""Views of tokenised texts: split (N, 2, L) int64, ids and mask → (B, 2, L) int64, with a draw for every row.

A token that is left out stays in its place and is masked: attention and pooling pass over it.
"""

from __future__ import annotations

import torch
from torch import Tensor

DROPPED = 0.1  # the chance of each token
SPAN = 0.2  # the longest span that is deleted, as a fraction of a text's tokens


def weak(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """The texts as they are.

    So is the view of self-supervised methods: two passes differ by the network's own dropout (SimCSE, Gao et al. 2021,
    EMNLP, section 3).
    """
    return data.index_select(0, rows).to(device)


def strong(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """Each token dropped with probability .1, then one span deleted, its length uniform up to a fifth of the text.

    The first token and the last, which tokenisers of the BERT family add, stay; so does a text that would lose all
    others.
    """
    tokens = data.index_select(0, rows)
    mask = tokens[:, 1].cpu() > 0
    inner = (mask.sum(1) - 2).clamp_min(0)  # tokens of the text itself, at 1 to `inner`
    place = torch.arange(mask.shape[1])
    dropped = torch.rand(mask.shape, generator=generator) < DROPPED
    draws = torch.rand((2, len(rows)), generator=generator)
    length = (draws[0] * ((SPAN * inner).floor() + 1)).long()
    start = 1 + (draws[1] * (inner - length + 1)).long()
    dropped |= (place >= start[:, None]) & (place < (start + length)[:, None])
    is_inner = (place >= 1) & (place <= inner[:, None])
    kept = mask & ~(dropped & is_inner)
    emptied = (inner > 0) & ~(kept & is_inner).any(1)
    kept[emptied] = mask[emptied]
    return torch.stack([tokens[:, 0].to(device), kept.to(device, tokens.dtype)], dim=1)


VIEWS = {"weak": weak, "strong": strong, "ssl": weak}
