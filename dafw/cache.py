"""The data cache, where downloads, decoded folders and frozen features are kept between runs, and memory within one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dafw.errors import UsageError

T = TypeVar("T")


def folder(*parts: str) -> Path:
    """The cache (DAFW_CACHE, else ~/.cache/dafw) or a folder in it, made where it is missing."""
    root = Path(os.environ.get("DAFW_CACHE") or Path.home() / ".cache" / "dafw")
    path = root.joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the data cache {path} cannot be written ({error.strerror}); set DAFW_CACHE=DIR") from error
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there if the block ends well and removed if not: never half a file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remembered(held: dict[Any, T], key: Any, make: Callable[[], T], most: int = 6) -> T:
    """What was made for this key, or made now: a study's runs in one process share domains and networks."""
    if key not in held:
        while len(held) >= most:
            del held[next(iter(held))]
        held[key] = make()
    return held[key]
