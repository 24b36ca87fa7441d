"""Views of sound: split (N, T) int16 → (B, T) float32, full scale being 1, with a draw for every clip.

Before its beginning and past its end a clip is silent. Louder views may pass full scale: nothing is clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dafw.split import to_float

SHIFT = 0.05  # of the length, in either direction
GAIN, LARGER_GAIN = 3.0, 6.0  # dB, louder or softer
NOISE = (10.0, 30.0)  # signal-to-noise ratio in dB
CROP = 0.8  # the least of a clip that the self-supervised view keeps
MASKS = 2  # over frequency, and as many over time
FREQUENCY_MASK, TIME_MASK = 0.15, 0.1  # the widest, as a part of all bins or frames


def weak(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """Shifted by at most 5 % of the length and up to 3 dB louder or softer. `flip` has nothing to do."""
    return moved(to_float(data.index_select(0, rows).to(device)), generator, GAIN)


def strong(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
    """The weak view in white noise, 10 to 30 dB below it, then SpecAugment (see `masked`)."""
    return masked(noisy(weak(data, rows, generator, flip, device), generator), generator)


def ssl(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """80 to 100 % of the clip, from a random place, after silence, then as `strong` with up to 6 dB."""
    sound = to_float(data.index_select(0, rows).to(device))
    kept, place = torch.rand((2, len(sound)), generator=generator).to(device)
    sound = cropped(sound, CROP + (1 - CROP) * kept, place)
    return masked(noisy(moved(sound, generator, LARGER_GAIN), generator), generator)


VIEWS = {"weak": weak, "strong": strong, "ssl": ssl}


def moved(sound: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Clips (B, T), each shifted by its own draw and louder or softer by up to `most` dB."""
    reach = int(SHIFT * sound.shape[1])
    shifts = torch.randint(-reach, reach + 1, (len(sound),), generator=generator)
    decibels = most * (2 * torch.rand(len(sound), generator=generator) - 1)
    return shifted(sound, shifts.to(sound.device)) * (10 ** (decibels / 20)).to(sound.device).unsqueeze(1)


def shifted(sound: Tensor, shifts: Tensor) -> Tensor:
    """out[b, t] = sound[b, t - shifts[b]], and silence where there is none; shifts (B,) int64."""
    places = torch.arange(sound.shape[1], device=sound.device) - shifts.unsqueeze(1)
    last = sound.shape[1] - 1
    return sound.gather(1, places.clamp(0, last)).masked_fill_((places < 0) | (places > last), 0)


def cropped(sound: Tensor, kept: Tensor, place: Tensor) -> Tensor:
    """A part of each clip (B, T), moved to its end and preceded by silence, as shorter clips are.

    kept (B,): how much of the clip, place (B,): where in what is left the part begins; both in [0, 1].
    """
    total = sound.shape[1]
    lengths = (kept * total).round().long()
    starts = (place * (total - lengths)).round().long()
    silent = total - lengths
    before = torch.arange(total, device=sound.device) < silent.unsqueeze(1)
    return shifted(sound, silent - starts).masked_fill_(before, 0)


def noisy(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (B, T) with white noise; a silent clip stays silent."""
    low, high = NOISE
    ratio = low + (high - low) * torch.rand((len(sound), 1), generator=generator)
    noise = torch.randn(sound.shape, generator=generator) * 10 ** (-ratio / 20)
    return torch.addcmul(sound, noise.to(sound.device), sound.square().mean(1, keepdim=True).sqrt())


def masked(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Two bands of frequencies and two stretches of time silenced, by a Fourier transform of windows and back.

    The masks of SpecAugment (Park et al. 2019, arXiv 1904.08779, section 2), on linear frequencies and without its
    warping of time; narrower than there, up to 15 % of the bins and 10 % of the frames, since one word is short.
    """
    count, total = sound.shape
    size = min(512, 2 ** max(total.bit_length() - 4, 2))  # short clips need short windows
    window = torch.hann_window(size, device=sound.device)
    spectrum = torch.stft(sound, size, size // 4, window=window, pad_mode="constant", return_complex=True)
    over_frequency = drawn_masks(count, spectrum.shape[1], FREQUENCY_MASK, generator).to(sound.device)
    over_time = drawn_masks(count, spectrum.shape[2], TIME_MASK, generator).to(sound.device)
    spectrum = spectrum.masked_fill(over_frequency.unsqueeze(2) | over_time.unsqueeze(1), 0)
    return torch.istft(spectrum, size, size // 4, window=window, length=total)


def drawn_masks(count: int, length: int, widest: float, generator: torch.Generator) -> Tensor:
    """bool (count, length), true in `MASKS` stretches of each row, of 0 to `widest` of its length."""
    width, place = torch.rand((2, count, MASKS, 1), generator=generator)
    width = width * widest * length
    start = place * (length - width)
    places = torch.arange(length) + 0.5
    return ((places >= start) & (places < start + width)).any(1)
