"""Public data sets through torchvision's classes: found, else downloaded; checksums come before reading."""

from __future__ import annotations

import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from dafw import cache
from dafw.datasets._arrays import read_npz
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.place import Place


@dataclass(frozen=True)
class Published:
    """A public data set as it is downloaded and as torchvision reads it.

    archives: the files that are downloaded, with the md5 that torchvision has for them
    unpacked: what unpacking them leaves beside them; empty where they are read as they are
    origin, size: where they come from and how large they are, for people
    open: (folder, train or test split, whether to download and unpack) → torchvision's data set
    table: torchvision's data set → images and labels
    subfolders: where inside the data set's folder people keep them
    """

    name: str
    classes: tuple[str, ...]
    archives: Mapping[str, str]
    unpacked: tuple[str, ...]
    origin: str
    size: str
    open: Callable[[Path, bool, bool], Any]
    table: Callable[[Any], Table]
    subfolders: tuple[str, ...] = ("",)
    flip: bool = False

    @property
    def files(self) -> str:
        return " and ".join(self.archives)


def read(published: Published, place: Place) -> Domain:
    """The domain of a public data set, from `<name>.npz` where there is one, else from the files as published.

    Raises UsageError where it is nowhere and may not or cannot be downloaded, and where a file is damaged.
    """
    arrays = place.archive(published.name)
    if arrays is not None:
        return read_npz(arrays, published.name, flip=published.flip)
    folder = _ready_folder(published, place)
    with _damage_told(published, folder):
        train, test = (published.table(published.open(folder, train, False)) for train in (True, False))
        if max(int(table.labels.max()) for table in (train, test)) >= len(published.classes):
            raise ValueError("labels beyond the classes")
    return Domain(published.name, published.classes, train, test, flip=published.flip)


def _ready_folder(published: Published, place: Place) -> Path:
    """The folder with the unpacked files, downloaded or unpacked now where they are not; of several runs by one."""
    from filelock import FileLock

    with FileLock(cache.folder("datasets") / f".{published.name}.lock"):
        folder = _find(published, place)
        if folder is None:
            return _download(published, place)
        if not published.unpacked or not all((folder / part).exists() for part in published.unpacked):
            _verify(published, folder)
            _unpack(published, folder)
    return folder


def _find(published: Published, place: Place) -> Path | None:
    """The first folder with any file of the data set: its own, or that of all of them, as torchvision's users do."""
    folders = place.folders(published.name)
    if place.root is not None and folders[0].name in published.unpacked:
        folders = [folders[0].parent]
    elif place.root is None and place.data is not None:
        folders.insert(1, folders[0].parent)
    inner = [folder / subfolder for folder in folders for subfolder in published.subfolders]
    files = [*published.archives, *published.unpacked]
    return next((folder for folder in inner if any((folder / file).exists() for file in files)), None)


def _verify(published: Published, folder: Path) -> None:
    from torchvision.datasets.utils import check_integrity

    for file, md5 in published.archives.items():
        path = folder / file
        if not path.is_file():
            raise UsageError(f"{published.name}: {folder} lacks {file}; put it there, from {published.origin}")
        if not check_integrity(str(path), md5):
            raise UsageError(
                f"{published.name}: {path} is damaged (its md5 is not {md5}); "
                f"delete it, and put it there again from {published.origin}"
            )


def _unpack(published: Published, folder: Path) -> None:
    if not published.unpacked:
        return
    try:
        with _quiet():
            published.open(folder, True, True)
    except OSError as error:
        raise UsageError(
            f"{published.name}: {published.files} cannot be unpacked in {folder} ({error.strerror}); "
            "unpack it there yourself, or give root= a folder that can be written"
        ) from error


def _download(published: Published, place: Place) -> Path:
    """Into a folder aside in the data cache, which takes its name once it is whole."""
    name, get = published.name, f"{published.size} from {published.origin}"
    if place.root is not None:
        raise place.missing(name, published.files, get)
    if not place.download:
        raise place.missing(name, published.files, f"{get}; or allow download=true")
    target = cache.folder("datasets") / name
    print(f"{name}: downloading {published.files}, {get}, to {target}", flush=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as temporary:
        whole = Path(temporary) / name
        try:
            with _quiet():
                for train in (True, False):
                    published.open(whole, train, True)
            whole.rename(target)
        except (OSError, RuntimeError, HTTPException, EOFError) as error:
            reason = textwrap.shorten(str(error) or type(error).__name__, 200)
            raise place.missing(name, published.files, f"{get}; the download failed: {reason}") from error
    return target


@contextmanager
def _damage_told(published: Published, folder: Path) -> Iterator[None]:
    """Whatever is raised on missing or damaged files as one line."""
    try:
        with _quiet():
            yield
    except (RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AssertionError, UsageError) as error:
        reason = textwrap.shorten(str(error) or type(error).__name__, 200)
        raise UsageError(
            f"{published.name}: the files in {folder} are incomplete or damaged ({reason}); "
            f"delete them, and put {published.files} there, from {published.origin}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence on how torchvision unpacks and unpickles files that it verified: the user can mend nothing of it."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, np.exceptions.VisibleDeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield
