"""Arrays of images, in memory or in an .npz file, as tables and domains."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dafw.domain import Domain, Table
from dafw.errors import UsageError

KEYS = ("train_images", "train_labels", "test_images", "test_labels", "classes")


def image_table(images: np.ndarray, labels: np.ndarray | Sequence[int]) -> Table:
    """uint8 images (N, H, W), (N, H, W, 1) or (N, H, W, 3) and N labels → a table of (N, C, H, W)."""
    channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1)
    inputs = torch.from_numpy(np.ascontiguousarray(channels_first))
    return Table(inputs, torch.from_numpy(np.array(labels, dtype=np.int64)))


def read_npz(path: Path, name: str, *, flip: bool = False) -> Domain:
    """The domain in an .npz file with the keys of `KEYS`; nothing in it is unpickled.

    train_images, test_images: uint8 (N, H, W) or (N, H, W, 3) of one size; train_labels, test_labels: integers (N,)
    from 0; classes: strings (C,). Raises UsageError, naming the path and the key, for anything else.
    """
    arrays = _arrays(path)
    classes = arrays["classes"]
    if classes.ndim != 1 or classes.dtype.kind != "U" or not len(classes):
        raise _bad(path, "classes", classes, "a one-dimensional array of strings, the class names in the labels' order")
    train, test = (_part(path, part, arrays, len(classes)) for part in ("train", "test"))
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise _bad(
            path, "test_images", arrays["test_images"], f"the size of train_images {arrays['train_images'].shape}"
        )
    return Domain(name, tuple(str(c) for c in classes), train, test, flip=flip)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    wanted = f"expected an .npz file with the keys {', '.join(KEYS)}, as numpy.savez writes it"
    if not path.is_file():
        raise UsageError(f"no file {path}; {wanted}")
    key, arrays = "", {}
    try:
        with path.open("rb") as stream:  # numpy leaves a file open that it cannot read
            file: Any = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UsageError(f"{path} holds a single array; {wanted}")
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise UsageError(
                    f"{path} has no key {missing[0]!r} (it has {', '.join(file.files) or 'none'}); {wanted}"
                )
            for key in KEYS:
                arrays[key] = file[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        where = f"the key {key!r} of {path}" if key else str(path)
        raise UsageError(
            f"{where} cannot be read ({type(error).__name__}); {wanted}, without pickled objects"
        ) from error
    return arrays


def _part(path: Path, part: str, arrays: dict[str, np.ndarray], classes: int) -> Table:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise _bad(path, f"{part}_images", images, "uint8 images of shape (N, H, W) or (N, H, W, 3)")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise _bad(path, f"{part}_labels", labels, "integers of shape (N,)")
    if not len(images) or len(images) != len(labels):
        raise _bad(
            path, f"{part}_labels", labels, f"one label for each of the {len(images)} {part}_images, at least one"
        )
    if labels.min() < 0 or labels.max() >= classes:
        has = f"labels from {labels.min()} to {labels.max()}"
        raise UsageError(f"{path}: {part}_labels has {has}; expected 0 to {classes - 1}, one for each name in classes")
    return image_table(images, labels)


def _bad(path: Path, key: str, array: np.ndarray, expected: str) -> UsageError:
    return UsageError(f"{path}: {key} is {array.dtype} of shape {array.shape}; expected {expected}")
