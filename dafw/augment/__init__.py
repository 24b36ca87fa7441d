"""Batched random views, one file a modality."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from torch import Tensor

from dafw.errors import UsageError
from dafw.registry import nearest


def views(modality: str) -> dict[str, Callable[..., Tensor]]:
    """The views of a modality by name: "weak", "strong" and "ssl".

    Each is called as `view(data, rows, generator, flip, device)`: the whole split (N, ...), rows (B,) int64 on the
    data's device, a seeded CPU generator, so that draws do not depend on the device, whether a mirrored input keeps
    its label, and the device of the answer (B, ...), float32. Raises UsageError for an unknown modality.
    """
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if modality not in known:
        raise UsageError(f"no views of the modality {modality!r}; {nearest(modality, known)}")
    table: dict[str, Callable[..., Tensor]] = importlib.import_module(f"{__name__}.{modality}").VIEWS
    return table
