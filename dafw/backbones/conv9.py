"""The nine-convolution networks of the published CIFAR-10 / STL-10 tables, for 32x32 images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.errors import UsageError
from dafw.registry import nearest, register_backbone


class Convolution(NamedTuple):
    """One convolution of stride 1: its output channels, kernel side and padding."""

    channels: int
    kernel: int = 3
    padding: int = 1


class Layout(NamedTuple):
    """Three groups of three convolutions, with 2x2 max-pooling and dropout .5 after the first two.

    slope: of the leaky ReLU below zero, after batch norm
    noise: standard deviation of the Gaussian noise added after dropout, in training
    standardise: whether each image is brought to mean 0 and standard deviation 1 over all its values
    """

    groups: tuple[tuple[Convolution, ...], ...]
    slope: float
    noise: float
    standardise: bool


LAYOUTS = {
    "vada": Layout(
        groups=((Convolution(96),) * 3, (Convolution(192),) * 3, (Convolution(192),) * 3),
        slope=0.1,
        noise=1.0,
        standardise=False,
    ),
    "self_ensembling": Layout(
        groups=(
            (Convolution(128),) * 3,
            (Convolution(256),) * 3,
            (Convolution(512, padding=0), Convolution(256, kernel=1, padding=0), Convolution(128, kernel=1, padding=0)),
        ),
        slope=0.0,
        noise=0.0,
        standardise=True,
    ),
}


class GaussianNoise(nn.Module):
    """Adds noise of this standard deviation in training; the identity in evaluation."""

    def __init__(self, deviation: float):
        super().__init__()
        self.deviation = deviation

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.deviation * torch.randn_like(inputs) if self.training else inputs


class Conv9(Backbone):
    """Nine convolutions and the average over all positions: features (B, channels of the last convolution)."""

    def __init__(self, channels: int, layout: Layout, instance_norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        if instance_norm:
            layers.append(nn.InstanceNorm2d(channels))
        elif layout.standardise:
            layers.append(nn.GroupNorm(1, channels, affine=False))
        for number, group in enumerate(layout.groups):
            for out, kernel, padding in group:
                layers.append(nn.Conv2d(channels, out, kernel, padding=padding, bias=False))
                layers += [nn.BatchNorm2d(out), nn.LeakyReLU(layout.slope)]
                channels = out
            if number < len(layout.groups) - 1:
                layers += [nn.MaxPool2d(2), nn.Dropout(0.5)]
                layers += [GaussianNoise(layout.noise)] if layout.noise else []
        self.layers = nn.Sequential(*layers)
        self.features = channels

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(self.normalise(inputs)).mean((2, 3))  # type: ignore[no-any-return]


@register_backbone
def conv9(shape: tuple[int, ...], pretrained: bool, *, layout: str = "vada", instance_norm: bool = False) -> Backbone:
    """The networks behind most published CIFAR-10 / STL-10 figures: nine convolutions, 2.0 or 3.1 M parameters.

    layout: "vada": 96-96-96, 192-192-192, 192-192-192 with leaky ReLU .1 and Gaussian noise, 192 features (Shu et al.
        2018, arXiv 1802.08735: the large network). "self_ensembling": 128-128-128, 256-256-256, then 512 without
        padding and 1x1 convolutions to 256 and 128, with ReLU, 128 features, on images standardised one by one
        (French et al. 2018, arXiv 1706.05208).
    instance_norm: inputs with instance normalisation, the other half of VADA's results.

    Not as published: VADA's head has batch norm after its linear layer and its discriminator reads the maps before
    the last three convolutions, here both read the pooled features; self-ensembling's code pads its 1x1 convolutions
    and then averages a corner of the map, here it is the whole map.
    """
    if pretrained:
        raise UsageError("conv9 has no published weights; expected init=random, or backbone=published, or a timm name")
    if layout not in LAYOUTS:
        raise UsageError(f"backbone.layout: conv9 has no layout {layout!r}; {nearest(layout, LAYOUTS)}")
    if min(shape[1:]) < 12:
        raise UsageError(
            f"conv9 needs images of 12 pixels or more, and was made for 32; got {shape[-1]}: type image_size=32"
        )
    return Conv9(shape[0], LAYOUTS[layout], instance_norm)


# VADA's: Adam at 1e-3 (with a first momentum of .5), for 80,000 steps; self-ensembling: the same rate, batches of 256
conv9.recipe = {
    "backbone.feature_dim": 0,
    "train.optimizer": "adamw",
    "train.lr": 1e-3,
    "train.weight_decay": 0.0,
    "train.batch_size": 64,
}
conv9.input_size = 32
conv9.channels = None
