"""Google's speech embedding, read from the installed wheel of openWakeWord."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones._logmel import MelSpectrogram, decibels
from dafw.errors import UsageError
from dafw.extras import imported
from dafw.registry import register_backbone

PACKAGE = "openwakeword"
RATE = 16000  # Hz
FRAMES, BANDS = 76, 32
SAMPLES = 512 + (FRAMES - 1) * 160
FULL_SCALE = 2.0**15  # it was made for sound in units of int16
# width, pairs of convolutions (along the bands, then along time), pooling (time, bands)
STAGES = ((24, 1, (2, 2)), (48, 2, (1, 2)), (72, 2, (2, 2)), (96, 2, (1, 2)), (96, 2, (2, 2)))


class SpeechEmbedding(Backbone):
    """A mel spectrogram of 76 frames and 32 bands, 20 convolutions, 96 features; batch norm is folded into all but one.

    The spectrogram's floor is 80 dB below the loudest of each clip, whatever else is in the batch.
    """

    features = 96

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = MelSpectrogram(
            rate=RATE, window=400, fft=512, hop=160, bands=BANDS, low=60, high=3800, centred=False
        )
        layers: list[nn.Module] = [nn.Conv2d(1, 24, 3, padding=(0, 1), bias=False), nn.ReLU()]
        layers += [nn.BatchNorm2d(24, eps=1e-3), *activation()]
        inside = 24
        for width, pairs, pooling in STAGES:
            for _ in range(pairs):
                layers += [nn.Conv2d(inside, width, (1, 3), padding=(0, 1)), *activation()]
                layers += [nn.Conv2d(width, width, (3, 1)), *activation()]
                inside = width
            layers.append(nn.MaxPool2d(pooling))
        self.layers = nn.Sequential(*layers, nn.Conv2d(inside, self.features, (3, 1), bias=False))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # torch's own draw fades away over 20 layers without batch norm
                nn.init.kaiming_normal_(layer.weight, a=0.2)

    def forward(self, inputs: Tensor) -> Tensor:
        levels = decibels(self.spectrogram(inputs * FULL_SCALE)).transpose(1, 2)
        return self.layers(levels[:, None] / 10 + 2).flatten(1)


def activation() -> tuple[nn.Module, ...]:
    """Leaky ReLU, never below -.4."""
    return nn.LeakyReLU(0.2), nn.Hardtanh(-0.4, float("inf"))


@register_backbone
def speech_embedding(
    shape: tuple[int, ...],  # noqa: ARG001 (what every backbone is given)
    pretrained: bool,
) -> Backbone:
    """Google's speech embedding, trained on 5,000 keywords (Lin et al. 2020, arXiv 2002.01322): 0.33 M parameters.

    It hears the first 0.78 s of a clip at 16 kHz. Its weights are read from the installed package openwakeword, which
    is not imported; the first time, what that says of their licence is printed.
    """
    network = SpeechEmbedding()
    if pretrained:
        network.layers.load_state_dict(matched(read_weights(packaged_model()), network.layers))
        tell_licence()
    return network


speech_embedding.licence = (
    "ambiguous: openWakeWord's README says that the model is Google's, under Apache-2.0, and also that all models in "
    "the package are under CC BY-NC-SA 4.0 (not for commercial use)"
)
speech_embedding.modality = "audio"
speech_embedding.published = True


def waveform() -> tuple[int, int]:
    """16 kHz and the one length it takes."""
    return RATE, SAMPLES


speech_embedding.waveform = waveform


@functools.cache
def tell_licence() -> None:
    print(
        f"backbone=speech_embedding: the licence of its weights is {speech_embedding.licence}; dafw reads the "
        "installed package and distributes nothing of it",
        flush=True,
    )


def packaged_model() -> Path:
    """The model's file inside the installed package, found without running the package."""
    package = importlib.util.find_spec(PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        file = Path(place) / "resources" / "models" / "embedding_model.onnx"
        if file.is_file():
            return file
    raise UsageError(
        "backbone=speech_embedding finds no weights: the package openwakeword 0.4.0, whose wheel holds them, is not "
        'installed; type pip install "dafw[audio]"'
    )


def read_weights(file: Path) -> list[NDArray[np.float32]]:
    """The arrays of an ONNX file's convolutions and batch norms, in the order in which they act."""
    onnx = imported("onnx", "audio", "backbone=speech_embedding")
    graph = onnx.load(str(file)).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = [node.input[1:] for node in graph.node if node.op_type in ("Conv", "BatchNormalization")]
    return [onnx.numpy_helper.to_array(constants[name]) for names in used for name in names]


def matched(arrays: list[NDArray[np.float32]], layers: nn.Module) -> dict[str, Tensor]:
    """The arrays under the layers' names, in order; UsageError where one has another shape."""
    wanted: dict[str, Any] = {
        name: tensor for name, tensor in layers.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    given, expected = [array.shape for array in arrays], [tuple(tensor.shape) for tensor in wanted.values()]
    if given != expected:
        raise UsageError(
            "backbone=speech_embedding: the installed openwakeword holds another model than the one known here; "
            "type pip install openwakeword==0.4.0"
        )
    state = {name: torch.from_numpy(array.copy()) for name, array in zip(wanted, arrays, strict=True)}
    return {**layers.state_dict(), **state}
