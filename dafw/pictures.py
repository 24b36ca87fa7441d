"""The pictures of one run, drawn from what it left: metrics, predictions and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dafw import assembly, plots, plots_diagnosis, plots_examples
from dafw.class_changes import confusion, matched
from dafw.config import Config, resolve
from dafw.console import Console
from dafw.method import Method
from dafw.pair import Pair
from dafw.record import Record


def draw(record: Record, config: Config, console: Console) -> list[Path]:
    """Curves, confusion matrix, t-SNE before and after, and a strip of examples; the paths of what was drawn."""
    folder = record.folder / "plots"
    folder.mkdir(exist_ok=True)
    oracle = record.result["selection"] == "oracle"
    drawn = [plots.curves(record.metrics(), folder / "curves.png", oracle)]
    if record.result["target"] is None:
        return drawn
    console.note("drawing pictures")
    saved = record.predictions()
    classes = tuple(record.result["classes"])
    drawn.append(plots.confusion(saved["labels"], saved["predicted"], classes, folder / "confusion.png"))
    lower = record.references.get("lower")
    drawn += diagnosis(record, lower, folder)
    _, pair, _ = assembly.build_pair(resolve(config), assembly.init_of(record.folder), console.note)
    after = features(assembly.load(record.folder), pair)
    before = None if lower is None else features(assembly.load(lower.folder), pair)
    drawn.append(plots.tsne(before, after, folder / "tsne.png", classes))
    inputs = assembly.input_pair(resolve(config))  # what a person can look at, also of frozen features
    shown = inputs.target_test.shown(torch.from_numpy(saved["index"]))
    answers = (saved["labels"], saved["predicted"], saved["probabilities"].max(1))
    place, rate = folder / "examples.png", inputs.target.rate
    picture = plots_examples.examples(pair.modality, shown, *answers, classes, place, rate)
    return [*drawn, picture] if picture is not None else drawn


def diagnosis(record: Record, lower: Record | None, folder: Path) -> list[Path]:
    """Calibration and entropies; the classes won and lost, where there is a lower reference."""
    found, classes = record.result.get("diagnosis"), record.result["classes"]
    if found is None:  # a run of an earlier release
        return []
    drawn = [plots_diagnosis.calibration(found, folder / "calibration.png")]
    if lower is not None and found["against_lower"] is not None:
        labels, after, before = matched(record.predictions(), lower.predictions())
        difference = confusion(labels, after, len(classes)) - confusion(labels, before, len(classes))
        drawn.append(plots_diagnosis.changes(found["against_lower"], difference, classes, folder / "changes.png"))
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
