"""Linear probing, then fine-tuning."""

import torch.nn.functional as F
from torch import Tensor

from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class LPFT(Method):
    """Fine-tuning that starts from a linear probe (Kumar et al. 2022, ICLR, arXiv 2202.10054).

    A random head distorts good features in the first steps; the head of a `feature_extraction` run does not. Then the
    cross-entropy of the shots moves every parameter, the probe's head among them, at a tenth of the learning rate, as
    all were loaded. The paper sweeps the rate for each data set and publishes no one value. Its code also keeps batch
    norm in eval; here it follows the shots, as in `finetune`: source and target differ.
    """

    setting = Setting.TRANSFER
    start = "feature_extraction"

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"classification": F.cross_entropy(self.model(batch.shots.inputs).logits, batch.shots.labels)}
