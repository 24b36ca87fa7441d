"""Folders of class folders: their files listed and split, and images decoded once into the data cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dafw import cache
from dafw.classes import canonical
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.place import Place

if TYPE_CHECKING:
    from PIL.Image import Image

CLUTTER = ("thumbs.db", "desktop.ini")  # what file managers leave in folders, beside hidden files
TEST_FOLDERS = ("test", "val", "validation")
OWN_SIZE_LIMIT = 256
SIZE = 224


class Kind(NamedTuple):
    """A kind of file that class folders hold: what one is called, and the suffixes it may have, the usual one first."""

    noun: str
    suffixes: tuple[str, ...]

    @property
    def layout(self) -> str:
        """How class folders may lie, in words."""
        file = f"*{self.suffixes[0]}"
        return f"train/<class>/{file} and test/<class>/{file} (or val/, validation/), or <class>/{file} to be split"

    def broken(self, file: Path, reason: str) -> UsageError:
        """The error of a file that is not one of this kind, or not all of one."""
        expected = ", ".join(self.suffixes)
        return UsageError(f"{file} is not a whole {self.noun} ({reason}); expected {expected}: delete it or replace it")


@dataclass(frozen=True)
class Listed:
    """The files of class folders, those of the train split first, so that both splits are views of one memory map.

    labels (N,) int64; count: how many are the train split's
    """

    classes: tuple[str, ...]
    files: list[Path]
    labels: Tensor
    count: int

    def tables(self, inputs: Tensor) -> tuple[Table, Table]:
        """The train and the test split, of inputs (N, ...) in the files' order."""
        first, rest = slice(self.count), slice(self.count, None)
        return Table(inputs[first], self.labels[first]), Table(inputs[rest], self.labels[rest])


IMAGES = Kind("image", (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"))
LAYOUT = IMAGES.layout


def listed_files(folder: Path, kind: Kind, place: Place, test_fraction: float) -> Listed:
    """The files in `folder`, laid out as the kind says; a single folder is split by the split seed, stratified.

    Raises UsageError for a layout that is none, an empty class folder, and a file that is not of the kind by its name.
    """
    inner = [child.name for child in _folders(folder)]
    if "train" in inner and _folders(folder / "train"):  # a class called "train" holds files, not folders
        test = next((part for part in TEST_FOLDERS if part in inner), None)
        if test is None:
            raise UsageError(f"{folder} has train/ but none of test/, val/, validation/; expected {kind.layout}")
        parts = [_listed(folder / "train", kind), _listed(folder / test, kind)]
        differing = sorted(set(parts[0]) ^ set(parts[1]))
        if differing:
            raise UsageError(
                f"{folder}: the class {differing[0]!r} is in only one of train/ and {test}/; expected the same classes"
            )
        train, test_files = (_flat(part) for part in parts)
        classes = tuple(parts[0])
    else:
        listed = _listed(folder, kind)
        classes = tuple(listed)
        train, test_files = _divided(listed, kind, place, test_fraction)
    files, labels = zip(*train, *test_files, strict=True)
    return Listed(classes, list(files), torch.tensor(labels), len(train))


def read_folder(folder: Path, name: str, place: Place, *, test_fraction: float, size: int | None) -> Domain:
    """The domain of images in `folder`, laid out as `LAYOUT` says; RGB of one size (see `decoded`).

    Raises UsageError as `listed_files` does, and for a file that is not an image.
    """
    listed = listed_files(folder, IMAGES, place, test_fraction)
    images = decoded(listed.files, folder, name, size)
    return Domain(name, listed.classes, *listed.tables(images), flip=True)


def read_family(place: Place, name: str, *, wrappers: Sequence[str], origin: str, test_fraction: float) -> Domain:
    """One domain of a benchmark whose folder holds a folder of class folders for each domain, as its archive unpacks.

    A folder of the domain's name in any spelling ("Real World"), in the benchmark's own folder or in one of
    `wrappers`; where it holds a folder `images`, the class folders are in there.
    """
    wanted = place.domain or ""
    own = place.folders(name)
    around = [own[0].parent] if place.root is None and place.data is not None else []
    bases = own + [base / wrapper for base in [*own, *around] for wrapper in wrappers]
    for base in bases:
        for child in _folders(base):
            if canonical(child.name) == canonical(wanted):
                inner = child / "images"
                folder = inner if inner.is_dir() and _folders(inner) else child
                return read_folder(folder, f"{name}/{wanted}", place, test_fraction=test_fraction, size=None)
    raise place.missing(f"{name}/{wanted}", f"{wanted}/<class>/*.jpg", origin)


def decoded(files: Sequence[Path], base: Path, name: str, size: int | None) -> Tensor:
    """Images (N, 3, H, W) uint8 in RGB, decoded once and memory-mapped from the data cache ever after.

    size None: the images' own size where all are equal and at most 256 px, else 224. A larger image is area averaged
    (PIL's BOX), a smaller one bilinear. The cache's key is of the files' names, sizes and times of change, in order.
    Raises UsageError naming a file that cannot be decoded.
    """
    path = cache.folder("datasets", "images") / f"{cache_key(files, base, size)}.npy"
    if not path.is_file():
        print(f"{name}: decoding {len(files)} images into the data cache, once", flush=True)
        _decode(files, path, (size, size) if size else _common_size(files))
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def cache_key(files: Sequence[Path], base: Path, *options: object) -> str:
    """A hash of the files' names, sizes and times of change, in order, of their folder, and of how they are decoded."""
    stats = [(file.relative_to(base).as_posix(), file.stat()) for file in files]
    listing = [(relative, stat.st_size, stat.st_mtime_ns) for relative, stat in stats]
    return hashlib.blake2b(repr((str(base.resolve()), *options, listing)).encode(), digest_size=16).hexdigest()


def _decode(files: Sequence[Path], path: Path, size: tuple[int, int]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), 3, size[1], size[0])}
    with cache.written_whole(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for file in files:
            stream.write(np.moveaxis(np.asarray(_rgb(file, size)), 2, 0).tobytes())


def _rgb(file: Path, size: tuple[int, int]) -> Image:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # PIL warns of the direct way
            colour = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise IMAGES.broken(file, str(error)) from error
    if colour.size == size:
        return colour
    larger = max(colour.size) > max(size)
    return colour.resize(size, Image.Resampling.BOX if larger else Image.Resampling.BILINEAR)


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    from PIL import Image

    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise IMAGES.broken(file, str(error)) from error
    common = sizes.pop()
    return common if not sizes and max(common) <= OWN_SIZE_LIMIT else (SIZE, SIZE)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _listed(folder: Path, kind: Kind) -> dict[str, list[Path]]:
    """Class name → its files, both in alphabetical order."""
    listed = {child.name: _files(child, kind) for child in _folders(folder)}
    if not listed:
        raise UsageError(f"{folder} has no class folders; expected {kind.layout}")
    return listed


def _files(folder: Path, kind: Kind) -> list[Path]:
    files = []
    for entry in sorted(os.listdir(folder)):
        if entry.startswith(".") or entry.lower() in CLUTTER:
            continue
        file = folder / entry
        if file.suffix.lower() not in kind.suffixes or not file.is_file():
            raise kind.broken(file, "a folder" if file.is_dir() else "by its name")
        files.append(file)
    if not files:
        raise UsageError(
            f"the class folder {folder} is empty; expected {', '.join(kind.suffixes)} in it, or no such folder"
        )
    return files


def _flat(listed: dict[str, list[Path]]) -> list[tuple[Path, int]]:
    return [(file, label) for label, files in enumerate(listed.values()) for file in files]


def _divided(
    listed: dict[str, list[Path]], kind: Kind, place: Place, test_fraction: float
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    for name, files in listed.items():
        if len(files) < 2:
            raise UsageError(
                f"{files[0].parent}: one {kind.noun}; expected two or more of {name!r} to split, or {kind.layout}"
            )
    labelled = _flat(listed)
    train, test = place.split(torch.tensor([label for _, label in labelled]), test_fraction)
    return [labelled[row] for row in train], [labelled[row] for row in test]
