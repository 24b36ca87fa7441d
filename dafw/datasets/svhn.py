"""Street View House Numbers."""

from __future__ import annotations

import numpy as np

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def svhn(place: Place) -> Domain:
    """House numbers, one digit in the middle, 32x32 in colour, 73,257 + 26,032 (Netzer et al. 2011)."""
    from torchvision.datasets import SVHN

    files = [SVHN.split_list[part] for part in ("train", "test")]
    return read(
        Published(
            "svhn",
            tuple("0123456789"),
            archives={file: md5 for _, file, md5 in files},
            unpacked=(),
            origin=files[0][0].rpartition("/")[0],
            size="246 MB",
            open=lambda folder, train, download: SVHN(folder, "train" if train else "test", download=download),
            table=lambda split: image_table(np.moveaxis(split.data, 1, 3), split.labels),
        ),
        place,
    )
