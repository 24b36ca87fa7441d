"""Digits of a synthesiser: the draws, the trimming, the cache, and real renderings where espeak-ng is installed."""

import shutil
import sys

import numpy as np
import pytest

from dafw.datasets import espeak as module
from dafw.datasets.espeak import ACCENTS, MARKS, drawn, espeak, trimmed
from dafw.errors import UsageError
from dafw.place import Place

VARIANTS = [f"voice{number}" for number in range(20)]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng: apt install espeak-ng")


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_quarter_of_the_voices_is_held_out():
    train, test = drawn(VARIANTS, 9, 2, seeded(0))
    assert (len(train), len(test)) == (6 * 2 * 10, 3 * 2 * 10)
    of_train, of_test = ({rendering.variant for rendering in part} for part in (train, test))
    assert (len(of_train), len(of_test)) == (6, 3)
    assert of_train | of_test < set(VARIANTS)
    assert not of_train & of_test
    for part, voices in ((train, of_train), (test, of_test)):
        said = sorted((rendering.variant, rendering.digit) for rendering in part)
        assert said == sorted((voice, digit) for voice in voices for digit in range(10) for _ in range(2))


def test_the_draws_reach_all_that_is_said_and_no_further():
    train, test = drawn(VARIANTS, 20, 10, seeded(1))
    renderings = [*train, *test]
    assert {rendering.accent for rendering in renderings} == {*ACCENTS}
    assert {rendering.mark for rendering in renderings} == {*MARKS}
    assert {rendering.speed for rendering in renderings} == {*range(120, 211)}
    assert {rendering.pitch for rendering in renderings} == {*range(25, 76)}


def test_the_draws_are_the_seeds():
    assert drawn(VARIANTS, 8, 1, seeded(3)) == drawn(VARIANTS, 8, 1, seeded(3))
    assert drawn(VARIANTS, 8, 1, seeded(3)) != drawn(VARIANTS, 8, 1, seeded(4))


@pytest.mark.parametrize("voices", [1, 21])
def test_a_number_of_voices_that_there_is_not_is_told(voices):
    with pytest.raises(UsageError, match=rf"^voices={voices}: espeak-ng has 20 voice variants; expected 2 to as many$"):
        drawn(VARIANTS, voices, 1, seeded(0))


def test_silence_is_trimmed_at_35_decibels():
    rate, level = 1000, 10 ** (-35 / 20)
    loud = np.tile([1.0, -1.0], 20)
    clip = np.concatenate([np.full(20, 0.9 * level), np.full(10, 1.1 * level), loud, np.zeros(30), loud, np.zeros(25)])
    kept = trimmed(clip.astype(np.float32), rate)
    np.testing.assert_array_equal(kept, clip.astype(np.float32)[20:-25])  # the pause inside stays


def test_a_missing_program_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match=r"espeak-ng, which is not installed; type apt install espeak-ng$"):
        espeak(Place())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"renderings": 0}, "renderings=0: expected 1 or more"), ({"rate": 10}, "rate=10: expected samples a second")],
)
def test_options_out_of_range_are_told(options, words):
    with pytest.raises(UsageError, match=words):
        espeak(Place(), **options)


def test_a_program_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: sys.executable)
    with pytest.raises(UsageError, match=r"^espeak-ng -c .* failed \(broken\); mend its installation"):
        module.answer("-c", "import sys; sys.exit('broken')")


def test_a_program_that_says_nothing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "answer", lambda *_: "")
    (first, *_), _ = drawn(VARIANTS, 2, 1, seeded(0))
    with pytest.raises(UsageError, match=r"^espeak-ng wrote no sound of 'zero' by the voice voice\d+; mend"):
        module.clip(first, 8000, tmp_path / "clip.wav")


@needs_espeak
def test_digits_are_rendered_once(cache_folder, capsys, monkeypatch):
    domain = espeak(Place(), voices=2, renderings=1)
    assert "espeak: rendering 20 clips into the data cache, once" in capsys.readouterr().out
    assert (domain.name, domain.modality, domain.rate, domain.classes) == (
        "espeak",
        "audio",
        8000,
        tuple("0123456789"),
    )
    assert domain.train.labels.tolist() == domain.test.labels.tolist() == [*range(10)]
    clips = np.concatenate([domain.train.inputs.numpy(), domain.test.inputs.numpy()])
    assert np.abs(clips.astype(int)).max(1).tolist() == [round(0.9 * 2**15)] * 20
    assert (clips[:, -160:] != 0).any(1).all()  # sound up to the end
    lengths = clips.shape[1] - (clips != 0).argmax(1)
    assert lengths.max() > clips.shape[1] - 80  # trimmed by 10 ms
    assert lengths.min() > 0.1 * 8000
    assert clips.shape[1] < 2 * 8000
    assert len({clip.tobytes() for clip in clips}) == 20
    monkeypatch.setattr(module, "spoken", None)
    assert espeak(Place(), voices=2, renderings=1).fingerprint == domain.fingerprint
    assert [file.suffix for file in cache_folder.iterdir()] == [".npz"]


@needs_espeak
def test_one_clip_is_what_espeak_says(tmp_path):
    random = seeded(0)
    (first, *_), _ = drawn(module.known_variants(), 2, 1, random)
    one = module.clip(first, 8000, tmp_path / "one.wav")
    assert one.tobytes() == module.clip(first, 8000, tmp_path / "two.wav").tobytes()
    slower = module.clip(first._replace(speed=first.speed // 2 + 40), 8000, tmp_path / "three.wav")
    other = module.clip(first._replace(digit=7), 8000, tmp_path / "four.wav")
    assert one.tobytes() not in (slower.tobytes(), other.tobytes())
