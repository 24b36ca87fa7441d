"""How certain, and how mixed up, predictions are. All take logits (B, K) and stay finite for any finite logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """H(p) = -sum_k p_k log p_k in nats of each row's softmax: (B, K) → (B,), from 0 to log K."""
    log_p = F.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """H of the mean prediction of a batch, in nats: (B, K) → a scalar from 0 (one class only) to log K (all alike).

    Minus this is the diversity term of information maximisation; `entropy(logits).mean() - marginal_entropy(logits)`
    is the whole (Liang et al. 2020, ICML, eq. 3).
    """
    log_mean = torch.logsumexp(F.log_softmax(logits, dim=1), dim=0) - math.log(len(logits))
    return -(log_mean.exp() * log_mean).sum()


def minimum_class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """How much of the predictions' mass classes share: (B, K) → a scalar in [0, 1] (Jin et al. 2020, ECCV, section 3).

    With p the softmax of logits / temperature, w_i = 1 + exp(-H(p_i)) scaled to a sum of B (held constant, as in the
    authors' code) and C_jk = sum_i w_i p_ij p_ik with rows scaled to 1, it is the sum of C's off-diagonal over K.
    """
    scaled = logits / temperature
    p = scaled.softmax(1)
    with torch.no_grad():
        certainty = 1 + torch.exp(-entropy(scaled))
        certainty = certainty * (len(logits) / certainty.sum())
    weighted = certainty[:, None] * p
    # A row of p sums to 1, so row j of C sums to the mass of class j: C need not be built. A class whose mass
    # underflows to 0 counts as wholly confused, which is the limit of its row as the mass falls.
    mass = weighted.sum(0).clamp_min(torch.finfo(p.dtype).tiny)
    return 1 - ((weighted * p).sum(0) / mass).mean()
