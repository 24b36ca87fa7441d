"""The run folder and its schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dafw.cache import written_whole
from dafw.errors import UsageError

SCHEMA = 1


@dataclass
class Record:
    """A finished run: its folder and what its result.json says."""

    folder: Path
    result: dict[str, Any]
    reused: bool = False
    references: dict[str, Record] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Accuracy on target test, a fraction."""
        return float(self.result["target"]["accuracy"])

    @property
    def hash(self) -> str:
        return str(self.result["config_hash"])

    def predictions(self) -> dict[str, Any]:
        """Of target test: probabilities (N, C), predicted (N,), labels (N,), index (N,)."""
        with np.load(self.folder / "predictions.npz", allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def correct(self) -> Any:
        """Which target test examples it gets right, (N,) bool, in the order of the split."""
        saved = self.predictions()
        return saved["predicted"] == saved["labels"]


def new_folder(parent: Path, stem: str) -> Path:
    """`parent/stem`, or `stem-2`, ... where that is taken: folders never collide, old ones are never touched."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            folder = parent / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise UsageError(f"the run folder {parent} cannot be written ({error.strerror}); set out=DIR") from error
    raise UsageError(f"{parent}/{stem}: 9,999 runs of one config; remove some or set out=DIR")


def stopped(parent: Path, stem: str) -> list[Path]:
    """The folders of this config whose runs were killed: they ended without a result."""
    return [folder for folder in sorted(parent.glob(f"{stem}*")) if not (folder / "result.json").exists()]


def find(parent: Path, stem: str, config_hash: str) -> Record | None:
    """The finished run of this config, if there is one."""
    for folder in sorted(parent.glob(f"{stem}*")):
        record = read(folder)
        if record is not None and record.result["status"] == "done" and record.result.get("config_hash") == config_hash:
            return record
    return None


def read(folder: Path) -> Record | None:
    """The run in this folder; None where it has no result.json (yet). UsageError for one that no run wrote."""
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
        odd = foreign(result)
    except ValueError as error:
        odd = str(error)
    if odd:
        raise UsageError(
            f"{path} is no run's result ({odd}); expected what a run wrote: copy the folder again, or delete it"
        )
    return Record(folder, {**result, "folder": str(folder)})  # it may have been moved


def foreign(result: Any) -> str:
    """Why a file's content cannot be a run's, whether it ended well or failed; "" where it can."""
    if not isinstance(result, dict):
        return f"{type(result).__name__}, not an object"
    if not isinstance(result.get("status"), str):
        return "no status"
    # what no finished run is without, and every chain of runs asks of it
    alone = result["status"] == "done" and not isinstance(result.get("depends_on"), list)
    return "no depends_on" if alone else ""


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    with written_whole(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False))


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write result.json whole; a number that does not exist is null, never NaN."""
    with written_whole(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False, default=_path) + "\n")


def _path(value: Any) -> str:
    """Of what JSON does not know, only a path is text; a number of another library would hide a NaN."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"result.json cannot hold {value!r} of type {type(value).__name__}")


def append_metrics(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """One line of metrics.jsonl; a number that does not exist is null."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **finite}) + "\n")


def write_predictions(folder: Path, probabilities: Any, labels: Any, index: Any) -> None:
    """Of target test: probabilities (N, C) float32, predicted, labels and index (N,) int64."""
    with written_whole(folder / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, probabilities=probabilities, predicted=probabilities.argmax(1), labels=labels, index=index
        )
