"""Images of a pair brought to one size."""

import pytest
import torch

from dafw.config import backbone
from dafw.domain import Domain, Table, resize
from dafw.made import CLASSES, made_table
from dafw.modalities import image
from dafw.modalities.image import common_shape, fitted, reconciled, said


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_resized", {})


def images(name: str, channels: int, side: int) -> Domain:
    tables = [made_table(12, 0.0, seed) for seed in (1, 2)]
    return Domain(name, CLASSES, *(Table(resize(t.inputs, side, channels), t.labels) for t in tables))


@pytest.mark.parametrize(
    ("one", "two", "typed", "shape"),
    [
        ((1, 28), (1, 16), None, (1, 28, 28)),  # the larger side
        ((3, 20), (1, 24), None, (3, 24, 24)),  # colour where either has it
        ((3, 96), (3, 32), None, (3, 32, 32)),  # at most what the network takes
        ((1, 8), (1, 8), None, (1, 16, 16)),  # and at least 16
        ((3, 96), (1, 32), 48, (3, 48, 48)),  # unless it is said
        ((1, 28), (1, 16), 8, (1, 8, 8)),
    ],
)
def test_the_shape_of_a_pair(one, two, typed, shape):
    assert common_shape([images("one", *one), images("two", *two)], typed, backbone("convnet")) == shape


def test_published_weights_have_no_side_but_their_network_has_channels():
    bare = Domain("imagenet", (), None, None)
    assert common_shape([bare, images("two", 1, 40)], None, backbone("published")) == (3, 40, 40)


@pytest.mark.parametrize(
    ("channels", "side", "shape", "line"),
    [
        (1, 28, (1, 16, 16), "made: 28x28 → 16x16 (area-averaged)"),
        (1, 8, (1, 16, 16), "made: 8x8 → 16x16 (bilinear)"),
        (1, 16, (3, 16, 16), "made: grey → colour by repetition"),
        (3, 28, (1, 16, 16), "made: 28x28 → 16x16 (area-averaged), colour → grey"),
    ],
)
def test_what_was_done_to_a_domain_is_said(channels, side, shape, line):
    notes: list[str] = []
    given = images("made", channels, side)
    got = reconciled(given, shape, notes)
    assert notes == [line]
    assert torch.equal(got.train.inputs, resize(given.train.inputs, shape[1], shape[0]))
    assert torch.equal(got.test.inputs, resize(given.test.inputs, shape[1], shape[0]))
    assert reconciled(given, shape, notes).train is got.train  # resized once
    assert len(notes) == 2


def test_nothing_is_said_where_nothing_was_done():
    notes: list[str] = []
    given, bare = images("made", 1, 16), Domain("imagenet", (), None, None)
    assert reconciled(given, (1, 16, 16), notes) is given
    assert reconciled(bare, (3, 16, 16), notes) is bare
    assert notes == []


def test_a_pair_has_the_side_that_its_protocol_says():
    notes: list[str] = []
    size, shape, domains = fitted([images("one", 1, 28), images("two", 3, 16)], None, backbone("convnet"), {}, notes)
    assert (size, shape) == (28, (3, 28, 28))
    assert [domain.shape for domain in domains] == [shape, shape]
    assert notes == ["one: grey → colour by repetition", "two: 16x16 → 28x28 (bilinear)"]
    assert said(shape) == {"image size": "28x28"}
