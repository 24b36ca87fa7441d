"""The Free Spoken Digit Dataset as published: its official split, its speakers, and what is wrong with a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from speech import recordings

from dafw.datasets.spoken_digits import spoken_digits
from dafw.errors import UsageError
from dafw.place import Place

soundfile = pytest.importorskip("soundfile", reason='reading sound needs soundfile: pip install "dafw[audio]"')

SPEAKERS = ("ann", "bob")
TAKES = (0, 4, 5, 12)


def value(digit: int, speaker: str, take: int) -> int:
    """What every sample of a recording is: it tells whose it is."""
    return 1 + digit + 100 * SPEAKERS.index(speaker) + 1000 * take


@pytest.fixture
def published(tmp_path):
    """A clone: recordings of two speakers, ten samples each, and what else lies in the repository."""
    folder = tmp_path / "data" / "free-spoken-digit-dataset" / "recordings"
    folder.mkdir(parents=True)
    (folder.parent / "README.md").touch()
    for digit in range(10):
        for speaker in SPEAKERS:
            for take in TAKES:
                samples = np.full(10, value(digit, speaker, take), dtype=np.int16)
                soundfile.write(str(folder / f"{digit}_{speaker}_{take}.wav"), samples, 8000)
    return folder.parent


def rows(table):
    return sorted((int(clip[0]), int(label)) for clip, label in zip(table.inputs, table.labels, strict=True))


def expected(speakers, takes):
    return sorted((value(digit, speaker, take), digit) for digit in range(10) for speaker in speakers for take in takes)


def test_takes_0_to_4_are_the_test(published):
    domain = spoken_digits(Place(root=published))
    assert (domain.name, domain.modality, domain.rate, domain.shape) == ("spoken_digits", "audio", 8000, (10,))
    assert domain.classes == tuple("0123456789")
    assert rows(domain.test) == expected(SPEAKERS, (0, 4))
    assert rows(domain.train) == expected(SPEAKERS, (5, 12))
    assert domain.notes == ()


@pytest.mark.parametrize("speakers", [["bob"], ["bob", "bob"]])
def test_speakers_are_chosen_by_name(published, speakers):
    domain = spoken_digits(Place(root=published), speakers=speakers)
    assert rows(domain.train) == expected(["bob"], (5, 12))
    assert rows(domain.test) == expected(["bob"], (0, 4))
    assert domain.notes == ("spoken_digits: only the speakers bob",)
    assert spoken_digits(Place(root=published), speakers=[]).fingerprint != domain.fingerprint


def test_it_is_found_where_people_have_it(published, tmp_path):
    whole = spoken_digits(Place(data=tmp_path / "data")).fingerprint
    assert spoken_digits(Place(root=published / "recordings")).fingerprint == whole
    shutil.copytree(published, tmp_path / "other" / "spoken_digits")
    assert spoken_digits(Place(data=tmp_path / "other")).fingerprint == whole


def message(place, **options):
    with pytest.raises(UsageError) as error:
        spoken_digits(place, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_speaker_is_told_with_the_known_ones(published):
    text = message(Place(root=published), speakers=["bob", "eve"])
    where = f"speakers: 'eve' speaks in no file of {published}/recordings"
    assert text == f"{where}; expected some of these, as in src.speakers=[ann,bob] or tgt.speakers"


def test_a_file_of_another_name_is_named(published):
    (published / "recordings" / "7_ann.wav").touch()
    assert message(Place(root=published)).startswith(f"{published}/recordings/7_ann.wav is not a whole clip (its name")


def test_where_to_get_it_is_told(tmp_path):
    text = message(Place(root=tmp_path))
    assert text.startswith(f"spoken_digits: not found in {tmp_path}; put recordings/{{digit}}_{{speaker}}_{{take}}.wav")
    assert "git clone https://github.com/Jakobovski/free-spoken-digit-dataset" in text


def test_the_real_recordings(real_data: Path, tmp_path):
    domain = spoken_digits(Place(root=recordings(real_data / "speech_fsdd.npz", tmp_path)))
    assert (len(domain.train), len(domain.test)) == (6 * 10 * 11, 6 * 10 * 5)
    assert domain.train.labels.bincount().tolist() == [66] * 10
    assert domain.shape == (6400,)
    peaks = domain.train.inputs.float().abs().amax(1)
    assert peaks.median() == pytest.approx(0.9 * 2**15, rel=0.03)  # mu-law of 8 bits is coarse
