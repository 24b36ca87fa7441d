"""What a run depends on, as a hash: two runs with the same one are the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch

import dafw
from dafw import frozen
from dafw.config import PUBLISHED, Config, backbone, dataset, resolve
from dafw.modalities import modality
from dafw.networks import bare_network
from dafw.pair import Pair
from dafw.registry import METHODS, VALIDATORS, source_file
from dafw.sources import plugin_hash, source_hash

VOLATILE = {"out", "plots", "references", "data", "reuse", "debug", "plugins", "wandb", "threads", "device"}
PLACES = {"root", "path", "download"}  # where data lies is not what it is: its fingerprint stands for it
INITS = {"random", *PUBLISHED, "source"}
PRUNED = {"channels": "channels", "magnitude": "weights"}


def plugin_hashes(config: Config) -> dict[str, str]:
    """A hash of the file of each plug-in that the run uses, by what it is used for."""
    used = {"method": METHODS.get(config.method["name"]), "backbone": backbone(config.backbone["name"])}
    used |= {f"src {name}": dataset(name) for name in config.src["name"].split("+")}
    used["tgt"] = dataset(config.tgt["name"])
    own = {name: VALIDATORS.get(name) for name in VALIDATORS.names()}  # those of dafw are in its own hash
    root = Path(inspect.getfile(dafw)).parent
    used |= {f"validator {name}": v for name, v in own.items() if root not in source_file(v).parents}
    return {use: plugin_hash(plugin) for use, plugin in used.items()}


def comparable(raw: Config, pair: Pair, init_run: str | None, weights: str | None) -> dict[str, Any]:
    """What must be equal between two runs whose numbers are compared, by the words of a report.

    raw: the config as it was typed: what a method's own recipe changes of the optimiser is part of the method
    init_run: the hash of the run that `init` names by its folder
    weights: the `weights_hash` of the run, which is not worked out again
    """
    config = resolve(raw, with_method=False)
    init = str(config.init)
    start = init if init in INITS or init in METHODS else f"run {init_run}"
    if init in PUBLISHED:
        start = f"{init} {weights or ''}".strip()
    if config.prune.amount:
        start += f" without {100 * config.prune.amount:.3g} % of its {PRUNED[config.prune.kind]}"
    body = {key: value for key, value in _without_places(config.backbone).items() if key != "name"}
    every = "five times a run" if config.eval.every is None else f"every {config.eval.every} steps"
    return {
        "pair": " → ".join(["+".join(d.name for d in pair.sources), pair.target.name]),
        "data": hash_of(pair.fingerprints),
        **modality(pair.modality).said(pair.input_shape),
        "classes": f"{len(pair.classes)}, {config.labels}",
        "split": f"seed {config.split_seed}, {config.src['validation']} of source and {config.tgt['validation']} of "
        "target train for validation",
        "transductive": config.tgt["transductive"],
        "labels per class": config.tgt["labels_per_class"],
        "backbone": " ".join([config.backbone["name"], *(f"{key}={value}" for key, value in body.items())]),
        "init": start,
        "budget": f"{config.train.steps} steps of {config.train.batch_size}, {config.train.precision}",
        "evaluation": f"select={config.select}, {every}",
    }


def _without_places(node: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_places(v) if isinstance(v, dict) else v for k, v in node.items() if k not in PLACES}


def weights_hash(config: Config, pair: Pair) -> str | None:
    """Of a frozen network, else of the published weights that training starts from; None without either.

    These are read now: a file, a folder or an installed package may hold others than it did.
    """
    if pair.weights is not None or config.init not in PUBLISHED:
        return pair.weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for parts that no published weights fill
        network = bare_network(config, pair.input_shape, True)
    # not the network's own fingerprint, by which runs on its frozen features are known
    return hash_of({"trained": frozen.fingerprint(network)})


def identity(config: Config, pair: Pair, depends_on: list[str]) -> dict[str, Any]:
    """All that decides the numbers of a run."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in VOLATILE}
    for side in ("src", "tgt", "backbone"):
        settings[side] = _without_places(settings[side])
    if config.init not in INITS and Path(str(config.init)).is_dir():
        settings["init"] = "run"  # which run it is stands in depends_on
    return {
        "settings": settings,
        "data": [d.fingerprint for d in (*pair.sources, pair.target)],
        "weights": weights_hash(config, pair),
        "depends_on": depends_on,
        "dafw": source_hash(),
        "plugins": plugin_hashes(config),
        "torch": torch.__version__,
        "device": pair.device.type,
    }


def hash_of(described: dict[str, Any]) -> str:
    """16 hexadecimal digits."""
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
