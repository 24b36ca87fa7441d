"""The pictures of one run, drawn from what it left: metrics, predictions and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dafw import assembly, plots
from dafw.config import Config, resolve
from dafw.console import Console
from dafw.method import Method
from dafw.pair import Pair
from dafw.record import Record


def draw(record: Record, config: Config, console: Console) -> list[Path]:
    """Curves, confusion matrix, t-SNE before and after, and a strip of examples; the paths of what was drawn."""
    folder = record.folder / "plots"
    folder.mkdir(exist_ok=True)
    drawn = [plots.curves(record.metrics(), folder / "curves.png")]
    if record.result["target"] is None:
        return drawn
    console.note("drawing pictures")
    saved = record.predictions()
    classes = tuple(record.result["classes"])
    drawn.append(plots.confusion(saved["labels"], saved["predicted"], classes, folder / "confusion.png"))
    resolved = resolve(config)
    init = next((r for r in map(Path, record.result["depends_on"])), None)
    resolved, pair, _ = assembly.build_pair(resolved, None if init is None else assembly.start_of(init), lambda _: None)
    after = features(assembly.load(record.folder), pair)
    lower = record.references.get("lower")
    before = None if lower is None else features(assembly.load(lower.folder), pair)
    drawn.append(plots.tsne(before, after, folder / "tsne.png", classes))
    if pair.target_test.table.dtype == torch.uint8:
        index = torch.from_numpy(saved["index"])
        confidences = saved["probabilities"].max(1)
        drawn.append(
            plots.examples(
                pair.target_test.clean(index).cpu().numpy(),
                saved["labels"],
                saved["predicted"],
                confidences,
                classes,
                folder / "examples.png",
            )
        )
    return drawn


def features(method: Method, pair: Pair, most: int = 500) -> tuple[Any, Any, Any, Any]:
    """Features and labels of at most `most` test examples of either domain."""
    found: list[Any] = []
    for split in (pair.source_test, pair.target_test):
        if split is None:
            found += [None, None]
            continue
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:most]
        part = split.take(chosen, split.name)
        found += [part.outputs(method).features.cpu().numpy(), part.labels.numpy()]
    return found[0], found[1], found[2], found[3]
