"""Images in one file of NumPy arrays."""

from __future__ import annotations

from pathlib import Path

from dafw.datasets._arrays import read_npz
from dafw.domain import Domain
from dafw.place import Place, called, called_by
from dafw.registry import register_dataset


@register_dataset
def npz(place: Place, *, path: Path, flip: bool = False) -> Domain:  # noqa: ARG001 (what every data set is given)
    """An .npz file: train_images, test_images (N, H, W[, 3]) uint8, train_labels, test_labels, classes."""
    file = Path(path).expanduser()
    return read_npz(file, called(file), flip=flip)


npz.called = called_by("path")
