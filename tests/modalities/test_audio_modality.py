"""Sound of a pair brought to the rate and the length that a backbone takes."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch import Tensor

from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.modalities import audio
from dafw.modalities.audio import ends_of, fitted, placed, reconciled, said


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_fitted", {})


def domain(train: list[list[int]], test: list[list[int]], rate: int | None = 1000) -> Domain:
    tables = (Table(torch.tensor(part, dtype=torch.int16), torch.arange(len(part))) for part in (train, test))
    return Domain("made", ("a", "b"), *tables, modality="audio", rate=rate)


def network(**options: int) -> None:
    """Nothing is built here."""


network.waveform = lambda *, rate, length: (rate, length)


@pytest.mark.parametrize(
    ("clip", "length", "expected"),
    [
        ([1, 2, 3], 5, [0, 0, 1, 2, 3]),
        ([1, 2, 3, 0, 0], 5, [0, 0, 1, 2, 3]),  # digital silence is no part of it
        ([0, 1, 0, 3, 0], 3, [1, 0, 3]),
        ([1, 2, 3, 4, 5], 3, [2, 3, 4]),
        ([1, 2, 3, 4], 3, [1, 2, 3]),
        ([0, 0, 1, 2, 3, 4, 5, 0], 3, [2, 3, 4]),
        ([0, 0, 0], 2, [0, 0]),
        ([0, 0, 0], 5, [0, 0, 0, 0, 0]),
        ([7], 1, [7]),
    ],
)
def test_a_clip_ends_with_the_window_or_fills_it_from_its_middle(clip, length, expected):
    clips = torch.tensor([clip, clip], dtype=torch.int16)
    assert placed(clips, length).tolist() == [expected, expected]
    assert placed(clips, length).dtype == torch.int16


def test_the_ends_of_clips():
    first, past = ends_of(torch.tensor([[0, 5, 0, -1, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]]))
    assert first.tolist() == [1, 0, 0]
    assert past.tolist() == [4, 0, 5]


def test_a_domain_of_the_same_rate_is_placed_and_it_is_said():
    notes: list[str] = []
    given = domain([[1, 2, 0, 0], [1, 2, 3, 4]], [[0, 5, 6, 7]])
    image_size, shape, (got,) = fitted([given], None, network, {"rate": 1000, "length": 3}, notes)
    assert (image_size, shape, got.shape, got.rate) == (None, (3,), (3,), 1000)
    assert got.train.inputs.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert got.test.inputs.tolist() == [[5, 6, 7]]
    assert got.train.labels is given.train.labels
    assert notes == [
        "made: 1 of 3 clips are longer than 0.00 s: their middle is heard, "
        "1 of 3 clips are shorter than 0.00 s: silence before them"
    ]
    assert said(shape) == {"input": "3 samples"}


def test_nothing_is_said_where_all_clips_are_as_long_as_the_window():
    notes: list[str] = []
    given = domain([[1, 2], [3, 4]], [[5, 6]])
    assert reconciled(given, 1000, 2, notes).fingerprint == given.fingerprint
    assert notes == []


def tone(length: int, rate: int) -> Tensor:
    return (10000 * torch.sin(2 * torch.pi * 200 * torch.arange(length) / rate + 0.5)).to(torch.int16)


@pytest.mark.parametrize(("own", "wanted", "length"), [(8000, 16000, 1000), (16000, 8000, 300), (11025, 16000, 700)])
def test_sound_is_resampled_and_its_place_kept(own: int, wanted: int, length: int) -> None:
    sound = tone(400, own)
    given = domain([[*sound.tolist(), *[0] * 50]] * 300, [[*[0] * 50, *sound.tolist()]], own)
    notes: list[str] = []
    got = reconciled(given, wanted, length, notes)
    assert torch.equal(got.train.inputs[0], got.test.inputs[0])
    assert torch.equal(got.train.inputs[299], got.test.inputs[0])
    heard = math.ceil(length * own / wanted)
    held = np.concatenate([np.zeros(2000), sound.numpy()])[-heard:]
    expected = np.rint(resample_poly(held, wanted, own))[-length:]
    assert np.abs(got.test.inputs[0].numpy() - expected).max() <= 1
    assert got.rate == wanted
    assert notes[0].startswith(f"made: {own} → {wanted} Hz")


def test_what_is_remembered_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = domain([[1, 2, 3]], [[4, 5, 6]], 1000)
    first = reconciled(given, 2000, 4, [])
    monkeypatch.setattr(audio, "_reconciled", None)
    notes: list[str] = []
    assert reconciled(given, 2000, 4, notes).train is first.train
    assert len(notes) == 1


def test_what_is_no_pair_of_sound_is_told():
    with pytest.raises(UsageError, match=r"^image_size=16: these domains hold audio; leave it out$"):
        fitted([domain([[1]], [[2]])], 16, network, {"rate": 1000, "length": 3}, [])
    with pytest.raises(UsageError, match=r"^made gives no sample rate; expected a Domain"):
        reconciled(domain([[1]], [[2]], None), 1000, 1, [])
    bare = Domain("published", (), None, None, modality="audio")
    assert reconciled(bare, 1000, 1, []) is bare
