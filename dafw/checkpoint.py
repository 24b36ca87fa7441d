"""Saving and loading a method's state: whole files only, and nothing that could run code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from dafw.cache import written_whole
from dafw.errors import UsageError
from dafw.pruning import packed, unpacked


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, pruned weights packed; the old file stays until the new one is complete."""
    with written_whole(path) as temporary:
        torch.save({**state, "method": packed(state["method"])}, temporary)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, on the CPU. UsageError for a file that is missing or not a checkpoint."""
    if not path.exists():
        raise UsageError(f"no checkpoint {path}; expected the folder of a finished run")
    try:
        if not zipfile.is_zipfile(path):  # torch's reader of older formats warns, and fails in many ways
            raise pickle.UnpicklingError
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise UsageError(f"{path} is not a checkpoint of dafw; expected the checkpoint.pt of a run") from error
    if not isinstance(state, dict) or "method" not in state:
        raise UsageError(f"{path} is not a checkpoint of dafw; expected the checkpoint.pt of a run")
    return {**state, "method": unpacked(state["method"])}
