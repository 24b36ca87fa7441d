"""Domain-adversarial training of neural networks."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.layers import Discriminator, ganin_ramp, reverse_gradient
from dafw.method import Method
from dafw.registry import Range, register_method
from dafw.setting import Batch, Progress, Setting


@register_method
class DANN(Method):
    """Features that a domain discriminator cannot tell apart (Ganin et al. 2016, JMLR 17(59), eq. 9-10).

    The discriminator minimises the binary cross-entropy of source against target; the features maximise it through a
    reversed gradient whose strength follows lambda_p = 2 / (1 + exp(-10 p)) - 1. Each domain has its own forward pass,
    and so its own batch statistics, as in the code of CDAN's authors (thuml/CDAN), whose discriminator this is: two
    hidden layers of 1,024, half of them dropped.
    """

    setting = Setting.UNSUPERVISED

    def __init__(
        self, model: Classifier, *, weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0, hidden: int = 1024
    ):
        super().__init__(model)
        self.weight = weight
        self.discriminator = Discriminator(model.feature_dim, hidden)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        source, target = self.model(batch.source.inputs), self.model(batch.target.inputs)
        features = torch.cat([source.features, target.features])
        domain = self.discriminator(reverse_gradient(features, ganin_ramp(progress.fraction)))
        is_source = torch.zeros_like(domain)
        is_source[: len(source.features)] = 1.0
        self.log(discriminator_accuracy=((domain > 0) == (is_source > 0)).float().mean())
        return {
            "classification": F.cross_entropy(source.logits, batch.source.labels),
            "domain": self.weight * F.binary_cross_entropy_with_logits(domain, is_source),
        }
