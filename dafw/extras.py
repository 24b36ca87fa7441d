"""Packages that only some parts of dafw need, and what to type where one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from dafw.errors import UsageError


def imported(package: str, extra: str, what: str) -> ModuleType:
    """The imported package; UsageError, naming the extra of dafw that brings it, where it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise UsageError(
            f'{what} needs the package {error.name}, which is not installed; type pip install "dafw[{extra}]"'
        ) from error
