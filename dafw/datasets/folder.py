"""A data set of one's own: a folder of class folders of images."""

from __future__ import annotations

from dafw.datasets._folders import LAYOUT, read_folder
from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.place import Place, called, called_by
from dafw.registry import register_dataset


@register_dataset
def folder(place: Place, *, test_fraction: float = 0.3, size: int | None = None) -> Domain:
    """Image files in train/<class>/ and test/<class>/ (or val/, validation/), or in <class>/ to be split."""
    if place.root is None:
        raise UsageError(f"folder needs root=DIR; expected {LAYOUT}, as in src=folder src.root=DIR")
    if size is not None and size < 1:
        raise UsageError(f"size={size}: expected the side of the images in pixels, as in size=128")
    (root,) = place.folders("folder")
    return read_folder(root, called(root), place, test_fraction=test_fraction, size=size)


folder.called = called_by("root")
