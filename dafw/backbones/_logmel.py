"""Mel spectrograms, as networks of speech see them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LINEAR_TOP, PER_MEL, LOG_STEP = 1000.0, 200 / 3, np.log(6.4) / 27  # Slaney's scale: Hz, Hz a mel, and above


class MelSpectrogram(nn.Module):
    """Sound (B, T) → powers in mel bands (B, bands, frames), as librosa's `melspectrogram` computes them.

    rate: samples a second; window: samples of the periodic Hann window, in the middle of `fft` samples; hop: samples
    from frame to frame; low, high: where the lowest band begins and the highest ends, in Hz; centred: whether the
    first frame has its middle on the first sample, silence around the sound, and not its beginning
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        rate: int,
        window: int,
        fft: int,
        hop: int,
        bands: int,
        low: float,
        high: float,
        centred: bool,
    ):
        super().__init__()
        self.fft, self.hop, self.centred = fft, hop, centred
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        filters = mel_filters(bands, fft, rate, low, high)
        self.register_buffer("filters", torch.from_numpy(filters.astype(np.float32)), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        with torch.autocast(sound.device.type, enabled=False):  # powers span more than half precision holds
            spectrum = torch.stft(
                sound.float(),
                self.fft,
                self.hop,
                len(self.window),
                self.window,
                center=self.centred,
                pad_mode="constant",
                return_complex=True,
            )
            return self.filters @ torch.view_as_real(spectrum).square().sum(-1)

    def extra_repr(self) -> str:  # a frozen network is known by its weights and by this
        return f"fft={self.fft}, hop={self.hop}, centred={self.centred}"


def decibels(powers: Tensor, reach: float = 80.0) -> Tensor:
    """10 log10 of powers (B, bands, frames), each clip by itself no more than `reach` dB below its loudest."""
    levels = 10 * powers.clamp_min(1e-10).log10()
    return torch.maximum(levels, levels.amax((1, 2), keepdim=True) - reach)


def mel_filters(bands: int, fft: int, rate: int, low: float, high: float) -> NDArray[np.float64]:
    """Triangles of area 1 over frequency in Hz, (bands, fft / 2 + 1), their corners evenly spaced in mel."""
    lowest, highest = mel_of(np.array([low, high])).tolist()
    corners = hertz_of(np.linspace(lowest, highest, bands + 2))
    frequencies = np.arange(fft // 2 + 1) * rate / fft
    left, middle, right = (corners[start : start + bands, None] for start in range(3))
    rising, falling = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)


def mel_of(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale (Slaney 1998, Auditory Toolbox): linear up to 1000 Hz, then logarithmic."""
    above = LINEAR_TOP / PER_MEL + np.log(np.maximum(hertz, LINEAR_TOP) / LINEAR_TOP) / LOG_STEP
    return np.where(hertz < LINEAR_TOP, hertz / PER_MEL, above)


def hertz_of(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    bend = LINEAR_TOP / PER_MEL
    return np.where(mel < bend, mel * PER_MEL, LINEAR_TOP * np.exp((np.maximum(mel, bend) - bend) * LOG_STEP))
