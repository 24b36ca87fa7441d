"""Information maximisation: certain and diverse predictions on the target."""

from dafw.evidence import Evidence
from dafw.losses.entropy import entropy, marginal_entropy
from dafw.registry import register_validator


@register_validator(higher_is_better=True, sees=("target",))
def information_maximisation(seen: Evidence) -> float:
    """The mutual information H(mean p) - mean H(p) of target validation and its predictions (Shi and Sha 2012, ICML).

    In nats, from 0 (one prediction for all, collapsed or uniform) to log C (certain, and all classes alike often). As
    a validator: Musgrave et al. 2022, arXiv 2208.07360.
    """
    logits = seen.target.logits.double()
    return float(marginal_entropy(logits) - entropy(logits).mean())
