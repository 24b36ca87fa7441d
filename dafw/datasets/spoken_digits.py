"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from dafw.datasets._audio import CLIPS, decoded
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.place import Place
from dafw.registry import register_dataset

CLASSES = tuple("0123456789")
RATE = 8000  # Hz, as published
TEST_TAKES = 5  # the first five of each digit and speaker
NAME = re.compile(r"(\d)_(\w+)_(\d+)\.wav")
CLONE = "git clone https://github.com/Jakobovski/free-spoken-digit-dataset"


@register_dataset
def spoken_digits(place: Place, *, speakers: list[str] | None = None) -> Domain:
    """The Free Spoken Digit Dataset, English digits at 8 kHz by six speakers (Jackson et al. 2018, Zenodo 1342401).

    recordings/{digit}_{speaker}_{take}.wav; takes 0 to 4 are the test split, as its authors say, so that train and test
    share their speakers.

    speakers: only these, as in src.speakers=[jackson,theo]; null or empty: all
    """
    folder = _recordings(place)
    found = _found(folder)
    known = sorted({speaker for _, speaker, _ in found})
    wanted = set(speakers or known)
    unknown = sorted(wanted - set(known))
    if unknown:
        raise UsageError(
            f"speakers: {unknown[0]!r} speaks in no file of {folder}; expected some of these, "
            f"as in src.speakers=[{','.join(known)}] or tgt.speakers"
        )
    rows = [(digit, take, file) for (digit, speaker, take), file in sorted(found.items()) if speaker in wanted]
    clips = decoded([file for _, _, file in rows], folder, "spoken_digits", RATE, None)
    labels = torch.tensor([digit for digit, _, _ in rows])
    is_test = torch.tensor([take < TEST_TAKES for _, take, _ in rows])
    train, test = (Table(clips.samples[part], labels[part]) for part in (~is_test, is_test))
    notes = [f"spoken_digits: {change}" for change in clips.changes]
    if wanted != set(known):
        notes.insert(0, f"spoken_digits: only the speakers {', '.join(sorted(wanted))}")
    return Domain(called(speakers), CLASSES, train, test, modality="audio", rate=RATE, notes=tuple(notes))


def called(speakers: list[str] | None) -> str:
    return "-".join(["spoken_digits", *(speakers or [])])


spoken_digits.called = lambda options: called(options.get("speakers"))
spoken_digits.licence = "CC BY-SA 4.0"
spoken_digits.backbone = "speech_embedding"
spoken_digits.recipe = {"backbone.frozen": True}


def _recordings(place: Place) -> Path:
    """The folder of the recordings: the one given or found, or `recordings` in it."""
    folders = place.folders("spoken_digits")
    if place.root is None and place.data is not None:
        folders.insert(1, folders[0].parent / "free-spoken-digit-dataset")
    for folder in (inner for outer in folders for inner in (outer / "recordings", outer)):
        if any(folder.glob("*_*_*.wav")):
            return folder
    raise place.missing("spoken_digits", "recordings/{digit}_{speaker}_{take}.wav", CLONE)


def _found(folder: Path) -> dict[tuple[int, str, int], Path]:
    """(digit, speaker, take) → file. UsageError for a file of another name."""
    found = {}
    for file in sorted(folder.glob("*.wav")):
        name = NAME.fullmatch(file.name)
        if name is None:
            raise CLIPS.broken(file, "its name is not {digit}_{speaker}_{take}.wav")
        found[int(name[1]), name[2], int(name[3])] = file
    return found
