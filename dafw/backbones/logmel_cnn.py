"""The small network of speech, trained from nothing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones._logmel import MelSpectrogram, decibels
from dafw.backbones.convnet import convnet
from dafw.errors import UsageError
from dafw.registry import register_backbone

RATE = 8000  # Hz: the telephone band, which all recordings of speech have
WIDTHS = (16, 32, 64)


class LogMelCNN(Backbone):
    """Log-mel spectrogram less its mean, three 3x3 convolutions with batch norm, ReLU and pooling, averaged to 2x4."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = MelSpectrogram(
            rate=RATE, window=256, fft=256, hop=128, bands=40, low=0, high=RATE / 2, centred=True
        )
        layers: list[nn.Module] = []
        for inside, outside in zip((1, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.features = 8 * WIDTHS[-1]

    def forward(self, inputs: Tensor) -> Tensor:
        levels = decibels(self.spectrogram(inputs))
        levels = (levels - levels.mean((1, 2), keepdim=True)) / 20  # loudness says nothing of what is said
        return F.adaptive_avg_pool2d(self.layers(levels[:, None]), (2, 4)).flatten(1)


@register_backbone
def logmel_cnn(
    shape: tuple[int, ...],  # noqa: ARG001 (what every backbone is given)
    pretrained: bool,
    *,
    seconds: float = 1.0,  # noqa: ARG001 (for `waveform`)
) -> Backbone:
    """A small network of speech: 40 log-mel bands at 8 kHz, three 3x3 convolutions, 0.02 M parameters.

    seconds: how much of each clip is read
    """
    if pretrained:
        raise UsageError(
            "logmel_cnn has no published weights; expected init=random and backbone.frozen=false, "
            "or backbone=speech_embedding"
        )
    return LogMelCNN()


def waveform(*, seconds: float) -> tuple[int, int]:
    """8 kHz, and as many samples as the option says. UsageError for less than the network can pool."""
    if not seconds >= 0.2:
        raise UsageError(f"backbone.seconds={seconds}: expected 0.2 or more, as in backbone.seconds=1.0")
    return RATE, round(seconds * RATE)


logmel_cnn.modality = "audio"
logmel_cnn.waveform = waveform
logmel_cnn.recipe = convnet.recipe
