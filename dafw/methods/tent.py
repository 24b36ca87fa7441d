"""Test-time adaptation by entropy minimisation."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from torch import nn

from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.losses.entropy import entropy
from dafw.method import Method
from dafw.registry import register_method
from dafw.setting import Batch, Output, Progress, Setting, Step


@register_method
class Tent(Method):
    """Batch norm's scales and shifts follow the test stream to lower entropy (Wang et al. 2021, ICLR, section 3).

    A batch is normalised by its own statistics and answered before the step that it causes. Nothing but scales and
    shifts changes: the source's running statistics are kept, unused on the stream, and normalise what `predict` is
    asked later, whose rows must not depend on each other.
    """

    setting = Setting.TEST_TIME
    start = "source_only"
    # The paper's Adam on CIFAR: batches of 200 at 1e-3. AdamW without weight decay is Adam; the rate is constant, as
    # a stream has no known end.
    recipe = {
        "train.optimizer": "adamw",
        "train.lr": 1e-3,
        "train.weight_decay": 0.0,
        "train.schedule": "constant",
        "train.batch_size": 200,
    }

    def __init__(self, model: Classifier):
        super().__init__(model)
        self.model.requires_grad_(False)
        if not any(layer.affine for layer in self.norms()):
            raise UsageError(
                "tent trains the scales and shifts of batch norm, and this network has none; expected a network with "
                "batch norm: type backbone=convnet, or backbone.feature_dim=128 for a bottleneck that has it"
            )
        for layer in self.norms():
            layer.requires_grad_(True)
            layer.track_running_stats = False  # in train mode they are neither read nor written; they stay saved

    def norms(self) -> list[nn.modules.batchnorm._BatchNorm]:
        return [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> Tent:
        """Train mode is for batch norm alone: dropout would blur the recorded answers."""
        super().train(mode)
        self.model.eval()
        for layer in self.norms():
            layer.training = mode
        return self

    def update(self, batch: Batch, progress: Progress) -> Generator[Step, None, Output | None]:
        features, logits = self.model(batch.target.inputs)
        yield Step({"entropy": entropy(logits).mean()})
        return Output(features.detach(), logits.detach())

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Scales and shifts at lr itself, though the source model brings them."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": lr}]
