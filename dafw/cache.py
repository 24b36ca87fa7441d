"""The data cache: where downloads, decoded folders and frozen features are kept between runs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dafw.errors import UsageError


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
