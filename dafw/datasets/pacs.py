"""PACS."""

from __future__ import annotations

from dafw.datasets._folders import read_family
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def pacs(place: Place, *, test_fraction: float = 0.3) -> Domain:
    """7 classes as photographs, paintings, cartoons and sketches, 9,991 pictures (Li et al. 2017)."""
    return read_family(
        place,
        "pacs",
        wrappers=("PACS", "kfold", "PACS/kfold"),
        origin="https://sketchx.eecs.qmul.ac.uk/downloads/",
        test_fraction=test_fraction,
    )


pacs.domains = ("art_painting", "cartoon", "photo", "sketch")
