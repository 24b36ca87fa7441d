"""Audio: int16 (N, samples) of one channel, brought to the backbone's sample rate and length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dafw.cache import remembered
from dafw.domain import Domain, Table, rate_of
from dafw.errors import UsageError
from dafw.modalities import Fitted

FULL_SCALE = 2**15  # int16 sound reaches from -FULL_SCALE to FULL_SCALE - 1


class Heard(NamedTuple):
    """Both splits as a backbone hears them, and what was done to them, in words."""

    train: Table
    test: Table
    changes: list[str]


_fitted: dict[Any, Heard] = {}


def fitted(
    domains: Sequence[Domain],
    image_size: int | None,
    network: Callable[..., Any],
    options: Mapping[str, Any],
    notes: list[str],
) -> Fitted:
    """Every domain at the sample rate and the length that the registered backbone's `waveform(**options)` gives."""
    if image_size is not None:
        raise UsageError(f"image_size={image_size}: these domains hold audio; leave it out")
    rate, length = network.waveform(**options)  # type: ignore[attr-defined]
    return Fitted(None, (length,), [reconciled(domain, rate, length, notes) for domain in domains])


def said(shape: tuple[int, ...]) -> dict[str, str]:
    return {"input": f"{shape[0]} samples"}


def reconciled(domain: Domain, rate: int, length: int, notes: list[str]) -> Domain:
    """The domain at this rate in Hz and this length in samples: placed (see `placed`) and resampled."""
    if domain.train is None or domain.test is None:
        return domain
    own = rate_of(domain)
    tables = domain.train, domain.test

    def made() -> Heard:
        train, test = (replace(table, inputs=_reconciled(table.inputs, own, rate, length)) for table in tables)
        return Heard(train, test, _changes([table.inputs for table in tables], own, rate, length))

    heard = remembered(_fitted, (domain.fingerprint, own, rate, length), made)
    if heard.changes:
        notes.append(f"{domain.name}: {', '.join(heard.changes)}")
    return replace(domain.with_tables(heard.train, heard.test), rate=rate)


def _changes(clips: Sequence[Tensor], rate: int, wanted: int, length: int) -> list[str]:
    """What is to be said of clips (N, T) that are given another rate and length."""
    changes = [f"{rate} → {wanted} Hz"] if rate != wanted else []
    seconds = torch.cat([past - first for first, past in map(ends_of, clips)]) / rate
    longer, shorter = (int((sign * (seconds - length / wanted) > 0).sum()) for sign in (1, -1))
    count = len(seconds)
    if longer:
        changes.append(f"{longer} of {count} clips are longer than {length / wanted:.2f} s: their middle is heard")
    if shorter:
        changes.append(f"{shorter} of {count} clips are shorter than {length / wanted:.2f} s: silence before them")
    return changes


def _reconciled(clips: Tensor, rate: int, wanted: int, length: int) -> Tensor:
    """int16 clips (N, T) at another rate and length, in parts: floats of a whole data set would not fit."""
    parts = []
    for part in clips.split(256):
        heard = placed(part, -(-length * rate // wanted))
        if rate != wanted:
            heard = torch.from_numpy(as_int16(resampled(heard.numpy().astype(np.float32), rate, wanted)))
        parts.append(heard[:, heard.shape[1] - length :])
    return torch.cat(parts)


def placed(clips: Tensor, length: int) -> Tensor:
    """Clips (N, T) → (N, length): what is longer loses both ends, what is shorter ends where the window ends.

    So a network that listens to a stream hears a word: it answers when the word is over. Digital silence around a clip
    is no part of it. Source validation (source_only of frozen speech_embedding, six splits with 30 % held out) cannot
    tell this from silence on both sides, .974 and .979 on espeak, .998 and .995 on two speakers of spoken_digits; with
    silence after the clip it falls to .894 and .849.
    """
    first, past = ends_of(clips)
    end = torch.minimum(past, first + (past - first + length) // 2).unsqueeze(1)
    places = end + torch.arange(-length, 0)
    return clips.gather(1, places.clamp(0, clips.shape[1] - 1)).masked_fill_(places < first.unsqueeze(1), 0)


def ends_of(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Where each clip (N, T) has its first sample that is not 0, and the place after its last, (N,) each."""
    sounding = clips != 0
    first, last = sounding.byte().argmax(1), clips.shape[1] - 1 - sounding.byte().flip(1).argmax(1)
    return first, torch.where(sounding.any(1), last + 1, first)


def resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Samples (..., T) at `rate` Hz → (..., ceil(T wanted / rate)) at `wanted` Hz, by scipy's polyphase filter."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    result: NDArray[np.float32] = resample_poly(samples, wanted // common, rate // common, axis=-1)
    return result


def as_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in units of the smallest step of int16, rounded to it and clipped at full scale."""
    return np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
