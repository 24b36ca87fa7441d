"""The small network of the default recipe."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.errors import UsageError
from dafw.registry import register_backbone


class ConvNet(Backbone):
    """3x3 convolutions with batch norm and ReLU, (w, w) pool (2w, 2w) pool 4w, averaged to 2x2: 16 w features."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        for out, repeats in ((width, 2), (2 * width, 2), (4 * width, 1)):
            for _ in range(repeats):
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers[:-1])  # no pooling after the last convolution but the average
        self.features = 4 * 4 * width

    def forward(self, inputs: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.layers(self.normalise(inputs)), 2).flatten(1)


@register_backbone
def convnet(shape: tuple[int, ...], pretrained: bool, *, width: int = 16) -> Backbone:
    """The small network of the default recipe: five 3x3 convolutions, 0.1 M parameters at width 16."""
    if width < 1:
        raise UsageError(f"backbone.width={width}: expected 1 or more, as in backbone.width=16")
    if pretrained:
        raise UsageError(
            "convnet has no published weights; expected init=random, or backbone=published, or a timm name"
        )
    return ConvNet(shape[0], width)


convnet.recipe = {
    "backbone.feature_dim": 128,
    "train.optimizer": "sgd",
    "train.lr": 0.05,
    "train.weight_decay": 5e-4,
    "train.steps": 500,
}
