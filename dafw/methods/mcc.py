"""Minimum class confusion."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.losses.entropy import minimum_class_confusion
from dafw.method import Method
from dafw.registry import Range, register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class MCC(Method):
    """Target predictions that do not waver between classes (Jin et al. 2020, ECCV, arXiv 1912.03699, section 3)."""

    setting = Setting.UNSUPERVISED

    def __init__(
        self,
        model: Classifier,
        *,
        weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0,
        temperature: Annotated[float, Range(1.0, 5.0)] = 2.5,
    ):
        super().__init__(model)
        self.weight = weight
        self.temperature = temperature

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        source, target = self.model(batch.source.inputs), self.model(batch.target.inputs)
        return {
            "classification": F.cross_entropy(source.logits, batch.source.labels),
            "class_confusion": self.weight * minimum_class_confusion(target.logits, self.temperature),
        }
