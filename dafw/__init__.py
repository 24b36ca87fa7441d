"""dafw measures, honestly, how well a domain adaptation method adapts.

Names are imported when they are first used, so that `python -m dafw.run --help` stays quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before torch is imported: its threads wait for each other by spinning, and where another process holds a core a step
# then takes twenty times as long. A shorter spin costs nothing on a quiet machine and is far quicker on a busy one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PUBLIC = {
    "Method": "method",
    "Setting": "setting",
    "register_method": "registry",
    "register_dataset": "registry",
    "register_backbone": "registry",
    "register_validator": "registry",
    "measure": "experiment",
    "load": "assembly",
}

if TYPE_CHECKING:
    from dafw.assembly import load as load
    from dafw.experiment import measure as measure
    from dafw.method import Method as Method
    from dafw.registry import register_backbone as register_backbone
    from dafw.registry import register_dataset as register_dataset
    from dafw.registry import register_method as register_method
    from dafw.registry import register_validator as register_validator
    from dafw.setting import Setting as Setting

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"dafw.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'dafw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
