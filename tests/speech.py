"""The compact speech files of the development data as folders of WAV files."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 8000


class Compact(NamedTuple):
    """One of the files: clips as floats in [-1, 1], and of each its digit, speaker, take, and whether it is a test."""

    clips: list[NDArray[np.float64]]
    digits: list[int]
    speakers: list[str]
    takes: list[int]
    test: list[bool]


def compact(file: Path) -> Compact:
    """What `file` holds in 8-bit mu-law: x = sign(y) (256^|y| - 1) / 255 for y in [-1, 1] (ITU-T G.711)."""
    with np.load(file, allow_pickle=False) as arrays:
        companded = arrays["mulaw"] / 127.5 - 1
        sound = np.sign(companded) * (256.0 ** np.abs(companded) - 1) / 255
        assert int(arrays["sample_rate"]) == RATE
        digits = arrays["label"].tolist()
        takes = arrays["take"].tolist() if "take" in arrays else list(range(len(digits)))
        return Compact(
            np.split(sound, arrays["offsets"][1:-1]),
            digits,
            arrays["speakers"][arrays["speaker"]].tolist(),
            takes,
            arrays["test"].tolist(),
        )


def class_folders(file: Path, folder: Path, most: int = 10**9) -> Path:
    """folder/<train|test>/<digit>/<speaker>_<take>.wav, at most so many of each digit and part."""
    counted: dict[tuple[str, int], int] = {}
    for clip, digit, speaker, take, test in zip(*compact(file), strict=True):
        key = ("test" if test else "train", digit)
        counted[key] = counted.get(key, 0) + 1
        if counted[key] <= most:
            _write(folder / key[0] / str(digit) / f"{speaker}_{take}.wav", clip)
    return folder


def recordings(file: Path, folder: Path) -> Path:
    """folder/recordings/<digit>_<speaker>_<take>.wav, as the Free Spoken Digit Dataset is published."""
    for clip, digit, speaker, take, _ in zip(*compact(file), strict=True):
        _write(folder / "recordings" / f"{digit}_{speaker}_{take}.wav", clip)
    return folder


def _write(file: Path, clip: NDArray[np.float64]) -> None:
    import soundfile  # of an extra, which a test that needs it asks for

    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(file), clip, RATE, subtype="PCM_16")
