"""What an exported file says of itself: classes, what an input is, where the network comes from, whose terms hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import dafw
import dafw.record as records
from dafw.answering import Finished
from dafw.config import PUBLISHED, backbone
from dafw.networks import backbone_options
from dafw.record import Record
from dafw.registry import BACKBONES, DATASETS, Registry

TOKENISER = "tokeniser"  # the folder of its files, beside the exported one


def description(run: Finished) -> dict[str, Any]:
    """Class names, input and output, and where the network comes from, in plain values."""
    result = run.record.result
    return {
        "dafw": dafw.__version__,
        "torch": torch.__version__,
        "run": run.record.hash,
        "method": result["method"],
        "source": result["src"],
        "target": result["tgt"],
        "seed": result["seed"],
        "selection": result["selection"],
        "target_accuracy": (result["target"] or {}).get("accuracy"),
        "classes": list(run.classes),
        "input": {"name": "inputs", "modality": run.modality, **PREPARATIONS[run.modality](run)},
        "output": {
            "name": "logits",
            "shape": ["batch", len(run.classes)],
            "meaning": "the softmax over classes gives probabilities, the largest is the answer",
        },
        "licence": licence(run.record),
    }


def image_input(run: Finished) -> dict[str, Any]:
    channels, height, width = run.shape
    return {
        "type": "float32",
        "shape": ["batch", channels, height, width],
        "range": [0, 1],
        "preparation": f"an image of {width}x{height} whole pixel values, divided by 255; larger ones are averaged "
        "over areas, smaller ones interpolated bilinearly (half-pixel centres)",
        "colours": "grey is repeated" if channels == 3 else "colour becomes 0.299 R + 0.587 G + 0.114 B",
        "normalisation": "inside the network",
    }


def audio_input(run: Finished) -> dict[str, Any]:
    rate, samples = backbone(run.config.backbone["name"]).waveform(**backbone_options(run.config))
    return {
        "type": "float32",
        "shape": ["batch", samples],
        "range": [-1, 1],
        "rate": rate,
        "samples": samples,
        "preparation": f"one channel of 16-bit samples at {rate} Hz (other rates are resampled by a polyphase filter), "
        f"divided by 32768, without the samples of 0 at both ends; of what is longer than {samples} samples the "
        "middle, before what is shorter silence",
    }


def text_input(run: Finished) -> dict[str, Any]:
    length = run.shape[1]
    return {
        "type": "int64",
        "shape": ["batch", 2, length],
        "length": length,
        "preparation": f"the tokeniser's ids, cut at {length} and filled up with 0, and below them the mask: "
        "1 for a token, 0 for what was filled up",
        "tokeniser": f"the files in {TOKENISER}/"
        if _saves_tokeniser(run)
        else f"that of {run.config.backbone['name']}",
    }


PREPARATIONS: dict[str, Callable[[Finished], dict[str, Any]]] = {
    "image": image_input,
    "audio": audio_input,
    "text": text_input,
}


def licence(record: Record) -> dict[str, dict[str, str]]:
    """Whose terms hold, as far as dafw can tell: of the data learned from, and of the published weights begun with.

    Those of its teachers and of the runs that it started from are among them.
    """
    data, weights = {}, {}
    for run in _lineage(record):
        config = run.result["config"]
        sources = config["src"]["name"].split("+")
        for name in sources:
            data[name if len(sources) > 1 else run.result["src"]] = _terms(DATASETS, name)
        data[run.result["tgt"]] = _terms(DATASETS, config["tgt"]["name"])
        if config["init"] in PUBLISHED:
            weights[config["backbone"]["name"]] = _terms(BACKBONES, config["backbone"]["name"])
    return {"data": data, "published weights": weights}


def _terms(registry: Registry[Any], name: str) -> str:
    """What a plug-in declares; another's plug-in may be gone by now."""
    name = name.partition("/")[0]
    return getattr(registry.get(name) if name in registry else None, "licence", "see the terms of its publisher")


def _lineage(record: Record) -> Iterator[Record]:
    """A run and the runs that it goes back to."""
    yield record
    for folder in record.result["depends_on"]:
        parent = records.read(Path(folder))
        if parent is not None:
            yield from _lineage(parent)


def _saves_tokeniser(run: Finished) -> Callable[..., None] | None:
    return getattr(backbone(run.config.backbone["name"]), "save_tokeniser", None)


def store_tokeniser(run: Finished, folder: Path) -> None:
    save = _saves_tokeniser(run)
    if save is not None:
        (folder / TOKENISER).mkdir()
        save(folder / TOKENISER, **backbone_options(run.config))


def files_there(out: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """What model.json says of the files of this run that are in the folder already, in another format."""
    path = out / "model.json"
    if not path.exists():
        return {}
    before = json.loads(path.read_text())
    return {k: v for k, v in before["files"].items() if before["run"] == described["run"] and (out / k).exists()}
