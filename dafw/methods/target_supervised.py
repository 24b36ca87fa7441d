"""Training on the labelled target alone: what the target's own labels are worth."""

import torch.nn.functional as F
from torch import Tensor

from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class TargetSupervised(Method):
    """Cross-entropy of the labelled target; the source is never seen (Ben-David et al. 2010, Machine Learning 79)."""

    setting = Setting.TARGET_SUPERVISED

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"classification": F.cross_entropy(self.model(batch.shots.inputs).logits, batch.shots.labels)}
