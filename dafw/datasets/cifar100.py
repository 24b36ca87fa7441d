"""CIFAR-100."""

from __future__ import annotations

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 (a hundred names as a list fill a hundred lines)
)


@register_dataset
def cifar100(place: Place) -> Domain:
    """Colour photographs of 100 classes, 32x32, 50,000 + 10,000 (Krizhevsky 2009)."""
    from torchvision.datasets import CIFAR100

    return read(
        Published(
            "cifar100",
            CLASSES,
            archives={CIFAR100.filename: CIFAR100.tgz_md5},
            unpacked=(CIFAR100.base_folder,),
            origin=CIFAR100.url,
            size="169 MB",
            open=lambda folder, train, download: CIFAR100(folder, train=train, download=download),
            table=lambda split: image_table(split.data, split.targets),
            flip=True,
        ),
        place,
    )
