"""From a resolved config to the things of a run: domains, pair, classifier, method."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafw import augment, cache, frozen, pruning
from dafw.cache import remembered
from dafw.checkpoint import load as load_checkpoint
from dafw.classifier import Classifier
from dafw.config import PUBLISHED, Config, Prune, backbone, config_of, dataset
from dafw.domain import Domain, Table, check_made
from dafw.errors import UsageError
from dafw.frozen import FrozenNetwork
from dafw.method import Method
from dafw.modalities import common_modality, modality
from dafw.networks import Start, backbone_options, bare_network, device_of, frozen_network
from dafw.pair import TARGET, Data, Pair, Protocol
from dafw.place import Place
from dafw.registry import METHODS, load_plugin, options, typed
from dafw.setting import Examples, Labelled, Output, Setting, Teacher
from dafw.sources import stamps
from dafw.split import mixed_seed
from dafw.stress import stress_of, stressed

Note = Callable[[str], None]


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
    own = {key: typed(kinds[key], value) for key, value in node.items() if key in kinds}
    domain = node["name"].partition("/")[2]
    place = Place(
        root=None if node["root"] is None else Path(node["root"]),
        data=None if config.data is None else Path(config.data),
        download=node["download"],
        split_seed=config.split_seed,
        domain=domain or None,
    )
    # a plug-in may have been read anew, and a file written anew
    key = (registered, place, json.dumps([own, stamps(own.values())], sort_keys=True, default=str))

    def made() -> Domain:
        found: Domain = registered(place, **own)
        check_made(found)
        return found

    return remembered(_domains, key, made)


_domains: dict[Any, Domain] = {}
_stressed: dict[Any, tuple[Domain, list[str]]] = {}
_features: dict[Any, Table] = {}


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


def build_pair(config: Config, init: Start | None, note: Note) -> tuple[Config, Pair, FrozenNetwork | None]:
    """The config with its image size, the pair, and the frozen network whose features the pair hands out, if any."""
    setting: Setting = METHODS.get(config.method["name"]).setting
    sources, target = load_domains(config)
    if target.train is None:
        raise UsageError(
            f"tgt={target.name} has no examples, only published weights; expected a data set, as in tgt=cifar10"
        )
    if setting is not Setting.TRANSFER and any(s.train is None for s in sources):
        able = sorted(n for n in METHODS.names() if METHODS.get(n).setting is Setting.TRANSFER)
        raise UsageError(
            f"src={config.src['name']} is known by its published weights only, and method={config.method['name']} "
            f"({setting.value}) needs source examples; expected one of method={','.join(able)}, or another src"
        )
    fingerprints = {"src": [s.fingerprint for s in sources], "tgt": target.fingerprint}
    network_of = backbone(config.backbone["name"])
    kind = common_modality([*sources, target], config.backbone["name"], network_of)
    notes = [note for domain in (*sources, target) for note in domain.notes]
    if fingerprints["tgt"] in fingerprints["src"]:
        notes.append(f"{target.name}: source and target are the same data, apart from what is done to the target")
    image_size, shape, (*sources, target) = modality(kind).fitted(
        [*sources, target], config.image_size, network_of, backbone_options(config), notes
    )
    config = replace(config, image_size=image_size)
    target = under_stress(target, config, notes)
    network = None
    views = augment.views(kind)
    asked = (setting, config.seed, protocol_of(config))
    if config.backbone["frozen"]:
        # what is wrong with classes or splits is told before features are computed
        Pair([_labels_alone(s) for s in sources], _labels_alone(target), *asked, views, device_of(config))
        network = frozen_network(config, shape, init)
        flip = target.flip and all(s.flip for s in sources)
        weak, views = views["weak"], augment.views("features")

        def convert(table: Table) -> Table:
            count, path = config.backbone["views"], cache.folder("features")  # a test may have another cache
            key = (table.fingerprint, network.weights, count, flip, path)
            make = partial(frozen.features_of, table, network, count, weak, flip, note)
            return remembered(_features, key, make, most=24)

        sources = [frozen.encoded(s, convert) if s.train is not None else s for s in sources]
        target = frozen.encoded(target, convert)
    pair = Pair(sources, target, *asked, views, device_of(config))
    pair.modality, pair.input_shape = kind, shape
    pair.fingerprints = fingerprints
    pair.weights = None if network is None else network.weights
    pair.notes = notes + pair.notes
    return config, pair, network


def _labels_alone(domain: Domain) -> Domain:
    """The domain with its labels as inputs too: a split of it copies no images."""
    if domain.train is None or domain.test is None:
        return domain
    return domain.with_tables(*(Table(table.labels, table.labels) for table in (domain.train, domain.test)))


def input_pair(config: Config) -> Pair:
    """The pair before its inputs are encoded, also where a run sees the features of a frozen backbone."""
    return build_pair(replace(config, backbone={**config.backbone, "frozen": False}), None, lambda _: None)[1]


# ---- classifier and method


def build_classifier(config: Config, pair: Pair, network: FrozenNetwork | None, start: Start | None) -> Classifier:
    """Backbone, bottleneck and head, drawn by the seed, with the weights the run starts from."""
    torch.manual_seed(mixed_seed(config.seed, "model"))
    body: nn.Module
    if network is not None:
        reference = pair.source_train if pair.source_train is not None else pair.shots  # transfer sees no more
        body = frozen.FrozenBackbone(network, reference.inputs.cpu(), reference.table.shape[-1], pair.input_shape)
    else:
        body = bare_network(config, pair.input_shape, config.init in PUBLISHED)
    width, dropout = config.backbone["feature_dim"], config.backbone["dropout"]
    model = Classifier(body, len(pair.classes), width, dropout)
    if (start is not None and network is None) or (start is not None and "backbone.mean" in start.state):
        pruning.fitted_to(model, start.state, start.pruned_from)
        model.load(start.state, head=start.classes == pair.classes)
        if config.prune.amount and METHODS.get(config.method["name"]).start == "init":  # once, where a chain begins
            pruning.prune(model, config.prune.amount, config.prune.kind, pair.input_shape)
    elif config.init in PUBLISHED and network is None:
        model.pretrained = frozenset(n for n, _ in model.named_parameters() if n.startswith("backbone."))
    return in_memory_format(model.to(pair.device))


def in_memory_format(model: Classifier) -> Classifier:
    """Convolutional networks are channels_last."""
    return model.to(memory_format=torch.channels_last) if model.convolutional else model  # type: ignore[call-overload]


def build_method(config: Config, model: Classifier) -> Method:
    """The method with its hyper-parameters; what it draws itself is drawn by the seed too."""
    registered = METHODS.get(config.method["name"])
    torch.manual_seed(mixed_seed(config.seed, "method"))
    own = {o.name: typed(o.type, config.method[o.name]) for o in options(registered)}
    return registered(model, **own).to(next(model.parameters()).device)


def start_of(folder: Path, keep_head: bool = True) -> Start:
    """The classifier's weights in a run's checkpoint; without its classes where its head means nothing here."""
    saved = load_checkpoint(folder / "checkpoint.pt")
    state = {k[len("model.") :]: v for k, v in saved["method"].items() if k.startswith("model.")}
    return Start(state, tuple(saved["classes"]) if keep_head else (), saved.get("pruned_from"))


def init_of(folder: Path) -> Start | None:
    """The weights of the run that this run's `init` named, if it named one."""
    path = load_checkpoint(folder / "checkpoint.pt")["init_run"]
    return None if path is None else start_of(Path(path))


def data_of(config: Config, pair: Pair, network: FrozenNetwork | None, start: Start | None) -> Data:
    """What the method may see as a whole, with the models it may ask for."""

    def start_model() -> Classifier:
        return build_classifier(config, pair, network, start).eval().requires_grad_(False)

    return pair.data(start_model, lambda folder: teacher_of(folder, config, pair))


def teacher_of(folder: Path, config: Config, pair: Pair) -> Teacher:
    """A finished run that answers the target examples that this pair hands out, as `predict` of its method does.

    Where it takes what the pair hands out, it is shown the view that is asked about. Where it reads the examples
    otherwise (other tokens, another sample rate or size, another frozen network) it answers each as it is, at once.
    """
    with torch.random.fork_rng(devices=[]):  # loading sets the seed to that run's
        method = load(folder, pair.device).requires_grad_(False)
        theirs = read_by(folder, config)
        init = init_of(folder) if theirs.backbone["frozen"] else None
        _, own, _ = build_pair(theirs, init, lambda _: None)
    same = own.target.fingerprint == pair.target.fingerprint
    said = None if same else (own.target_test if pair.stream else own.target_train).outputs(method)

    def answer(examples: Examples) -> Output:
        # the source may come without labels; only there the device is waited for
        of_source = pair.rule.source == "inputs" and bool((examples.domain != TARGET).any())
        if of_source or isinstance(examples, Labelled):
            raise UsageError("a teacher is asked about the target's unlabelled examples; expected answer(batch.target)")
        if said is None:
            return method.predict(examples.inputs)
        return Output(*(part[examples.index] for part in said))

    return Teacher(answer, method.model.feature_dim)


def read_by(folder: Path, config: Config) -> Config:
    """The config with the network of a finished run, so that the domains are brought to what that one takes."""
    saved = load_checkpoint(folder / "checkpoint.pt")["config"]
    for file in saved["plugins"]:
        load_plugin(file)
    return replace(config, **{key: saved[key] for key in ("backbone", "image_size", "init", "seed")}, prune=Prune())


def saved_state(config: Config, pair: Pair, method: Method, init_run: Path | None) -> dict[str, Any]:
    """What checkpoint.pt holds: tensors and plain values only."""
    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {
        "method": method.state_dict(),
        "config": plain,
        "classes": list(pair.classes),
        "input_shape": list(pair.input_shape),
        "init_run": None if init_run is None else str(init_run),
        "pruned_from": method.model.pruned_from,
        "weights": pair.weights,
    }


def load(folder: str | Path, device: str | torch.device = "cpu") -> Method:
    """The method of a finished run, in eval mode, ready for `predict`. UsageError where there is no run.

    >>> method = load(record.folder)  # doctest: +SKIP
    >>> method.predict(images).logits.argmax(1)  # doctest: +SKIP
    """
    saved = load_checkpoint(Path(folder) / "checkpoint.pt")
    config = replace(config_of(saved["config"]), device=torch.device(device).type)
    for file in config.plugins:
        load_plugin(file)
    shape = tuple(saved["input_shape"])
    state: dict[str, Tensor] = saved["method"]
    body: nn.Module
    if config.backbone["frozen"]:
        network = frozen_network(config, shape, init_of(Path(folder)))
        if saved.get("weights") not in (None, network.weights):
            raise UsageError(
                f"{folder}: its frozen backbone={config.backbone['name']} is no longer the network that it was trained "
                "on (other weights, or another version of its library); put it back, or repeat its command"
            )
        body = frozen.FrozenBackbone(network, None, state["model.backbone.mean"].shape[0], shape)
    else:
        body = bare_network(config, shape, False)
    width, dropout = config.backbone["feature_dim"], config.backbone["dropout"]
    model = Classifier(body, len(saved["classes"]), width, dropout)
    of_model = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    pruning.fitted_to(model, of_model, saved.get("pruned_from"))
    method = build_method(config, in_memory_format(model.to(device)))
    _adopt_buffers(method, state)
    method.load_state_dict(state, strict=False)
    return method.eval()


def _adopt_buffers(method: Method, state: Mapping[str, Tensor]) -> None:
    """Buffers whose size is the data's, which `setup` would have made."""
    for name in state.keys() - method.state_dict().keys():
        parent, _, leaf = name.rpartition(".")
        if parent in dict(method.named_modules()):
            method.get_submodule(parent).register_buffer(leaf, state[name])
