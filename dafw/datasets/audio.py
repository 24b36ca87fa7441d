"""A data set of one's own: a folder of class folders of sound files."""

from __future__ import annotations

from dafw.datasets._audio import CLIPS, check_rate, decoded
from dafw.datasets._folders import listed_files
from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.place import Place, called, called_by
from dafw.registry import register_dataset


@register_dataset
def audio(place: Place, *, rate: int = 16000, seconds: float | None = None, test_fraction: float = 0.3) -> Domain:
    """WAV or FLAC files in train/<class>/ and test/<class>/ (or val/, validation/), or in <class>/ to be split.

    rate: samples a second, to which every clip is resampled
    seconds: the length to which all clips are cut, at both ends, or filled up, with silence before them; null: that of
        the longest
    test_fraction: of each class, where there is no test folder; drawn without a look at who speaks
    """
    if place.root is None:
        raise UsageError(f"audio needs root=DIR; expected {CLIPS.layout}, as in src=audio src.root=DIR")
    check_rate(rate)
    if seconds is not None and not seconds * rate >= 1:
        raise UsageError(f"seconds={seconds}: expected the length of a clip in seconds, as in seconds=1.0")
    (root,) = place.folders("audio")
    listed = listed_files(root, CLIPS, place, test_fraction)
    if len(listed.classes) < 2:
        raise UsageError(
            f"{root} has one class folder, {listed.classes[0]!r}; expected two or more, laid out as {CLIPS.layout}"
        )
    name = called(root)
    clips = decoded(listed.files, root, name, rate, seconds)
    notes = tuple(f"{name}: {change}" for change in clips.changes)
    return Domain(name, listed.classes, *listed.tables(clips.samples), modality="audio", rate=rate, notes=notes)


audio.backbone = "speech_embedding"
audio.recipe = {"backbone.frozen": True}
audio.called = called_by("root")
