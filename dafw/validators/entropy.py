"""Entropy of predictions on the target."""

from dafw.evidence import Evidence
from dafw.losses.entropy import entropy
from dafw.registry import register_validator


@register_validator(higher_is_better=False, sees=("target",))
def target_entropy(seen: Evidence) -> float:
    """The mean entropy of the predictions on target validation (Morerio et al. 2018, ICLR, arXiv 1711.10288).

    In nats, from 0 to log C. A model that calls everything one class with certainty gets the best value, 0.
    """
    return float(entropy(seen.target.logits.double()).mean())
