"""Packages that only some parts of dafw need, what to type where one is missing, and whether a server is there."""

from __future__ import annotations

import importlib
import urllib.error
import urllib.request
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


def reachable(address: str) -> bool:
    """Whether a server answers, asked first because without a network its client tries for half a minute or more."""
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError:  # it answers
        return True
    except OSError:
        return False
    return True
