"""Soft neighbourhood density of the target's predictions."""

import torch
import torch.nn.functional as F

from dafw.evidence import Evidence
from dafw.registry import register_validator

TEMPERATURE = 0.05  # the paper's
ROWS = 4096  # similarities are held for so many examples at a time


@register_validator(higher_is_better=True, sees=("target",))
def soft_neighbourhood_density(seen: Evidence) -> float:
    """How many near neighbours a target prediction has, as an entropy (Saito et al. 2021, ICCV, arXiv 2108.10860).

    In nats, from 0 to log(N - 1): the mean over examples i of the entropy of the softmax over j, self left out, of
    cos(p_i, p_j) / 0.05, with p the softmax of the logits. The authors' code masks self by a cosine of -1, which
    leaves it a weight of no account; here it has none. A collapsed model gets the best value, as its examples are
    all neighbours: the paper selects among models that started from a source model.
    """
    directions = F.normalize(seen.target.logits.double().softmax(1), dim=1)
    count = len(directions)
    if count == 1:
        return 0.0
    total = 0.0
    for rows in torch.arange(count).split(ROWS):
        similarity = (directions[rows] @ directions.T).sub_(1).div_(TEMPERATURE)  # at most 0, so exp cannot overflow
        weight = similarity.exp()
        weight[torch.arange(len(rows)), rows] = 0
        mass = weight.sum(1)
        total += float((mass.log() - similarity.mul_(weight).sum(1) / mass).sum())
    return total / count
