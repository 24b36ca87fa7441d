"""From a resolved config to its network. A frozen one is known by a hash of its weights, and made where it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafw import cache, pruning
from dafw.cache import remembered
from dafw.config import COMMON_OPTIONS, PUBLISHED, Config, backbone
from dafw.errors import UsageError
from dafw.frozen import FrozenNetwork
from dafw.registry import options, typed
from dafw.sources import reading_hash, stamps
from dafw.split import mixed_seed


@dataclass(frozen=True)
class Start:
    """The weights a run starts from: another run's state and class names, or none (published or random).

    pruned_from: the parameters its backbone had before it was pruned, None for a whole one
    """

    state: dict[str, Tensor]
    classes: tuple[str, ...]
    pruned_from: int | None = None


_networks: dict[Any, FrozenNetwork] = {}


def device_of(config: Config) -> torch.device:
    """The device asked for; UsageError where it is not there."""
    if config.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[config.device]:
        raise UsageError(f"device={config.device}: there is none on this machine; expected device=auto or device=cpu")
    return torch.device(config.device)


def backbone_options(config: Config) -> dict[str, Any]:
    """The options of the backbone that are its own, as it declares them."""
    kinds = {o.name: o.type for o in options(backbone(config.backbone["name"]))}
    common = COMMON_OPTIONS["backbone"]
    return {k: typed(kinds[k], v) for k, v in config.backbone.items() if k in kinds and k not in common}


def bare_network(config: Config, shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    network: nn.Module = backbone(config.backbone["name"])(shape, pretrained, **backbone_options(config))
    return network


def frozen_network(config: Config, shape: tuple[int, ...], init: Start | None) -> FrozenNetwork:
    """The network whose features are the inputs: published, the run's that `init` names, or random by the seed."""
    if init is not None:
        prefix = "backbone."
        state = {k[len(prefix) :]: v for k, v in init.state.items() if k.startswith(prefix)}
        return FrozenNetwork.of(_seeded_network(config, shape, state, init.pruned_from))
    own = json.dumps([config.backbone, stamps(backbone_options(config).values())], sort_keys=True, default=str)
    make = partial(_seeded_network, config, shape, {})
    known = _known(config, shape)
    key = (own, known, config.init, shape, _seed(config), config.device)
    return remembered(_networks, key, lambda: _noted(known, make))


def _known(config: Config, shape: tuple[int, ...]) -> Path | None:
    """The file that holds the hash of a published network, for a backbone that says what it reads."""
    if config.init not in PUBLISHED:  # its files need not be there
        return None
    reading = reading_hash(backbone(config.backbone["name"]), backbone_options(config))
    return None if reading is None else cache.folder("networks") / f"{reading}-{'x'.join(map(str, shape))}.txt"


def _seed(config: Config) -> int:
    """What a frozen network is drawn by: a published one is the same for every run, with parts no weights fill too."""
    return config.seed if config.init == "random" else 0


def _noted(known: Path | None, make: Callable[[], nn.Module]) -> FrozenNetwork:
    """The network by the hash noted of it, else made now and its hash noted."""
    if known is None:
        return FrozenNetwork.of(make())
    if known.exists():
        return FrozenNetwork(known.read_text(), make)
    found = FrozenNetwork.of(make())
    with cache.written_whole(known) as temporary:
        temporary.write_text(found.weights)
    return found


def _seeded_network(
    config: Config, shape: tuple[int, ...], state: Mapping[str, Tensor], pruned_from: int | None = None
) -> nn.Module:
    """state: another run's weights, empty for those that the config names."""
    with torch.random.fork_rng(devices=[]):  # it may be made in the middle of something that draws
        torch.manual_seed(mixed_seed(_seed(config), "model"))
        network = bare_network(config, shape, config.init in PUBLISHED and not state).eval().requires_grad_(False)
    if state:
        if pruned_from is not None:
            pruning.fit(network, state)
        network.load_state_dict(state)
    return network.to(device_of(config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
