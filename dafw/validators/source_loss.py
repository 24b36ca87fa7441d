"""Cross-entropy on source validation."""

import torch.nn.functional as F

from dafw.evidence import Evidence
from dafw.registry import register_validator


@register_validator(higher_is_better=False, sees=("source",))
def source_loss(seen: Evidence) -> float:
    """The mean cross-entropy on source validation, which cannot see adaptation (Gulrajani and Lopez-Paz 2021, ICLR,
    section 3).

    In nats. The paper selects by accuracy on training-domain validation; the loss in its place is ours: it still
    tells models apart once all of them answer every source example right.
    """
    return float(F.cross_entropy(seen.source.logits.double(), seen.source_labels))
