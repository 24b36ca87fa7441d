"""Fine-tuning held to its starting point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.method import Method
from dafw.registry import Range, register_method
from dafw.setting import Batch, Progress, Setting

if TYPE_CHECKING:
    from dafw.pair import Data


@register_method
class L2SP(Method):
    """Weight decay towards the loaded weights instead of 0 (Xuhong, Grandvalet & Davoine 2018, ICML, eq. 3).

    alpha/2 ||w_S - w_S^0||^2 + beta/2 ||w_N||^2: w_S are the parameters that were loaded, w_S^0 where they started, and
    w_N the others, such as a new head. The optimiser's weight decay is off for all of them. A term without parameters
    is left out: "start" where nothing was loaded, "head" where everything was.

    start_weight: alpha. The paper searches 0.001, 0.01, 0.1 and 1 for each data set; 0.01 is the default of its code,
        and of the comparison of Kumar et al. 2022.
    head_weight: beta, 0.01 throughout the paper.
    """

    setting = Setting.TRANSFER

    start_point: Tensor

    def __init__(
        self,
        model: Classifier,
        *,
        start_weight: Annotated[float, Range(0.001, 1.0, log=True)] = 0.01,
        head_weight: float = 0.01,
    ):
        super().__init__(model)
        self.start_weight = start_weight
        self.head_weight = head_weight

    def setup(self, data: Data) -> None:
        self.register_buffer("start_point", self._joined(loaded=True).detach().clone())

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        losses = {"classification": F.cross_entropy(self.model(batch.shots.inputs).logits, batch.shots.labels)}
        loaded, new = self._joined(loaded=True), self._joined(loaded=False)
        if len(loaded):
            losses["start"] = self.start_weight / 2 * (loaded - self.start_point).square().sum()
        if len(new):
            losses["head"] = self.head_weight / 2 * new.square().sum()
        return losses

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [{**group, "weight_decay": 0.0} for group in super().parameter_groups(lr)]

    def _joined(self, *, loaded: bool) -> Tensor:
        """All trained parameters that were loaded, or all that were not, in one vector."""
        named = self.model.named_parameters()
        parts = [p.flatten() for n, p in named if p.requires_grad and (n in self.model.pretrained) is loaded]
        return torch.cat(parts) if parts else torch.empty(0)
