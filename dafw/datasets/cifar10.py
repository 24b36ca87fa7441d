"""CIFAR-10."""

from __future__ import annotations

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@register_dataset
def cifar10(place: Place) -> Domain:
    """Colour photographs of 10 classes, 32x32, 50,000 + 10,000 (Krizhevsky 2009)."""
    from torchvision.datasets import CIFAR10

    return read(
        Published(
            "cifar10",
            CLASSES,
            archives={CIFAR10.filename: CIFAR10.tgz_md5},
            unpacked=(CIFAR10.base_folder,),
            origin=CIFAR10.url,
            size="170 MB",
            open=lambda folder, train, download: CIFAR10(folder, train=train, download=download),
            table=lambda split: image_table(split.data, split.targets),
            flip=True,
        ),
        place,
    )


cifar10.recipe = {"image_size": 32, "backbone.width": 24, "train.steps": 2000, "train.batch_size": 64}
