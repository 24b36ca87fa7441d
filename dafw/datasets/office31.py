"""Office-31."""

from __future__ import annotations

from dafw.datasets._folders import read_family
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def office31(place: Place, *, test_fraction: float = 0.3) -> Domain:
    """31 classes of office objects: product pictures, a reflex camera, a webcam (Saenko et al. 2010)."""
    return read_family(
        place,
        "office31",
        wrappers=("domain_adaptation_images", "Original_images"),
        origin="https://faculty.cc.gatech.edu/~judy/domainadapt/",
        test_fraction=test_fraction,
    )


office31.domains = ("amazon", "dslr", "webcam")
