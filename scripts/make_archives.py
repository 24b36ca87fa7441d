"""Make archives of CIFAR-10 and STL-10 in their published formats, of invented images, to try the whole path offline.

    python scripts/make_archives.py OUT                  full size: 60,000 and 13,000 images, 0.6 GB, a minute
    python scripts/make_archives.py OUT --small          some hundred images
    python scripts/make_archives.py OUT --run method=dann src=cifar10 tgt=stl10

Made archives do not have the published checksums, and `src=cifar10 data=OUT` refuses them, as it should. `--run` puts
the made archives' checksums in the place of the published ones for its own process, and then is `python -m dafw.run
data=OUT` with the words that follow it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dafw.classes import canonical
from dafw.datasets.cifar10 import CLASSES as CIFAR10_CLASSES
from dafw.datasets.stl10 import CLASSES as STL10_CLASSES

CIFAR10_FILE = Path("cifar10", "cifar-10-python.tar.gz")
STL10_FILE = Path("stl10", "stl10_binary.tar.gz")
MEANINGS = sorted({canonical(name) for name in (*CIFAR10_CLASSES, *STL10_CLASSES)})  # eleven
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def make(out: Path, *, small: bool) -> None:
    """Write the archives that are not there yet: OUT/cifar10/cifar-10-python.tar.gz, OUT/stl10/stl10_binary.tar.gz."""
    for file, members in ((CIFAR10_FILE, cifar10_members), (STL10_FILE, stl10_members)):
        path = out / file
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"making {path}", flush=True)
            write_archive(path, members(small))


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    partial.rename(path)


def cifar10_members(small: bool) -> dict[str, bytes]:
    """The pickled batches: data (N, 3072) uint8, channel after channel, and labels."""
    count, members = 60 if small else 10_000, {}
    for number, batch in enumerate(BATCHES):
        random = np.random.default_rng((10, number))
        labels = random.permutation(count) % 10
        images = pictures(labels, CIFAR10_CLASSES, 32, random, dark=False)
        members[batch] = {
            "batch_label": batch,
            "labels": labels.tolist(),
            "data": images.reshape(count, -1),
            "filenames": [f"{row:05d}.png" for row in range(count)],
        }
    members["batches.meta"] = {"num_cases_per_batch": count, "label_names": list(CIFAR10_CLASSES), "num_vis": 3072}
    return {f"cifar-10-batches-py/{name}": pickle.dumps(value, 2) for name, value in members.items()}


def stl10_members(small: bool) -> dict[str, bytes]:
    """Binary: images (N, 3, 96, 96) uint8, column after column, and labels from 1; the unlabelled ones are few."""
    members = {"class_names.txt": "\n".join(STL10_CLASSES).encode() + b"\n"}
    counts = {"train": 100, "test": 80} if small else {"train": 5_000, "test": 8_000}
    for number, (part, count) in enumerate(counts.items()):
        random = np.random.default_rng((96, number))
        labels = random.permutation(count) % 10
        images = pictures(labels, STL10_CLASSES, 96, random, dark=True)
        members[f"{part}_X.bin"] = images.transpose(0, 1, 3, 2).tobytes()
        members[f"{part}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
        if part == "train":
            members["unlabeled_X.bin"] = members["train_X.bin"][: 20 * 3 * 96 * 96]
    return {f"stl10_binary/{name}": content for name, content in members.items()}


def pictures(
    labels: np.ndarray, classes: tuple[str, ...], side: int, random: np.random.Generator, *, dark: bool
) -> np.ndarray:
    """uint8 (N, 3, side, side): a class is the direction and fineness of stripes in an oblong patch on a background.

    Place, phase, colours and grain are drawn for every image; `dark` is the other domain, whose grounds are dark and
    whose patches bright.
    """
    looks = np.array([look(name) for name in classes], dtype=np.float32)[labels]
    images = np.empty((len(labels), 3, side, side), dtype=np.uint8)
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    for start in range(0, len(labels), 500):
        rows = slice(start, min(start + 500, len(labels)))
        images[rows] = _part(looks[rows], grid, random, dark)
    return images


def look(name: str) -> tuple[float, float, float]:
    """Direction and fineness of a class's stripes and direction of its patch, by its meaning (automobile = car).

    No two classes are each other's mirror image: training flips these images.
    """
    number = MEANINGS.index(canonical(name))
    return (number % 3) * np.pi / 4, (2.0, 3.5, 5.0, 7.0)[number // 3], (number % 2) * np.pi / 2


def _part(looks: np.ndarray, grid: np.ndarray, random: np.random.Generator, dark: bool) -> np.ndarray:
    count, side = len(looks), len(grid)

    def each(low: float, high: float, *shape: int) -> np.ndarray:
        return random.uniform(low, high, (count, *(shape or (1, 1)))).astype(np.float32)

    direction, fineness, patch = (looks[:, column, None, None] for column in range(3))
    across, down = grid[None, None, :] - each(-0.15, 0.15), grid[None, :, None] - each(-0.15, 0.15)
    angle = direction + each(-0.15, 0.15)
    stripes = np.sin(2 * np.pi * fineness * (across * np.cos(angle) + down * np.sin(angle)) + each(0, 2 * np.pi))
    along, aside = across * np.cos(patch) + down * np.sin(patch), down * np.cos(patch) - across * np.sin(patch)
    inside = np.exp(-((along / 0.35) ** 2) - (aside / 0.2) ** 2)[:, None]
    ground = each(20, 110, 3, 1, 1) if dark else each(120, 235, 3, 1, 1)
    colour = each(120, 250, 3, 1, 1) if dark else each(20, 130, 3, 1, 1)
    values = ground + inside * (colour - ground) * (0.6 + 0.4 * stripes[:, None])
    values += (25 if dark else 12) * random.standard_normal((count, 1, side, side), dtype=np.float32)
    return values.clip(0, 255).astype(np.uint8)


def checksums(archive: Path) -> dict[str, str]:
    """The md5 of every file in an archive, by the file's name without its folder."""
    found = {}
    with tarfile.open(archive) as opened:
        for entry in opened:
            content = opened.extractfile(entry)
            if content is not None:
                found[Path(entry.name).name] = hashlib.md5(content.read(), usedforsecurity=False).hexdigest()
    return found


def substitute_checksums(out: Path, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put the made archives' checksums into torchvision's tables, in this process."""
    from torchvision.datasets import CIFAR10, STL10

    for table, file in ((CIFAR10, CIFAR10_FILE), (STL10, STL10_FILE)):
        members = checksums(out / file)
        put(table, "tgz_md5", hashlib.md5((out / file).read_bytes(), usedforsecurity=False).hexdigest())
        put(table, "train_list", [[name, members[name]] for name, _ in table.train_list])
        put(table, "test_list", [[name, members[name]] for name, _ in table.test_list])
        if table is CIFAR10:
            put(table, "meta", {**CIFAR10.meta, "md5": members[CIFAR10.meta["filename"]]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--run", nargs=argparse.REMAINDER, metavar="KEY=VALUE")
    given = parser.parse_args()
    make(given.out, small=given.small)
    if given.run is not None:
        from dafw.cli import main as run

        substitute_checksums(given.out)
        raise SystemExit(run([f"data={given.out}", *given.run]))


if __name__ == "__main__":
    main()
