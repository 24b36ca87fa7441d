"""MNIST-M."""

from __future__ import annotations

from pathlib import Path

import torch

from dafw.datasets._arrays import read_npz
from dafw.datasets._folders import decoded
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.place import Place
from dafw.registry import register_dataset

FILES = "mnistm.npz, or mnist_m_train/, mnist_m_train_labels.txt, mnist_m_test/ and mnist_m_test_labels.txt"
CLASSES = tuple("0123456789")


@register_dataset
def mnistm(place: Place) -> Domain:
    """MNIST's digits blended with patches of photographs, 32x32 in colour (Ganin et al. 2016, JMLR 17(59))."""
    arrays = place.archive("mnistm")
    if arrays is not None:
        return read_npz(arrays, "mnistm")
    for base in place.folders("mnistm"):
        for folder in (base, base / "mnist_m"):
            if (folder / "mnist_m_train").is_dir():
                return Domain("mnistm", CLASSES, _part(folder, "train"), _part(folder, "test"))
    raise place.missing("mnistm", FILES, "mnist_m.tar.gz from http://yaroslav.ganin.net; dafw cannot download it")


def _part(folder: Path, part: str) -> Table:
    listing = folder / f"mnist_m_{part}_labels.txt"
    if not listing.is_file():
        raise UsageError(f"mnistm: {folder} lacks {listing.name}; put it there, beside mnist_m_{part}/")
    files, labels = [], []
    for number, line in enumerate(listing.read_text().splitlines(), start=1):
        file, _, label = line.rpartition(" ")
        if label not in CLASSES or not (folder / f"mnist_m_{part}" / file).is_file():
            raise UsageError(
                f"{listing}:{number}: {line!r}; expected the name of a file in mnist_m_{part}/ and its digit"
            )
        files.append(folder / f"mnist_m_{part}" / file)
        labels.append(int(label))
    if not files:
        raise UsageError(f"{listing} is empty; expected a line for each image, as in: 00000000.png 5")
    return Table(decoded(files, folder, f"mnistm {part}", None), torch.tensor(labels))
