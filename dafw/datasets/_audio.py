"""Sound files: read, resampled and brought to one length, once, into the data cache."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dafw import cache
from dafw.datasets._folders import Kind, cache_key
from dafw.errors import UsageError
from dafw.extras import imported
from dafw.modalities.audio import FULL_SCALE, as_int16, placed, resampled

CLIPS = Kind("clip", (".wav", ".flac"))
LEAST_RATE = 1000  # Hz; no speech is left below
# libsndfile reads as much of a WAV file as there is, and says only in its log that the header counts more
CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
LEAST_LACK = 64  # bytes; some recorders count the header in
STREAMED = 0x7FFF0000  # bytes; what writes into a pipe cannot know the length, and counts 0x7FFFF000 or more


class Clips(NamedTuple):
    """Clips of one length: samples (N, T) int16, and what was done to them, in words."""

    samples: Tensor
    changes: tuple[str, ...]


class Header(NamedTuple):
    """What a file says of itself: samples of one channel, rate in Hz, channels."""

    length: int
    rate: int
    channels: int


def decoded(files: Sequence[Path], base: Path, name: str, rate: int, seconds: float | None) -> Clips:
    """Clips of one channel at this rate in Hz, decoded once and memory-mapped from the data cache ever after.

    Channels are averaged. A longer clip is cut at both ends, a shorter one preceded by silence (see
    `dafw.modalities.audio.placed`); seconds None: the longest clip's length. The cache's key is of the files' names,
    sizes and times of change, in order. Raises UsageError naming a file that is no sound, has no samples, or fewer
    than 1000 a second.
    """
    key = cache_key(files, base, rate, seconds)
    path = cache.folder("datasets", "audio") / f"{key}.npy"
    changes = path.with_suffix(".json")
    if not (path.is_file() and changes.is_file()):
        print(f"{name}: decoding {len(files)} clips into the data cache, once", flush=True)
        told = _decode(files, path, rate, seconds)
        with cache.written_whole(changes) as temporary:
            temporary.write_text(json.dumps(told), encoding="utf-8")
    samples = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    return Clips(samples, tuple(json.loads(changes.read_text(encoding="utf-8"))))


def _decode(files: Sequence[Path], path: Path, rate: int, seconds: float | None) -> list[str]:
    """Write the clips as one array, and say what was done."""
    headers = [_header(file) for file in files]
    lengths = [-(-header.length * rate // header.rate) for header in headers]
    length = max(lengths) if seconds is None else round(seconds * rate)
    clipped = 0
    shape = {"descr": "<i2", "fortran_order": False, "shape": (len(files), length)}
    with cache.written_whole(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, shape)
        for file, header in zip(files, headers, strict=True):
            clip = resampled(_samples(file, header), header.rate, rate) * FULL_SCALE
            clipped += bool(np.abs(clip).max() > FULL_SCALE)
            stream.write(placed(torch.from_numpy(as_int16(clip))[None], length).numpy().astype("<i2").tobytes())
    return _changes(headers, lengths, rate, length, clipped)


def _changes(headers: Sequence[Header], lengths: Sequence[int], rate: int, length: int, clipped: int) -> list[str]:
    several = sum(header.channels > 1 for header in headers)
    others = sorted({header.rate for header in headers} - {rate})
    at_others = sum(header.rate != rate for header in headers)
    longer, shorter = (sum(sign * (own - length) > 0 for own in lengths) for sign in (1, -1))
    counted = {
        "have several channels: averaged to one": several,
        f"are at {' or '.join(map(str, others))} Hz: resampled to {rate} Hz": at_others,
        f"are longer than {length / rate:.2f} s: cut at both ends": longer,
        f"are shorter than {length / rate:.2f} s: silence before them": shorter,
        "exceed full scale: clipped": clipped,
    }
    return [f"{count} of {len(headers)} clips {words}" for words, count in counted.items() if count]


def _header(file: Path) -> Header:
    soundfile = imported("soundfile", "audio", f"reading {file.name}")
    try:
        info = soundfile.info(str(file))
    except soundfile.SoundFileError as error:
        raise CLIPS.broken(file, str(error)) from error
    cut = CUT.search(info.extra_info)
    if cut is not None and int(cut[1]) - int(cut[2]) > LEAST_LACK and int(cut[1]) < STREAMED:
        raise CLIPS.broken(file, f"{cut[2]} of the {cut[1]} bytes of sound that its header counts")
    if info.frames < 1:
        raise CLIPS.broken(file, "it lasts 0 seconds")
    if info.samplerate < LEAST_RATE:
        raise CLIPS.broken(file, f"{info.samplerate} samples a second, fewer than {LEAST_RATE}")
    return Header(info.frames, info.samplerate, info.channels)


def _samples(file: Path, header: Header) -> NDArray[np.float32]:
    """The mean of a file's channels, (T,), full scale being 1."""
    soundfile = imported("soundfile", "audio", f"reading {file.name}")
    try:
        samples, _ = soundfile.read(str(file), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise CLIPS.broken(file, str(error)) from error
    if len(samples) != header.length:
        raise CLIPS.broken(file, f"{len(samples)} of {header.length} samples")
    if not np.isfinite(samples).all():
        raise CLIPS.broken(file, "samples that are no numbers")
    mean: NDArray[np.float32] = samples.mean(1)
    return mean


def check_rate(rate: int) -> None:
    """UsageError for a sample rate at which no speech is left."""
    if rate < LEAST_RATE:
        raise UsageError(f"rate={rate}: expected samples a second, {LEAST_RATE} or more, as in rate=16000")
