"""USPS."""

from __future__ import annotations

from dafw.datasets._arrays import image_table
from dafw.datasets._torchvision import Published, read
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def usps(place: Place) -> Domain:
    """Handwritten digits of zip codes, 16x16 in grey, 7,291 + 2,007 (Hull 1994)."""
    from torchvision.datasets import USPS

    files = [USPS.split_list[part] for part in ("train", "test")]
    return read(
        Published(
            "usps",
            tuple("0123456789"),
            archives={file: md5 for _, file, md5 in files},
            unpacked=(),
            origin=files[0][0].rpartition("/")[0],
            size="8 MB",
            open=lambda folder, train, download: USPS(folder, train=train, download=download),
            table=lambda split: image_table(split.data, split.targets),
        ),
        place,
    )
