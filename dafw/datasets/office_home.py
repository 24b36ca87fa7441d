"""Office-Home."""

from __future__ import annotations

from dafw.datasets._folders import read_family
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def office_home(place: Place, *, test_fraction: float = 0.3) -> Domain:
    """65 classes of everyday objects in four domains, 15,588 pictures (Venkateswara et al. 2017)."""
    return read_family(
        place,
        "office_home",
        wrappers=("OfficeHomeDataset_10072016", "OfficeHome"),
        origin="https://www.hemanthdv.org/officeHomeDataset.html",
        test_fraction=test_fraction,
    )


office_home.domains = ("art", "clipart", "product", "real_world")
