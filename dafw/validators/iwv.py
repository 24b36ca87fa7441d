"""Importance-weighted validation."""

import torch.nn.functional as F

from dafw.evidence import Evidence
from dafw.importance import importance_weights
from dafw.registry import register_validator


@register_validator(higher_is_better=False)
def importance_weighted_validation(seen: Evidence) -> float:
    """The source validation loss with each example weighted by how target-like it is (Sugiyama et al. 2007, JMLR 8).

    mean(w l), w from `dafw.importance` on the model's features, l the cross-entropy in nats. It estimates the target
    risk where only the inputs shift. Weights on the features of a network follow You et al. 2019, ICML.
    """
    weights = importance_weights(seen.source.features, seen.target.features)
    losses = F.cross_entropy(seen.source.logits.double(), seen.source_labels, reduction="none")
    return float((weights * losses).mean())
