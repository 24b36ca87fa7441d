"""Spoken digits of a speech synthesiser: a source of speech that needs no download."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dafw import cache
from dafw.datasets._audio import check_rate
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.modalities.audio import FULL_SCALE, as_int16, resampled
from dafw.place import Place
from dafw.registry import register_dataset

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
MARKS = ("", ".", "?", "!")  # they change the melody
WHISPERING = ("whisper", "whisperf")  # variants without a voice
SILENCE = 10 ** (-35 / 20)  # -35 dB below the loudest 10 ms
PEAK = 0.9


class Rendering(NamedTuple):
    """How one clip is spoken; speed in words a minute, pitch from 0 to 99."""

    digit: int
    variant: str
    accent: str
    speed: int
    pitch: int
    mark: str


@register_dataset
def espeak(place: Place, *, voices: int = 30, renderings: int = 2, rate: int = 8000) -> Domain:
    """The digits zero to nine, spoken by the program espeak-ng where it is installed.

    Voice variants are drawn by the split seed; each clip has an accent, a speed (120 to 210 words a minute), a pitch
    (25 to 75) and a punctuation mark of its own. A quarter of the voices, rounded up, is held out for the test split.
    Silence below -35 dB is trimmed from both ends, the peak set to .9 of full scale.

    voices: how many; renderings: of each digit by each voice
    rate: samples a second; 8000, the telephone band of the Free Spoken Digit Dataset, so that bandwidth is no cue that
        tells the domains apart
    """
    check_rate(rate)
    if renderings < 1:
        raise UsageError(f"renderings={renderings}: expected 1 or more, as in renderings=2")
    version = installed_version()
    recipe = (Path(__file__).read_text(encoding="utf-8"), place.split_seed, version, voices, renderings, rate)
    key = hashlib.blake2b(repr(recipe).encode(), digest_size=8).hexdigest()
    path = cache.folder("datasets") / f"espeak-{key}.npz"
    if not path.is_file():
        train, test = drawn(known_variants(), voices, renderings, np.random.default_rng((place.split_seed, 0)))
        print(f"espeak: rendering {len(train) + len(test)} clips into the data cache, once", flush=True)
        clips = spoken([*train, *test], rate)
        labels = np.array([rendering.digit for rendering in (*train, *test)])
        with cache.written_whole(path) as temporary:
            np.savez(temporary, clips=clips, labels=labels, train=len(train))
    with np.load(path, allow_pickle=False) as arrays:
        table = Table(torch.from_numpy(arrays["clips"]), torch.from_numpy(arrays["labels"]))
        count = int(arrays["train"])
    rows = torch.arange(len(table))
    parts = table.rows(rows[:count]), table.rows(rows[count:])
    return Domain("espeak", tuple("0123456789"), *parts, modality="audio", rate=rate)


espeak.backbone = "speech_embedding"
espeak.recipe = {"backbone.frozen": True}


def answer(*words: str) -> str:
    """What espeak-ng writes when called with these words; UsageError where it is not installed, or fails."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise UsageError("espeak needs the program espeak-ng, which is not installed; type apt install espeak-ng")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UsageError(f"espeak-ng {' '.join(words)} failed ({reason}); mend its installation: apt install espeak-ng")
    return done.stdout


def installed_version() -> str:
    return answer("--version").partition("Data at")[0].strip()


def known_variants() -> list[str]:
    """The voice variants that are installed, but those that whisper, in alphabetical order."""
    found = re.findall(r"!v/(.+?)\s*$", answer("--voices=variant"), flags=re.MULTILINE)
    return sorted({*found} - {*WHISPERING})


def drawn(
    variants: list[str], voices: int, renderings: int, random: np.random.Generator
) -> tuple[list[Rendering], list[Rendering]]:
    """The renderings of the train and of the test split, which share no voice. UsageError for too many voices."""
    if not 2 <= voices <= len(variants):
        raise UsageError(f"voices={voices}: espeak-ng has {len(variants)} voice variants; expected 2 to as many")
    chosen = [variants[place] for place in random.permutation(len(variants))[:voices]]
    held_out = -(-voices // 4)
    test, train = (
        [
            Rendering(
                digit,
                variant,
                ACCENTS[random.integers(len(ACCENTS))],
                int(random.integers(120, 211)),
                int(random.integers(25, 76)),
                MARKS[random.integers(len(MARKS))],
            )
            for variant in part
            for _ in range(renderings)
            for digit in range(10)
        ]
        for part in (chosen[:held_out], chosen[held_out:])
    )
    return train, test


def spoken(renderings: list[Rendering], rate: int) -> NDArray[np.int16]:
    """int16 clips (N, longest), each preceded by silence."""
    with tempfile.TemporaryDirectory() as folder:
        clips = [clip(rendering, rate, Path(folder) / "clip.wav") for rendering in renderings]
    longest = max(map(len, clips))
    return np.stack([np.pad(one, (longest - len(one), 0)) for one in clips])


def clip(rendering: Rendering, rate: int, file: Path) -> NDArray[np.int16]:
    """One clip (T,), by way of a file."""
    digit, variant, accent, speed, pitch, mark = rendering
    options = ("-v", f"{accent}+{variant}", "-s", str(speed), "-p", str(pitch), "-w", str(file))
    answer(*options, WORDS[digit] + mark)
    if not file.is_file():
        raise UsageError(f"espeak-ng wrote no sound of {WORDS[digit]!r} by the voice {variant}; mend its installation")
    with wave.open(str(file)) as stream:
        own = stream.getframerate()
        samples = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(np.float32)
    file.unlink()  # or it would pass for the next one
    samples = trimmed(resampled(samples, own, rate), rate)
    return as_int16(samples * (PEAK * FULL_SCALE / np.abs(samples).max()))


def trimmed(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """From the first to the last 10 ms (T,) that are no more than 35 dB below the loudest."""
    size = rate // 100
    powers = np.square(np.pad(samples, (0, -len(samples) % size))).reshape(-1, size).mean(1)
    loud = np.flatnonzero(powers >= powers.max() * SILENCE**2)
    return samples[loud[0] * size : (loud[-1] + 1) * size]
