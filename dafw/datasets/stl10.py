"""STL-10."""

from __future__ import annotations

import numpy as np

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@register_dataset
def stl10(place: Place) -> Domain:
    """Colour photographs of 10 classes, 96x96, 5,000 + 8,000 from ImageNet (Coates et al. 2011); no unlabelled ones."""
    from torchvision.datasets import STL10

    class Labelled(STL10):  # does not ask for 2.7 GB of unlabelled images, nor read them for their checksum
        train_list = STL10.train_list[:2]

    return read(
        Published(
            "stl10",
            CLASSES,
            archives={STL10.filename: STL10.tgz_md5},
            unpacked=(STL10.base_folder,),
            origin=STL10.url,
            size="2.6 GB",
            open=lambda folder, train, download: Labelled(folder, "train" if train else "test", download=download),
            table=lambda split: image_table(np.moveaxis(split.data, 1, 3), split.labels),
            flip=True,
        ),
        place,
    )
