"""Accuracy on source validation."""

from dafw.evidence import Evidence
from dafw.registry import register_validator


@register_validator(higher_is_better=True, sees=("source",))
def source_accuracy(seen: Evidence) -> float:
    """The share of source validation that is answered right, which cannot see adaptation (Gulrajani and Lopez-Paz
    2021, ICLR, section 3)."""
    return float((seen.source.logits.argmax(1) == seen.source_labels).double().mean())
