"""Folders of sound files: what becomes of a clip, what is said of it, the cache, and what is wrong with a file."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from dafw.datasets.audio import audio
from dafw.errors import UsageError
from dafw.place import Place

soundfile = pytest.importorskip("soundfile", reason='reading sound needs soundfile: pip install "dafw[audio]"')


def write(file: Path, samples, rate=16000, subtype="PCM_16") -> Path:
    """Samples (T,) or (T, channels), int16 or floats of which 1 is full scale."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(file), np.asarray(samples), rate, subtype=subtype)
    return file


def noise(length: int, seed: int = 0) -> np.ndarray:
    """int16 noise without a zero in it."""
    random = np.random.default_rng(seed)
    return (random.integers(1, 20000, length) * random.choice([-1, 1], length)).astype(np.int16)


@pytest.fixture
def words(tmp_path):
    """words/<train|test>/<no|yes>/<number>.wav: lengths 40 to 60, the first class's training clips stereo."""
    for seed, (part, name, length) in enumerate(
        [("train", "no", 50), ("train", "no", 40), ("train", "yes", 60), ("test", "no", 45), ("test", "yes", 55)]
    ):
        samples = noise(length, seed)
        if (part, name) == ("train", "no"):
            samples = np.stack([samples, np.full_like(samples, 100)], axis=1)
        write(tmp_path / "words" / part / name / f"{seed}.wav", samples)
    return tmp_path / "words"


def test_clips_are_their_samples_after_silence(words):
    domain = audio(Place(root=words))
    assert (domain.name, domain.classes, domain.modality, domain.rate) == ("words", ("no", "yes"), "audio", 16000)
    assert domain.train.labels.tolist() == [0, 0, 1]
    assert domain.test.labels.tolist() == [0, 1]
    rows = [*domain.train.inputs.numpy(), *domain.test.inputs.numpy()]
    for seed, (row, length) in enumerate(zip(rows, (50, 40, 60, 45, 55), strict=True)):
        assert row.dtype == np.int16
        assert row[: 60 - length].tolist() == [0] * (60 - length)
        expected = noise(length, seed).astype(int)
        if seed < 2:  # stereo: the mean, halves to the even number
            expected = np.rint((expected + 100) / 2)
        np.testing.assert_array_equal(row[60 - length :], expected)


def test_what_was_done_is_said_and_said_again_from_the_cache(words, cache_folder, capsys, monkeypatch):
    write(words / "train" / "yes" / "9.wav", noise(30), rate=8000)
    domain = audio(Place(root=words))
    assert "words: decoding 6 clips into the data cache, once" in capsys.readouterr().out
    assert domain.notes == (
        "words: 2 of 6 clips have several channels: averaged to one",
        "words: 1 of 6 clips are at 8000 Hz: resampled to 16000 Hz",
        "words: 4 of 6 clips are shorter than 0.00 s: silence before them",
    )
    assert {file.suffix for file in (cache_folder / "audio").iterdir()} == {".npy", ".json"}
    monkeypatch.setattr(soundfile, "read", None)
    monkeypatch.setattr(soundfile, "info", None)
    again = audio(Place(root=words))
    assert capsys.readouterr().out == ""
    assert again.notes == domain.notes
    assert again.fingerprint == domain.fingerprint
    again.train.inputs[:] = 0  # a copy of what is written, never the file
    assert audio(Place(root=words)).fingerprint == domain.fingerprint


def test_a_changed_file_is_decoded_anew(words):
    before = audio(Place(root=words))
    os.utime(write(words / "test" / "no" / "3.wav", noise(45, 99)), ns=(1, 1))
    after = audio(Place(root=words))
    np.testing.assert_array_equal(after.test.inputs[0, 15:].numpy(), noise(45, 99))
    assert before.fingerprint != after.fingerprint


def test_clips_are_resampled_by_scipys_polyphase_filter(tmp_path):
    for name in ("a", "b"):
        for number, rate in enumerate((8000, 44100)):
            write(tmp_path / name / f"{number}.flac", noise(1000, number), rate)
    domain = audio(Place(root=tmp_path), test_fraction=0.5)
    rows = np.concatenate([domain.train.inputs.numpy(), domain.test.inputs.numpy()])
    slow, fast = noise(1000, 0) / 2**15, noise(1000, 1) / 2**15
    for expected in (resample_poly(slow, 2, 1), resample_poly(fast, 160, 441)):
        expected = np.clip(np.rint(2**15 * expected), -(2**15), 2**15 - 1)
        expected = np.concatenate([np.zeros(2000 - len(expected)), expected])
        assert (np.abs(rows - expected).max(1) <= 1).sum() == 2  # one of each class
    assert "4 of 4 clips are at 8000 or 44100 Hz: resampled to 16000 Hz" in domain.notes[0]


def test_longer_clips_are_cut_to_their_middle(tmp_path):
    for name, length in (("a", 300), ("a", 90), ("b", 100), ("b", 101)):
        write(tmp_path / name / f"{length}.wav", noise(length, length), 1000)
    domain = audio(Place(root=tmp_path), rate=1000, seconds=0.1, test_fraction=0.5)
    rows = {tuple(row) for table in (domain.train, domain.test) for row in table.inputs.tolist()}
    assert rows == {
        tuple(noise(300, 300)[100:200]),
        (*[0] * 10, *noise(90, 90)),
        tuple(noise(100, 100)),
        tuple(noise(101, 101)[:100]),
    }
    name = tmp_path.name
    assert domain.notes == (
        f"{name}: 2 of 4 clips are longer than 0.10 s: cut at both ends",
        f"{name}: 1 of 4 clips are shorter than 0.10 s: silence before them",
    )


def test_floats_beyond_full_scale_are_clipped_and_said(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "0.wav", [0.5, 1.5, -1.5, 0.25], subtype="FLOAT")
        write(tmp_path / name / "1.wav", [0.5, 0.5, -0.5, 0.25], subtype="FLOAT")
    domain = audio(Place(root=tmp_path), test_fraction=0.5)
    rows = [*domain.train.inputs.tolist(), *domain.test.inputs.tolist()]
    assert sorted(rows) == 2 * [[16384, 16384, -16384, 8192]] + 2 * [[16384, 32767, -32768, 8192]]
    assert domain.notes == (f"{tmp_path.name}: 2 of 4 clips exceed full scale: clipped",)


def test_what_the_data_set_declares():
    assert (audio.backbone, audio.recipe) == ("speech_embedding", {"backbone.frozen": True})


# ---- what is wrong


def message(place, **options):
    with pytest.raises(UsageError) as error:
        audio(place, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def cut_short(file: Path) -> Path:
    write(file, noise(20000))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("x.wav", lambda file: write(file, np.zeros(0, np.int16)), "it lasts 0 seconds"),
        ("x.wav", lambda file: file.write_text("hello"), ""),
        ("x.flac", lambda file: file.write_bytes(b""), ""),
        ("x.wav", lambda file: write(file, noise(99), 999), "999 samples a second, fewer than 1000"),
        ("x.wav", lambda file: write(file, [0.5, float("nan")], subtype="FLOAT"), "samples that are no numbers"),
        ("x.flac", cut_short, ""),
        ("x.wav", cut_short, "19978 of the 40000 bytes of sound that its header counts"),
        ("x.mp3", lambda file: file.touch(), "by its name"),
        ("inner", lambda file: file.mkdir(), "a folder"),
    ],
)
def test_a_file_that_is_no_clip_is_named(words, cache_folder, name, make, reason):
    file = words / "test" / "yes" / name
    make(file)
    text = message(Place(root=words))
    assert text.startswith(f"{file} is not a whole clip ({reason}")
    assert text.endswith("expected .wav, .flac: delete it or replace it")
    assert not list(cache_folder.glob("audio/*"))


@pytest.mark.parametrize("counted", [0xFFFFFFFF, 0x7FFFF000, 44 + 120])
def test_a_header_that_was_written_before_the_length_was_known_is_no_cut(words, counted):
    """What writes into a pipe counts the most there can be; some recorders count the header in."""
    before = audio(Place(root=words))
    file = words / "train" / "yes" / "2.wav"
    content = file.read_bytes()
    place = content.index(b"data") + 4
    file.write_bytes(content[:place] + counted.to_bytes(4, "little") + content[place + 4 :])
    os.utime(file, ns=(1, 1))
    assert audio(Place(root=words)).fingerprint == before.fingerprint


def test_a_layout_that_is_none_is_told(words):
    layout = (
        "train/<class>/*.wav and test/<class>/*.wav (or val/, validation/), or <class>/*.wav to be split, "
        "as in src=audio src.root=DIR"
    )
    assert message(Place()) == f"audio needs root=DIR; expected {layout}"
    (words / "test" / "maybe").mkdir()
    assert f"the class folder {words}/test/maybe is empty; expected .wav, .flac in it" in message(Place(root=words))
    (words / "test" / "maybe").rmdir()
    for part in ("train", "test"):
        for file in (words / part / "yes").iterdir():
            file.unlink()
        (words / part / "yes").rmdir()
    assert f"{words} has one class folder, 'no'; expected two or more" in message(Place(root=words))


@pytest.mark.parametrize(
    ("options", "words_of_it"),
    [
        ({"rate": 999}, "rate=999: expected samples a second, 1000 or more, as in rate=16000"),
        ({"seconds": 0.0}, "seconds=0.0: expected the length of a clip in seconds, as in seconds=1.0"),
        ({"seconds": float("nan")}, "seconds=nan: expected"),
        ({"test_fraction": 1.0}, "test_fraction=1.0: expected a number between 0 and 1"),
    ],
)
def test_options_out_of_range_are_told(tmp_path, options, words_of_it):
    for name in ("a", "b"):
        for number in range(2):
            write(tmp_path / name / f"{number}.wav", noise(20))
    assert words_of_it in message(Place(root=tmp_path), **options)


def test_a_missing_package_is_told(words, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    assert message(Place(root=words)).endswith(
        'needs the package soundfile, which is not installed; type pip install "dafw[audio]"'
    )
