"""Resemblyzer's network of voices, from its file of weights."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones._logmel import MelSpectrogram
from dafw.errors import UsageError
from dafw.registry import register_backbone

RATE = 16000  # Hz
BANDS, HIDDEN, LAYERS, PARTS = 40, 256, 3, 3
LOUDNESS = 0.05  # root mean square of a clip, full scale being 1
INSTALL = "type pip install --no-deps resemblyzer==0.1.4, or give its pretrained.pt by backbone.path=FILE"


class VoiceNetwork(Backbone):
    """Mel powers of a clip of one loudness, three LSTM layers, what the last says averaged over thirds of the time."""

    features = PARTS * HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = MelSpectrogram(
            rate=RATE, window=400, fft=400, hop=160, bands=BANDS, low=0, high=RATE / 2, centred=True
        )
        self.lstm = nn.LSTM(BANDS, HIDDEN, LAYERS, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        powers = self.spectrogram(at_loudness(inputs))
        spoken, _ = self.lstm(powers.transpose(1, 2))
        return F.adaptive_avg_pool1d(spoken.transpose(1, 2), PARTS).transpose(1, 2).flatten(1)

    def extra_repr(self) -> str:  # a frozen network is known by its weights and by this
        return f"loudness={LOUDNESS}, parts={PARTS}"


def at_loudness(sound: Tensor) -> Tensor:
    """Clips (B, T) scaled to a root mean square of .05; silence stays silence."""
    return sound * (LOUDNESS / sound.square().mean(1, keepdim=True).sqrt().clamp_min(1e-8))


@register_backbone
def resemblyzer(
    shape: tuple[int, ...],  # noqa: ARG001 (what every backbone is given)
    pretrained: bool,
    *,
    seconds: float = 1.0,  # noqa: ARG001 (for `waveform`)
    path: Path | None = None,
) -> Backbone:
    """Resemblyzer's LSTM, trained to tell speakers apart (Wan et al. 2018, arXiv 1710.10467): 1.4 M parameters.

    Its package is not imported.

    seconds: how much of each clip is read
    path: the file of weights, pretrained.pt; without one, the file inside the installed package resemblyzer
    """
    network = VoiceNetwork()
    if pretrained:
        network.lstm.load_state_dict(read_weights(path or packaged_weights(), network.lstm.state_dict()))
    return network


resemblyzer.licence = "Apache-2.0"
resemblyzer.modality = "audio"
resemblyzer.published = True


def waveform(*, seconds: float, path: Path | None) -> tuple[int, int]:  # noqa: ARG001 (for the weights)
    """16 kHz, and as many samples as the option says. UsageError for less than three frames."""
    if not seconds >= 0.05:
        raise UsageError(f"backbone.seconds={seconds}: expected 0.05 or more, as in backbone.seconds=1.0")
    return RATE, round(seconds * RATE)


resemblyzer.waveform = waveform


def packaged_weights() -> Path:
    """The file of weights inside the installed package, found without running the package."""
    package = importlib.util.find_spec("resemblyzer")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        file = Path(place) / "pretrained.pt"
        if file.is_file():
            return file
    raise UsageError(f"backbone=resemblyzer finds no weights: the package resemblyzer is not installed; {INSTALL}")


def read_weights(file: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The LSTM's tensors in a checkpoint of resemblyzer; UsageError for a file that has none of these shapes."""
    try:
        saved: Any = torch.load(file, map_location="cpu", weights_only=True)
        state = {name: saved["model_state"][f"lstm.{name}"] for name in wanted}
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UsageError(
            f"backbone.path: {file} is no checkpoint of resemblyzer ({type(error).__name__}: {reason}); {INSTALL}"
        ) from error
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise UsageError(
                f"backbone.path: {file} has a tensor of shape {tuple(state[name].shape)} in the place of lstm.{name}; "
                f"expected {tuple(tensor.shape)}"
            )
    return state
