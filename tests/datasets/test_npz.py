"""Domains in .npz files, and every way in which one can be wrong."""

import numpy as np
import pytest

from dafw.datasets.npz import npz
from dafw.errors import UsageError
from dafw.place import Place


def arrays(**changed):
    random = np.random.default_rng(0)
    whole = {
        "train_images": random.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": random.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8),
        "test_labels": np.array([2, 1, 0]),
        "classes": np.array(["cat", "dog", "frog"]),
    }
    return {key: value for key, value in {**whole, **changed}.items() if value is not None}


def written(path, **changed):
    np.savez(path, **arrays(**changed))
    return path


def test_colour_images_come_channels_first(tmp_path):
    domain = npz(Place(), path=written(tmp_path / "pets.npz"))
    whole = arrays()
    assert (domain.name, domain.classes, domain.flip) == ("pets", ("cat", "dog", "frog"), False)
    assert domain.train.inputs.shape == (6, 3, 5, 4)
    for row in range(6):
        for channel in range(3):
            assert np.array_equal(domain.train.inputs[row, channel], whole["train_images"][row, :, :, channel])
    assert domain.test.labels.tolist() == [2, 1, 0]
    assert npz(Place(), path=tmp_path / "pets.npz", flip=True).flip


def test_grey_images_get_a_channel(tmp_path):
    grey = {part: arrays()[part][..., 0] for part in ("train_images", "test_images")}
    domain = npz(Place(), path=written(tmp_path / "grey.npz", **grey))
    assert domain.shape == (1, 5, 4)
    assert np.array_equal(domain.test.inputs[:, 0], grey["test_images"])


def test_small_unsigned_labels_are_labels(tmp_path):
    domain = npz(Place(), path=written(tmp_path / "a.npz", train_labels=np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)))
    assert domain.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert str(domain.train.labels.dtype) == "torch.int64"


WRONG = {
    "missing key": ({"test_labels": None}, "no key 'test_labels'"),
    "no classes": ({"classes": None}, "no key 'classes'"),
    "float images": ({"train_images": np.zeros((6, 5, 4, 3))}, "train_images is float64"),
    "two channels": ({"test_images": np.zeros((3, 5, 4, 2), np.uint8)}, "test_images is uint8 of shape"),
    "flat images": ({"train_images": np.zeros((6, 20), np.uint8)}, "train_images is uint8 of shape"),
    "float labels": ({"train_labels": np.zeros(6)}, "train_labels is float64"),
    "label columns": ({"train_labels": np.zeros((6, 1), int)}, "train_labels is int64 of shape"),
    "counts differ": ({"test_labels": np.array([0, 1])}, "one label for each of the 3 test_images"),
    "label too large": ({"test_labels": np.array([0, 1, 3])}, "test_labels has labels from 0 to 3; expected 0 to 2"),
    "label below 0": ({"train_labels": np.array([0, 1, 2, 0, 1, -1])}, "labels from -1 to 2"),
    "no example": ({"test_images": np.zeros((0, 5, 4, 3), np.uint8), "test_labels": np.zeros(0, int)}, "at least one"),
    "numbered classes": ({"classes": np.arange(3)}, "classes is int64"),
    "no class": ({"classes": np.array([], dtype=str)}, "classes is <U1 of shape"),
    "two sizes": ({"test_images": np.zeros((3, 8, 8, 3), np.uint8)}, "expected the size of train_images"),
    "objects": ({"classes": np.array(["cat", "dog", None], dtype=object)}, "the key 'classes' of .* cannot be read"),
}


@pytest.mark.parametrize(("changed", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_with_path_and_key(tmp_path, changed, told):
    path = written(tmp_path / "bad.npz", **changed)
    with pytest.raises(UsageError, match=told) as error:
        npz(Place(), path=path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_none_of_numpys_is_told(tmp_path):
    with pytest.raises(UsageError, match=f"no file {tmp_path}/none.npz; expected an .npz file with the keys"):
        npz(Place(), path=tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    with pytest.raises(UsageError, match=r"text\.npz cannot be read"):
        npz(Place(), path=text)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"one\.npy holds a single array"):
        npz(Place(), path=tmp_path / "one.npy")


def test_a_truncated_or_damaged_file_is_told(tmp_path):
    path = written(tmp_path / "whole.npz")
    content = path.read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"half\.npz cannot be read"):
        npz(Place(), path=tmp_path / "half.npz")
    middle = content.index(arrays()["train_images"].tobytes()[:32])
    damaged = content[:middle] + b"\x00" * 32 + content[middle + 32 :]
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"the key 'train_images' of .*damaged\.npz cannot be read"):
        npz(Place(), path=tmp_path / "damaged.npz")
