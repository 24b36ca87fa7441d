"""Office-Caltech-10."""

from __future__ import annotations

from dafw.datasets._folders import read_family
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def office_caltech(place: Place, *, test_fraction: float = 0.3) -> Domain:
    """The 10 classes that Office-31 and Caltech-256 share, in four domains (Gong et al. 2012)."""
    return read_family(
        place,
        "office_caltech",
        wrappers=("office_caltech_10", "office-caltech-10"),
        origin="https://github.com/jindongwang/transferlearning/blob/master/data/dataset.md",
        test_fraction=test_fraction,
    )


office_caltech.domains = ("amazon", "caltech", "dslr", "webcam")
