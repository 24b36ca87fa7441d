"""Resizing against NumPy and torch, and fingerprints that see every bit."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dafw.domain import Domain, Table, check_made, resize
from dafw.errors import UsageError
from dafw.modalities.text import bytes_of


def images(count: int, channels: int, height: int, width: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, height, width or height)
    return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)


def area_by_loops(image: np.ndarray, size: int) -> np.ndarray:
    """The mean of all pixels that an output pixel touches, (H, W) → (size, size)."""
    out = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            rows = slice(y * image.shape[0] // size, -(-(y + 1) * image.shape[0] // size))
            columns = slice(x * image.shape[1] // size, -(-(x + 1) * image.shape[1] // size))
            out[y, x] = image[rows, columns].mean()
    return out


# ---- resize


def test_96_to_32_is_the_rounded_mean_of_3x3_pixels():
    given = images(3, 3, 96)
    wanted = given.numpy().astype(float).reshape(3, 3, 32, 3, 32, 3).mean((3, 5)).round()
    got = resize(given, 32, 3)
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), wanted.astype(np.uint8))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 31), (17, 16)])
def test_sizes_that_do_not_divide_are_averaged_over_the_pixels_touched(height, width):
    given = images(2, 1, height, width)
    got = resize(given, 16, 1)
    for image, small in zip(given[:, 0].numpy(), got[:, 0].numpy(), strict=True):
        assert np.abs(area_by_loops(image, 16) - small).max() <= 0.5001  # rounded, and nothing else


def test_up_is_torchs_bilinear_without_aligned_corners():
    given = images(2, 3, 8)
    wanted = F.interpolate(given.float(), size=(20, 20), mode="bilinear", align_corners=False).round().to(torch.uint8)
    assert torch.equal(resize(given, 20, 3), wanted)


def test_the_largest_values_survive():
    assert (resize(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8), 13, 3) == 255).all()
    assert (resize(torch.zeros((1, 3, 9, 9), dtype=torch.uint8), 3, 1) == 0).all()


def test_grey_becomes_colour_by_repetition():
    given = images(2, 1, 8)
    got = resize(given, 8, 3)
    assert got.shape == (2, 3, 8, 8)
    for channel in range(3):
        assert torch.equal(got[:, channel], given[:, 0])


def test_colour_becomes_grey_as_pil_does_it():
    given = images(2, 3, 16)
    got = resize(given, 16, 1)
    for image, grey in zip(given, got, strict=True):
        by_pil = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.abs(by_pil.astype(int) - grey[0].numpy().astype(int)).max() <= 1
    red, green, blue = given.double().unbind(1)
    wanted = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    assert (wanted - got.double()).abs().max() <= 0.501


def test_images_of_the_right_shape_are_not_copied():
    given = images(2, 3, 8)
    assert resize(given, 8, 3) is given


def test_many_images_are_resized_as_one_by_one():
    given = images(2050, 1, 6)
    got = resize(given, 3, 3)
    assert len(got) == 2050
    for row in (0, 1023, 1024, 2047, 2048, 2049):
        assert torch.equal(got[row], resize(given[row : row + 1], 3, 3)[0])


# ---- tables and domains


def table(seed: int = 0) -> Table:
    return Table(images(6, 1, 4, seed=seed), torch.tensor([0, 1, 2, 0, 1, 2]))


def domain() -> Domain:
    return Domain("made", ("a", "b", "c"), table(0), table(1))


def test_a_table_has_one_label_an_input():
    with pytest.raises(UsageError, match="6 inputs but 5 labels; expected one label an input"):
        Table(images(6, 1, 4), torch.zeros(5, dtype=torch.long))
    assert len(table()) == 6


def test_rows_of_a_table_keep_inputs_and_labels_together():
    whole = table()
    part = whole.rows(torch.tensor([4, 0]))
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(part.inputs, torch.stack([whole.inputs[4], whole.inputs[0]]))


@pytest.mark.parametrize("place", [0, 37, 95])
def test_a_single_bit_of_the_inputs_changes_the_fingerprint(place):
    changed = table()
    changed.inputs.view(-1)[place] ^= 1
    assert changed.fingerprint != table().fingerprint
    given = domain()
    assert given.with_tables(given.train, changed).fingerprint != given.fingerprint


def test_a_label_the_shape_and_the_type_change_the_fingerprint():
    one = table()
    label = one.labels.clone()
    label[5] = 1
    others = [
        Table(one.inputs, label),
        Table(one.inputs.view(6, 1, 2, 8), one.labels),
        Table(one.inputs.view(torch.int8), one.labels),
        Table(one.inputs.flip(0), one.labels),
    ]
    assert len({one.fingerprint, *(t.fingerprint for t in others)}) == 5


def test_equal_contents_have_the_same_fingerprint_wherever_they_lie():
    one = table()
    apart = Table(one.inputs.repeat_interleave(2, dim=0)[::2], one.labels.clone())
    assert not apart.inputs.is_contiguous()
    assert apart.fingerprint == one.fingerprint
    features = Table(torch.rand(4, 2, 3), torch.arange(4))
    assert Table(features.inputs.clone(), features.labels).fingerprint == features.fingerprint


def test_a_domains_fingerprint_holds_classes_and_both_splits_but_not_its_name():
    given = domain()
    fingerprints = {
        given.fingerprint,
        dataclasses.replace(given, classes=("b", "a", "c")).fingerprint,
        given.with_tables(table(1), table(0)).fingerprint,
        given.with_tables(table(0), table(0)).fingerprint,
    }
    assert len(fingerprints) == 4
    assert dataclasses.replace(given, name="other").fingerprint == given.fingerprint


def test_a_domain_without_examples_has_no_shape():
    bare = Domain("imagenet", (), None, None)
    assert bare.shape is None
    assert domain().shape == (1, 4, 4)
    assert bare.fingerprint != domain().fingerprint


def test_other_tables_leave_the_rest_of_a_domain():
    given = dataclasses.replace(domain(), flip=True, recipe={"train.steps": 3})
    other = given.with_tables(table(2), table(3))
    assert (other.name, other.classes, other.flip, other.recipe) == ("made", ("a", "b", "c"), True, {"train.steps": 3})
    assert torch.equal(other.test.inputs, table(3).inputs)


# ---- what a data set made


@pytest.mark.parametrize("part", ["inputs", "labels"])
def test_a_table_of_no_tensor_is_told(part):
    given = {"inputs": images(2, 1, 4), "labels": torch.tensor([0, 1]), part: ["good", "bad"]}
    with pytest.raises(UsageError, match=rf"^a Table's {part} are list; expected a tensor, as ") as told:
        Table(**given)
    assert ("bytes_of(texts)" in str(told.value)) == (part == "inputs")


def of(modality: str, inputs: Tensor, labels: Tensor | None = None, **changed) -> Domain:
    made = Table(inputs, torch.arange(len(inputs)) % 3 if labels is None else labels)
    return Domain(
        **{"name": "made", "classes": ("a", "b", "c"), "train": made, "test": made, **changed}, modality=modality
    )


TEXTS, SOUND = bytes_of(["good", "bad", "fine"]), torch.zeros(3, 9, dtype=torch.int16)


@pytest.mark.parametrize(
    "good",
    [
        domain(),
        of("text", TEXTS),
        of("audio", SOUND, rate=8000),
        of("features", torch.zeros(3, 2, 5)),
        of("image", images(0, 3, 8)),
        Domain("published", ("a", "b"), None, None),
    ],
)
def test_what_the_modalities_take_is_well_made(good):
    check_made(good)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (None, "a data set returned NoneType; expected return Domain(name, classes, train, test)"),
        (of("tabular", TEXTS), "made: modality='tabular'; known: audio, image, text"),
        (of("texts", TEXTS), "made: modality='texts'; did you mean text?"),
        (of("image", TEXTS), "made: the inputs of train are uint8 (3, 4); expected uint8 (N, C, H, W)"),
        (
            of("image", torch.rand(3, 1, 4, 4)),
            "made: the inputs of train are float32 (3, 1, 4, 4); expected uint8 (N, C",
        ),
        (
            of("text", torch.ones(3, 2, 4).long()),
            "made: the inputs of train are int64 (3, 2, 4); expected uint8 (N, byte",
        ),
        (
            of("text", torch.ones(3, 4).long()),
            "made: the inputs of train are int64 (3, 4); expected uint8 (N, bytes), as",
        ),
        (
            of("audio", SOUND.float(), rate=8000),
            "made: the inputs of train are float32 (3, 9); expected int16 (N, samples",
        ),
        (of("audio", SOUND), "made gives no sample rate; expected a Domain(..., modality='audio', rate=16000)"),
        (of("text", TEXTS, classes="abc"), "made: classes='abc'; expected their names, as in ('cat', 'dog')"),
        (of("text", TEXTS, classes=(1, 2, 3)), "made: classes=(1, 2, 3); expected their names"),
        (of("text", TEXTS, classes=3), "made: classes=3; expected their names"),
        (of("audio", SOUND, rate="8000"), "made gives no sample rate; expected a Domain"),
        (Domain(None, ("a", "b"), None, None), "a data set returned a Domain of name=None; expected a text"),
        (
            Domain("made", ("a", "b"), None, Table(TEXTS[:2], torch.arange(2))),
            "made: train is NoneType; expected a Tab",
        ),
        (Domain("made", ("a", "b"), (TEXTS, 0), (TEXTS, 0)), "made: train is tuple; expected a Table(inputs, labels)"),
        (
            of("text", TEXTS, classes=("a", "b")),
            "made: the labels of train go from 0 to 2; expected 0 to 1, places in cla",
        ),
        (of("text", TEXTS, torch.tensor([0, -1, 1])), "made: the labels of train go from -1 to 1; expected 0 to 2"),
        (of("text", TEXTS, torch.zeros(3)), "made: the labels of train are float32 (3,); expected int64 (N,), as in"),
        (of("text", TEXTS, torch.ones(3, 3).long()), "made: the labels of train are int64 (3, 3); expected int64 (N,)"),
        (
            of("image", images(3, 1, 4), test=Table(images(3, 1, 4).float(), torch.arange(3))),
            "made: the inputs of test are float32 (3, 1, 4, 4); expected",
        ),
    ],
)
def test_what_they_do_not_take_is_told_in_a_line(bad, says):
    with pytest.raises(UsageError) as told:
        check_made(bad)
    assert str(told.value).startswith(says)
    assert "\n" not in str(told.value)
