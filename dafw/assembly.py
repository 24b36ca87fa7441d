"""From a resolved config to the things of a run: domains, pair, classifier, method."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dafw import augment, cache, frozen
from dafw.checkpoint import load as load_checkpoint
from dafw.classifier import Classifier
from dafw.config import COMMON_OPTIONS, Config, backbone, config_of, dataset
from dafw.domain import Domain, Table, resize
from dafw.errors import UsageError
from dafw.method import Method
from dafw.pair import Data, Pair, Protocol
from dafw.place import Place
from dafw.registry import METHODS, load_plugin, options
from dafw.setting import Setting
from dafw.split import mixed_seed
from dafw.stress import stress_of, stressed

T = TypeVar("T")

LEAST_SIDE = 16  # pixels: below this, three poolings leave nothing

Note = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """The weights a run starts from: another run's state and class names, or none (published or random)."""

    state: dict[str, Tensor]
    classes: tuple[str, ...]


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


# ---- domains


def load_domains(config: Config) -> tuple[list[Domain], Domain]:
    """The sources and the target, as they are on disk."""
    names = config.src["name"].split("+")
    nodes = [config.src] if len(names) == 1 else [_one_source(config.src, name) for name in names]
    return [_domain(config, node) for node in nodes], _domain(config, config.tgt)


def _one_source(src: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The node of one of several sources; what is said of all of them holds for it."""
    own = src[name]
    return {**own, "root": own["root"] or src["root"], "download": own["download"] and src["download"]}


def _domain(config: Config, node: Mapping[str, Any]) -> Domain:
    registered = dataset(node["name"])
    kinds = {o.name: o.type for o in options(registered)}
    own = {key: _typed(kinds[key], value) for key, value in node.items() if key in kinds}
    domain = node["name"].partition("/")[2]
    place = Place(
        root=None if node["root"] is None else Path(node["root"]),
        data=None if config.data is None else Path(config.data),
        download=node["download"],
        split_seed=config.split_seed,
        domain=domain or None,
    )
    # a plug-in may have been read anew, and a file written anew
    files = [(v.stat().st_mtime_ns, v.stat().st_size) for v in own.values() if isinstance(v, Path) and v.is_file()]
    key = (registered, place, json.dumps([own, files], sort_keys=True, default=str))
    return remembered(_domains, key, lambda: registered(place, **own))


def remembered(held: dict[Any, T], key: Any, make: Callable[[], T], most: int = 6) -> T:
    """What was made for this key, or made now: a study's runs in one process share domains and networks."""
    if key not in held:
        while len(held) >= most:
            del held[next(iter(held))]
        held[key] = make()
    return held[key]


_domains: dict[Any, Domain] = {}
_resized: dict[Any, list[Table]] = {}
_stressed: dict[Any, tuple[Domain, list[str]]] = {}
_features: dict[Any, Table] = {}
_networks: dict[Any, tuple[nn.Module, str]] = {}


def _typed(kind: Any, value: Any) -> Any:
    """Enums and paths are plain words in a config and come back as what the plug-in declared."""
    if isinstance(value, list):
        return [_typed(kind, entry) for entry in value]
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and isinstance(value, str):
            if issubclass(candidate, Path):
                return candidate(value)
            if issubclass(candidate, Enum):
                return candidate[value]
    return value


def common_shape(config: Config, sources: list[Domain], target: Domain) -> tuple[int, int, int]:
    """(C, S, S): the larger native side, at most the backbone's input size; colour where either has it."""
    network = backbone(config.backbone["name"])
    shapes = [domain.shape for domain in (*sources, target) if domain.shape is not None]
    size = config.image_size
    if size is None:
        native = max(max(shape[1:]) for shape in shapes)
        size = max(min(native, getattr(network, "input_size", 32)), LEAST_SIDE)
    channels = getattr(network, "channels", None) or max(shape[0] for shape in shapes)
    return channels, size, size


def reconciled(domain: Domain, shape: tuple[int, int, int], notes: list[str]) -> Domain:
    """The domain at the pair's shape; notes what it changed."""
    if domain.train is None or domain.test is None or domain.shape == shape:
        return domain
    assert domain.shape is not None
    train, test = domain.train, domain.test

    def resized() -> list[Table]:
        return [replace(table, inputs=resize(table.inputs, shape[1], shape[0])) for table in (train, test)]

    tables = remembered(_resized, (domain.fingerprint, shape), resized)
    old, new = domain.shape, shape
    how = "area-averaged" if max(old[1:]) > new[1] else "bilinear"
    changes = [f"{old[1]}x{old[2]} → {new[1]}x{new[2]} ({how})"] if old[1:] != new[1:] else []
    if old[0] != new[0]:
        changes.append("grey → colour by repetition" if new[0] == 3 else "colour → grey")
    notes.append(f"{domain.name}: {', '.join(changes)}")
    return domain.with_tables(*tables)  # its own name and flips: another domain may hold the same bytes


def under_stress(target: Domain, config: Config, notes: list[str]) -> Domain:
    """The target as its options ask for: corrupted, rotated, shifted in its classes, reduced; notes what changed."""
    stress = stress_of(config.tgt)
    if not stress.name:
        return target

    def made() -> tuple[Domain, list[str]]:
        told: list[str] = []
        return stressed(target, stress, config.split_seed, told), told

    changed, told = remembered(
        _stressed, (target.name, target.flip, target.fingerprint, stress, config.split_seed), made
    )
    notes += told
    return changed


def protocol_of(config: Config) -> Protocol:
    return Protocol(
        labels=config.labels,
        split_seed=config.split_seed,
        source_validation=config.src["validation"],
        target_validation=config.tgt["validation"],
        transductive=config.tgt["transductive"],
        labels_per_class=config.tgt["labels_per_class"],
    )


def build_pair(config: Config, init: Start | None, note: Note) -> tuple[Config, Pair, nn.Module | None]:
    """The config with its image size, the pair, and the frozen network whose features the pair hands out, if any."""
    setting: Setting = METHODS.get(config.method["name"]).setting
    sources, target = load_domains(config)
    if target.train is None:
        raise UsageError(
            f"tgt={target.name} has no images, only published weights; expected a data set, as in tgt=cifar10"
        )
    if setting is not Setting.TRANSFER and any(s.train is None for s in sources):
        able = sorted(n for n in METHODS.names() if METHODS.get(n).setting is Setting.TRANSFER)
        raise UsageError(
            f"src={config.src['name']} is known by its published weights only, and method={config.method['name']} "
            f"({setting.value}) needs source examples; expected one of method={','.join(able)}, or another src"
        )
    fingerprints = {"src": [s.fingerprint for s in sources], "tgt": target.fingerprint}
    shape = common_shape(config, sources, target)
    config = replace(config, image_size=shape[1])
    notes: list[str] = []
    if fingerprints["tgt"] in fingerprints["src"]:
        notes.append(f"{target.name}: source and target are the same data, apart from what is done to the target")
    sources = [reconciled(s, shape, notes) for s in sources]
    target = under_stress(reconciled(target, shape, notes), config, notes)
    network = weights = None
    modality = target.modality
    if config.backbone["frozen"]:
        network, weights = frozen_network(config, shape, init)
        modality = "features"
        flip = target.flip and all(s.flip for s in sources)
        weak = augment.views("image")["weak"]

        def convert(table: Table) -> Table:
            views, path = config.backbone["views"], cache.folder("features")  # a test may have another cache
            key = (table.fingerprint, weights, views, flip, path)
            make = partial(frozen.features_of, table, network, weights, views, weak, flip, note)
            return remembered(_features, key, make, most=24)

        sources = [frozen.encoded(s, convert) if s.train is not None else s for s in sources]
        target = frozen.encoded(target, convert)
    pair = Pair(sources, target, setting, config.seed, protocol_of(config), augment.views(modality), device_of(config))
    pair.image_shape = shape
    pair.fingerprints = fingerprints
    pair.weights = weights
    pair.notes = notes + pair.notes
    return config, pair, network


def image_pair(config: Config) -> Pair:
    """The pair before its inputs are encoded, also where a run sees the features of a frozen backbone."""
    return build_pair(replace(config, backbone={**config.backbone, "frozen": False}), None, lambda _: None)[1]


# ---- networks


def bare_network(config: Config, shape: tuple[int, ...], pretrained: bool) -> nn.Module:
    registered = backbone(config.backbone["name"])
    kinds = {o.name: o.type for o in options(registered)}
    own = {
        k: _typed(kinds[k], v) for k, v in config.backbone.items() if k in kinds and k not in COMMON_OPTIONS["backbone"]
    }
    return registered(shape, pretrained, **own)


def frozen_network(config: Config, shape: tuple[int, ...], init: Start | None) -> tuple[nn.Module, str]:
    """The network whose features are the inputs, and its fingerprint.

    It is published, the run's that `init` names, or random by the seed.
    """
    if init is None:
        seed = config.seed if config.init == "random" else 0
        key = (json.dumps(config.backbone, sort_keys=True, default=str), config.init, shape, seed, config.device)
        return remembered(_networks, key, lambda: _seeded_network(config, shape, {}))
    prefix = "backbone."
    state = {k[len(prefix) :]: v for k, v in init.state.items() if k.startswith(prefix)}
    return _seeded_network(config, shape, state)


def _seeded_network(config: Config, shape: tuple[int, ...], state: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
    """state: another run's weights, empty for those that the config names."""
    torch.manual_seed(mixed_seed(config.seed, "model"))
    network = bare_network(config, shape, config.init == "imagenet" and not state).eval().requires_grad_(False)
    if state:
        network.load_state_dict(state)
    network = network.to(device_of(config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, frozen.fingerprint(network)


def build_classifier(config: Config, pair: Pair, network: nn.Module | None, start: Start | None) -> Classifier:
    """Backbone, bottleneck and head, drawn by the seed, with the weights the run starts from."""
    torch.manual_seed(mixed_seed(config.seed, "model"))
    body: nn.Module
    if network is not None:
        reference = pair.source_train if pair.source_train is not None else pair.shots  # transfer sees no more
        body = frozen.FrozenBackbone(network, reference.inputs.cpu(), reference.table.shape[-1])
    else:
        body = bare_network(config, pair.image_shape, config.init == "imagenet")
    width, dropout = config.backbone["feature_dim"], config.backbone["dropout"]
    model = Classifier(body, len(pair.classes), width, dropout)
    if (start is not None and network is None) or (start is not None and "backbone.mean" in start.state):
        model.load(start.state, head=start.classes == pair.classes)
    elif config.init == "imagenet" and network is None:
        model.pretrained = frozenset(n for n, _ in model.named_parameters() if n.startswith("backbone."))
    return in_memory_format(model.to(pair.device))


def in_memory_format(model: Classifier) -> Classifier:
    """Convolutional networks are channels_last."""
    return model.to(memory_format=torch.channels_last) if model.convolutional else model  # type: ignore[call-overload]


def build_method(config: Config, model: Classifier) -> Method:
    """The method with its hyper-parameters; what it draws itself is drawn by the seed too."""
    registered = METHODS.get(config.method["name"])
    torch.manual_seed(mixed_seed(config.seed, "method"))
    own = {o.name: _typed(o.type, config.method[o.name]) for o in options(registered)}
    return registered(model, **own).to(next(model.parameters()).device)


def start_of(folder: Path, keep_head: bool = True) -> Start:
    """The classifier's weights in a run's checkpoint; without its classes where its head means nothing here."""
    saved = load_checkpoint(folder / "checkpoint.pt")
    state = {k[len("model.") :]: v for k, v in saved["method"].items() if k.startswith("model.")}
    return Start(state, tuple(saved["classes"]) if keep_head else ())


def init_of(folder: Path) -> Start | None:
    """The weights of the run that this run's `init` named, if it named one."""
    path = load_checkpoint(folder / "checkpoint.pt")["init_run"]
    return None if path is None else start_of(Path(path))


def data_of(config: Config, pair: Pair, network: nn.Module | None, start: Start | None) -> Data:
    """What the method may see as a whole, with `start_model`."""

    def start_model(path: str | Path | None = None) -> Classifier:
        model = build_classifier(config, pair, network, start) if path is None else load(path).model
        return model.eval().requires_grad_(False).to(pair.device)

    return pair.data(start_model)


def saved_state(config: Config, pair: Pair, method: Method, init_run: Path | None) -> dict[str, Any]:
    """What checkpoint.pt holds: tensors and plain values only."""
    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {
        "method": method.state_dict(),
        "config": plain,
        "classes": list(pair.classes),
        "image_shape": list(pair.image_shape),
        "init_run": None if init_run is None else str(init_run),
    }


def load(folder: str | Path) -> Method:
    """The method of a finished run, in eval mode, ready for `predict`. UsageError where there is no run.

    >>> method = load(record.folder)  # doctest: +SKIP
    >>> method.predict(images).logits.argmax(1)  # doctest: +SKIP
    """
    saved = load_checkpoint(Path(folder) / "checkpoint.pt")
    config = replace(config_of(saved["config"]), device="cpu")
    for file in config.plugins:
        load_plugin(file)
    shape = tuple(saved["image_shape"])
    state: dict[str, Tensor] = saved["method"]
    body: nn.Module
    if config.backbone["frozen"]:
        network, _ = frozen_network(config, shape, init_of(Path(folder)))
        body = frozen.FrozenBackbone(network, None, state["model.backbone.mean"].shape[0])
    else:
        body = bare_network(config, shape, False)
    model = in_memory_format(
        Classifier(body, len(saved["classes"]), config.backbone["feature_dim"], config.backbone["dropout"])
    )
    method = build_method(config, model)
    _adopt_buffers(method, state)
    method.load_state_dict(state, strict=False)
    return method.eval()


def _adopt_buffers(method: Method, state: Mapping[str, Tensor]) -> None:
    """Buffers whose size is the data's, which `setup` would have made."""
    for name in state.keys() - method.state_dict().keys():
        parent, _, leaf = name.rpartition(".")
        if parent in dict(method.named_modules()):
            method.get_submodule(parent).register_buffer(leaf, state[name])
