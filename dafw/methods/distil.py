"""Knowledge distillation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.method import Method
from dafw.registry import Range, register_method
from dafw.setting import Batch, Progress, Setting

if TYPE_CHECKING:
    from dafw.pair import Data


def soft_label_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over logits (B, C): a scalar.

    Hinton et al. 2015, section 2: it differs from the cross-entropy with soft labels by the entropy of these, a
    constant, so that 0 means agreement; T^2 keeps the gradient's size whatever T.
    """
    student, teacher = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


@register_method
class Distil(Method):
    """What another run answers to the target, learnt by any network (Hinton et al. 2015, arXiv 1503.02531, section 2).

    The student sees unlabelled target inputs alone: it learns the teacher's softened logits, and its features after
    the bottleneck, through a linear regressor where the student's are of another width (FitNets, Romero et al. 2015,
    ICLR, eq. 3, as a mean over the features). Both look at the same view (Beyer et al. 2022, CVPR, section 3.1), unless
    the teacher takes other inputs (other tokens, another sample rate or size): then it answers each example as it is.
    The student starts where `init` says; the teacher is in eval mode, and is neither trained nor saved.

    teacher: the folder of a finished run with the same classes, of any method and backbone
    temperature: T, by which the logits of both are divided. It and features_weight are those of 16 choices that the
        validator im likes best on synth→digits, by its mean over three seeds
    """

    setting = Setting.SOURCE_FREE
    runs = ("teacher",)
    sample = {"teacher": Path("run")}
    exempt = {"check_hyperparameters:teacher": "the made pair has one start model, whatever the folder"}

    def __init__(
        self,
        model: Classifier,
        *,
        teacher: Path,
        temperature: Annotated[float, Range(1.0, 8.0)] = 4.0,
        logits_weight: float = 1.0,
        features_weight: Annotated[float, Range(0.03, 30.0, log=True)] = 0.1,
    ):
        super().__init__(model)
        if temperature <= 0:
            given = f"method.temperature={temperature:g}"
            raise UsageError(f"{given}: expected a positive number, as in method.temperature=4")
        self.teacher = teacher
        self.temperature = temperature
        self.logits_weight = logits_weight
        self.features_weight = features_weight
        self.regressor: nn.Module = nn.Identity()

    def setup(self, data: Data) -> None:
        teacher = data.teacher(self.teacher)
        self._answer = teacher.answer
        own = self.model.feature_dim
        if own != teacher.feature_dim:
            self.regressor = nn.Linear(own, teacher.feature_dim).to(self.model.head.weight.device)

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        teacher, student = self._answer(batch.target), self.model(batch.target.inputs)
        self.log(agreement=(student.logits.argmax(1) == teacher.logits.argmax(1)).float().mean())
        divergence = soft_label_divergence(student.logits, teacher.logits, self.temperature)
        return {
            "logits": self.logits_weight * divergence,
            "features": self.features_weight * F.mse_loss(self.regressor(student.features), teacher.features),
        }
