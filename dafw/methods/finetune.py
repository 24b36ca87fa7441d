"""Fine-tuning of all parameters."""

import torch.nn.functional as F
from torch import Tensor

from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class Finetune(Method):
    """Cross-entropy of the shots, from the source model's weights (Yosinski et al. 2014, NeurIPS, "AnB+").

    Every parameter moves, those that were loaded at a tenth of the learning rate; the head is new where the classes
    differ. With `init=random` it is training from scratch on the same labels.
    """

    setting = Setting.TRANSFER

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"classification": F.cross_entropy(self.model(batch.shots.inputs).logits, batch.shots.labels)}
