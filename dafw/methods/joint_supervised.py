"""Training on the labelled source and the labelled target: the upper reference."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class JointSupervised(Method):
    """Cross-entropy of labelled source and target together (Ben-David et al. 2010, Machine Learning 79).

    One forward pass, and the mean over all examples of both batches: every label weighs the same, so the domains weigh
    the same where both batches are full, and the target less where few shots make its batch small. With few shots it is
    the baseline "S+T" of the semi-supervised literature (Saito et al. 2019, ICCV).
    """

    setting = Setting.JOINT_SUPERVISED

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        source, shots = self.model.together(batch.source.inputs, batch.shots.inputs)
        logits = torch.cat([source.logits, shots.logits])
        labels = torch.cat([batch.source.labels, batch.shots.labels])
        return {"classification": F.cross_entropy(logits, labels)}
