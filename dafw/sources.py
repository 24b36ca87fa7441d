"""Hashes of what things are made from: the code of dafw and of plug-ins, libraries, files."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import dafw

NOT_RESULTS = {
    "plots.py",
    "plots_diagnosis.py",
    "plots_examples.py",
    "pictures.py",
    "symptoms.py",
    "statistics.py",
    "tracking.py",
    "console.py",
    "cli.py",
    "run.py",
    "list.py",
    "check.py",
    "conduct.py",
    "tuning.py",
    "study.py",
    "prune.py",
    "cost.py",
    "answering.py",
}
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "tokenizers")


@functools.cache
def source_hash() -> str:
    """A hash of the package's source, without what only shows results. The plug-ins count one by one, where used."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(inspect.getfile(dafw)).parent
    # backbones share code, and so are not left out
    plugins = {root / folder for folder in ("methods", "datasets", "experiments", "report", "export")}
    for file in sorted(root.rglob("*.py")):
        if file.name not in NOT_RESULTS and not plugins.intersection(file.parents):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def plugin_hash(plugin: Any) -> str:
    """A hash of the file a plug-in was written in."""
    return hashlib.blake2b(Path(inspect.getsourcefile(plugin) or "").read_bytes(), digest_size=16).hexdigest()


def stamps(values: Iterable[Any]) -> list[tuple[int, int]]:
    """When the files among these values were written, and their sizes."""
    return [(v.stat().st_mtime_ns, v.stat().st_size) for v in values if isinstance(v, Path) and v.is_file()]


def reading_hash(register: Callable[..., Any], options: Mapping[str, Any]) -> str | None:
    """A hash of all that a backbone makes its published network and its tokens from, without making them.

    That is code, libraries, options, and the `files` it names with the times when they were written. None where it
    names none.
    """
    named = getattr(register, "files", None)
    if named is None:
        return None
    files = named(**options)
    described = {
        "code": [source_hash(), plugin_hash(register), register.__name__],
        "libraries": [_version(name) for name in LIBRARIES],
        "options": options,
        "files": [[str(file) for file in files], stamps(files)],
    }
    return hashlib.blake2b(json.dumps(described, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
