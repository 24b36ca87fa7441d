"""MNIST."""

from __future__ import annotations

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def mnist(place: Place) -> Domain:
    """Handwritten digits, 28x28 in grey, 60,000 + 10,000 (LeCun et al. 1998)."""
    from torchvision.datasets import MNIST

    class Beside(MNIST):  # reads the files in the folder they were found in, not only in <folder>/MNIST/raw
        raw_folder = property(lambda self: self.root)

    return read(
        Published(
            "mnist",
            tuple("0123456789"),
            archives=dict(MNIST.resources),
            unpacked=tuple(file.removesuffix(".gz") for file, _ in MNIST.resources),
            origin=MNIST.mirrors[0],
            size="12 MB",
            open=lambda folder, train, download: Beside(folder, train=train, download=download),
            table=lambda split: image_table(split.data.numpy(), split.targets.numpy()),
            subfolders=("", "MNIST/raw", "raw"),
        ),
        place,
    )
