"""Maximum classifier discrepancy."""

from collections.abc import Generator
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.losses.discrepancy import classifier_discrepancy
from dafw.method import Method, evaluating
from dafw.registry import Range, register_method
from dafw.setting import Batch, Output, Progress, Setting, Step


@register_method
class MCD(Method):
    """Heads seek target examples they disagree on, the features leave none (Saito et al. 2018, CVPR, section 3.3).

    A batch takes 2 + `generator_steps` optimiser steps: A, everything classifies the source; B, the heads do so too
    and disagree on the target; C, the features make them agree. Each domain has a forward pass, and so batch
    statistics, of its own. The answer is the mean of both heads' logits (the ensemble of the authors' code).
    """

    setting = Setting.UNSUPERVISED

    def __init__(
        self, model: Classifier, *, weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0, generator_steps: int = 4
    ):
        super().__init__(model)
        self.weight = weight
        self.generator_steps = generator_steps
        self.second_head = model.new_head()

    def update(self, batch: Batch, progress: Progress) -> Generator[Step, None, Output | None]:
        yield Step({"classification": self.classification(batch)})
        terms = {"classification": self.classification(batch), "disagreement": -self.weight * self.discrepancy(batch)}
        yield Step(terms, only=("model.head", "second_head"))
        for _ in range(self.generator_steps):
            terms = {"discrepancy": self.weight * self.discrepancy(batch)}
            yield Step(terms, only=("model.backbone", "model.bottleneck"))
        return None

    def classification(self, batch: Batch) -> Tensor:
        """The cross-entropy of both heads on the source, summed."""
        first, second = self.both_logits(batch.source.inputs)
        return F.cross_entropy(first, batch.source.labels) + F.cross_entropy(second, batch.source.labels)

    def discrepancy(self, batch: Batch) -> Tensor:
        """How much the heads disagree on the target."""
        return classifier_discrepancy(*self.both_logits(batch.target.inputs))

    def both_logits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(inputs)
        return output.logits, self.second_head(output.features).float()

    def predict(self, inputs: Tensor, domain: int = -1) -> Output:
        with evaluating(self), torch.no_grad():
            output = self.model(inputs)
            return Output(output.features, (output.logits + self.second_head(output.features).float()) / 2)
