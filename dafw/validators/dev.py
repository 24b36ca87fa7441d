"""Deep embedded validation: importance weighting with a control variate."""

import torch
import torch.nn.functional as F

from dafw.evidence import Evidence
from dafw.importance import importance_weights
from dafw.registry import register_validator

SAME = 1e-6  # weights that deviate by less are equal but for the tolerance they are fitted with


@register_validator(higher_is_better=False)
def deep_embedded_validation(seen: Evidence) -> float:
    """The importance-weighted source risk, its variance lowered by a control variate (You et al. 2019, ICML, PMLR 97).

    mean(w l) + eta mean(w) - eta with eta = -cov(w l, w) / var(w): the weights are known to have a mean of 1, and what
    they miss it by corrects the risk. l is the cross-entropy in nats as in Musgrave et al. 2022 (arXiv 2208.07360);
    the authors' code speaks of the 0-1 error, under which models that answer all of the source right are all alike.
    The weights are those of `dafw.importance`. The correction may take the value below 0. Where all weights are the
    same eta is 0 / 0, and is taken as 0 (ours).
    """
    weights = importance_weights(seen.source.features, seen.target.features)
    losses = F.cross_entropy(seen.source.logits.double(), seen.source_labels, reduction="none")
    weighted = weights * losses
    if len(weights) == 1 or float(weights.std()) < SAME:
        return float(weighted.mean())
    covariance = torch.stack([weighted, weights]).cov()
    eta = -covariance[0, 1] / covariance[1, 1]
    return float(weighted.mean() + eta * (weights.mean() - 1))
