"""Nuclear norm of the predictions on the target."""

import torch

from dafw.evidence import Evidence
from dafw.registry import register_validator


@register_validator(higher_is_better=True, sees=("target",))
def nuclear_norm(seen: Evidence) -> float:
    """The nuclear norm of the target's predictions over their count, ||P||_* / N (Cui et al. 2020, CVPR, arXiv
    2003.12237).

    P (N, C) holds a row's softmax. Certain and diverse predictions reach sqrt(C / N); a certain collapsed model has
    sqrt(1 / N). As a validator: Musgrave et al. 2022, arXiv 2208.07360. It depends on N: compare models on the same
    examples.
    """
    probabilities = seen.target.logits.double().softmax(1)
    return float(torch.linalg.svdvals(probabilities).sum() / len(probabilities))
