"""Where a data set lies on this machine, and what to say where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafw import cache
from dafw.errors import UsageError


def called(path: Path | str) -> str:
    """What a domain is called that was read from a file, a folder, or the files of a pattern in one.

    >>> called("texts/reviews.jsonl.gz"), called("texts/books/*.csv")
    ('reviews', 'books')
    """
    place = Path(str(path).partition("*")[0]).expanduser()
    return place.resolve().name if place.is_dir() else Path(place.name.removesuffix(".gz")).stem


def called_by(option: str) -> Callable[[Mapping[str, Any]], str]:
    """The `called` of a data set whose domains are called by the path in this option, where it is given."""
    return lambda options: called(options[option]) if options.get(option) else options["name"]


@dataclass(frozen=True)
class Place:
    """What every data set is told beside its own options.

    root: the folder of this one data set (`src.root=`); it must exist
    data: the folder of all data sets (`data=` or DAFW_DATA), each in a folder or file of its own
    download: whether missing public data may be downloaded into the data cache
    split_seed: the seed of every split that the data set does not bring along
    domain: the part after the slash of a family, "amazon" in office31/amazon
    """

    root: Path | None = None
    data: Path | None = None
    download: bool = True
    split_seed: int = 0
    domain: str | None = None

    def folders(self, name: str) -> list[Path]:
        """Where a data set may lie, most wanted first: `root` alone, else the one in `data`, then the data cache.

        Only `root` and `data` themselves must exist (UsageError says which does not).
        """
        if self.root is not None:
            return [_existing(self.root, "root", f"the folder of the data set {name}")]
        cached = cache.folder("datasets") / name
        if self.data is None:
            return [cached]
        return [
            _existing(self.data, "data", "the folder of all data sets, each in a folder of its own") / name,
            cached,
        ]

    def archive(self, name: str) -> Path | None:
        """`<name>.npz` in `root`, or in `data` or the data set's folder there, where there is one."""
        folders = self.folders(name)
        beside = [] if self.root is not None else [folder.parent for folder in folders]
        return next((f for f in (folder / f"{name}.npz" for folder in [*beside, *folders]) if f.is_file()), None)

    def missing(self, name: str, files: str, get: str) -> UsageError:
        """The error of a data set that is nowhere: where was looked, which files go where, and how to get them."""
        folders = self.folders(name.partition("/")[0])
        looked = " or ".join(str(folder) for folder in folders)
        return UsageError(f"{name}: not found in {looked}; put {files} into {folders[0]} ({get})")

    def split(self, labels: Tensor, test_fraction: float) -> tuple[Tensor, Tensor]:
        """Rows (N,) of a train and a test part, ascending; each class gives round(test_fraction * n), 1 to n - 1.

        One class's draw does not depend on the others. UsageError where the fraction is not between 0 and 1.
        """
        if not 0 < test_fraction < 1:
            raise UsageError(
                f"test_fraction={test_fraction}: expected a number between 0 and 1, as in test_fraction=0.3"
            )
        test = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique().tolist():
            rows = torch.nonzero(labels == label).flatten()
            count = min(max(round(test_fraction * len(rows)), 1), len(rows) - 1)
            order = np.random.default_rng((self.split_seed, label)).permutation(len(rows))
            test[rows[torch.from_numpy(order[:count])]] = True
        return torch.nonzero(~test).flatten(), torch.nonzero(test).flatten()


def _existing(folder: Path, key: str, expected: str) -> Path:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"{key}={folder}: no such folder; expected {expected}")
    return path
