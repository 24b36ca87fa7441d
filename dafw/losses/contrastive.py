"""Losses that compare examples with each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of two views' embeddings, (N, D) each (Chen et al. 2020, eq. 1).

    Row i of one view has row i of the other as its positive and the 2N - 2 remaining embeddings as negatives;
    similarity is the cosine. A scalar: the mean over all 2N embeddings, as in the paper's algorithm 1.
    """
    embeddings = F.normalize(torch.cat([first, second]), dim=1)
    count = len(first)
    itself = torch.eye(2 * count, dtype=torch.bool, device=first.device)
    similarity = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf)
    positive = torch.arange(2 * count, device=first.device).roll(count)
    return F.cross_entropy(similarity, positive)
