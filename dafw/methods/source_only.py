"""Training on the labelled source alone: the lower reference."""

import torch.nn.functional as F
from torch import Tensor

from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class SourceOnly(Method):
    """Cross-entropy of the labelled source; the target is never seen (Ben-David et al. 2010, Machine Learning 79)."""

    setting = Setting.SOURCE_ONLY

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"classification": F.cross_entropy(self.model(batch.source.inputs).logits, batch.source.labels)}
