"""The typed config of a run, and Hydra's store, which is filled from the registries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from dafw.backbone import recipe_of
from dafw.errors import UsageError
from dafw.pruning import KINDS
from dafw.registry import BACKBONES, DATASETS, METHODS, Option, nearest, options
from dafw.selection import rules
from dafw.setting import RULES, Setting
from dafw.stress import stress_of
from dafw.trainer import OPTIMIZERS, SCHEDULES, Training


@dataclass
class Train:
    """How a run is trained; null takes the recipe of the method, the data sets or the backbone, in this order."""

    steps: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    lr: float | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    precision: str | None = None


@dataclass
class Evaluate:
    every: int | None = None  # steps between evaluations; null: five in a run


@dataclass
class Prune:
    """What is taken out of the network that a run starts from: a share of each layer's channels, or of all weights."""

    amount: float = 0.0
    kind: str = "channels"


@dataclass
class WandB:
    mode: str = "auto"
    project: str = "dafw"
    entity: str | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Config:
    """One run. Nodes method, src, tgt and backbone hold their registered name under `name`, and its options."""

    method: dict[str, Any] = field(default_factory=dict)
    src: dict[str, Any] = field(default_factory=dict)
    tgt: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    seed: int = 0
    select: str = "last"
    references: str = "true"
    image_size: int | None = None
    labels: str = "closed"
    split_seed: int = 0
    data: str | None = None
    out: str = "runs"
    plots: bool = True
    device: str = "auto"
    threads: int | None = None
    reuse: bool = True
    debug: bool = False
    plugins: list[str] = field(default_factory=list)
    train: Train = field(default_factory=Train)
    eval: Evaluate = field(default_factory=Evaluate)
    prune: Prune = field(default_factory=Prune)
    wandb: WandB = field(default_factory=WandB)

    @property
    def training(self) -> Training:
        """The training of a resolved config."""
        return Training(**dataclasses.asdict(self.train))


def config_of(values: Mapping[str, Any]) -> Config:
    """A config from plain nested values."""
    given = dict(values)
    train, evaluate, wandb = (given.pop(key) for key in ("train", "eval", "wandb"))
    prune = Prune(**given.pop("prune", {}))  # older runs say nothing of it
    return Config(**given, train=Train(**train), eval=Evaluate(**evaluate), prune=prune, wandb=WandB(**wandb))


GENERAL: dict[str, Any] = {
    "train.steps": 500,
    "train.batch_size": 64,
    "train.optimizer": "sgd",
    "train.lr": 0.05,
    "train.schedule": "cosine",
    "train.weight_decay": 5e-4,
    "train.precision": "fp32",
    "backbone.feature_dim": 128,
    "backbone.dropout": 0.0,
}

# A small bottleneck on cached features: minutes become seconds. Tuned on no pair.
FROZEN: dict[str, Any] = {
    "train.steps": 400,
    "train.batch_size": 64,
    "train.optimizer": "adamw",
    "train.lr": 1e-3,
    "train.weight_decay": 1e-2,
    "backbone.feature_dim": 128,
    "backbone.dropout": 0.3,
}

COMMON_OPTIONS: dict[str, dict[str, tuple[Any, Any]]] = {
    "src": {"root": (Path | None, None), "download": (bool, True), "validation": (float, 0.1)},
    "tgt": {
        "root": (Path | None, None),
        "download": (bool, True),
        "validation": (float, 0.1),
        "transductive": (bool, False),
        "labels_per_class": (int | None, None),
        "corruption": (str | None, None),
        "severity": (int | None, None),
        "rotation": (float, 0.0),
        "label_shift": (float | None, None),
        "fraction": (float, 1.0),
    },
    "backbone": {
        "frozen": (bool, False),
        "views": (int, 1),
        "feature_dim": (int | None, None),
        "dropout": (float | None, None),
    },
    "method": {},
}

DEFAULT_BACKBONE = "convnet"
PUBLISHED = ("imagenet", "published")  # inits from a backbone's published weights; of images they are ImageNet's
CHOICES = {
    "labels": ("closed", "partial", "source"),
    "references": ("true", "all", "false"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "train.optimizer": tuple(OPTIMIZERS),
    "train.schedule": tuple(SCHEDULES),
    "train.precision": ("fp32", "bf16"),
    "prune.kind": KINDS,
    "wandb.mode": ("auto", "online", "offline", "disabled"),
}


# ---- names of data sets: "cifar10", "office31/amazon", and several sources "mnist+usps"


def dataset_names() -> list[str]:
    """Every name that can be typed after src= or tgt=; a family stands there once for each of its domains."""
    names = []
    for name in DATASETS.names():
        domains = getattr(DATASETS.get(name), "domains", None)
        names += [f"{name}/{domain}" for domain in domains] if domains else [name]
    return names


def dataset(name: str) -> Any:
    """The registered function of a data set's typed name; UsageError with the nearest names."""
    if name not in dataset_names():
        raise UsageError(f"unknown data set {name!r}; {nearest(name, dataset_names())}")
    return DATASETS.get(name.split("/")[0])


def backbone(name: str) -> Any:
    """The registered function of a backbone, or timm's model of this name; UsageError with the nearest names."""
    if name in BACKBONES:
        return BACKBONES.get(name)
    from dafw.backbones.timm_model import is_timm_name, timm_backbone, timm_names

    if not is_timm_name(name):
        raise UsageError(f"unknown backbone {name!r}; {nearest(name, [*BACKBONES.names(), *timm_names()])}")
    return timm_backbone(name)


# ---- values


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_values(config: Config) -> None:
    """UsageError for a value outside what its key takes."""
    given = dict(flat(dataclasses.asdict(config)))
    for key, choices in CHOICES.items():
        if given[key] is not None and given[key] not in choices:
            raise UsageError(f"{key}={given[key]}: expected one of {', '.join(choices)}")
    if config.select not in rules():
        raise UsageError(f"select={config.select}: expected one of {', '.join(rules())}")
    for key, least in (
        ("train.steps", 1),
        ("train.batch_size", 1),
        ("eval.every", 1),
        ("threads", 1),
        ("image_size", 8),
        ("split_seed", 0),
        ("seed", 0),
        ("backbone.feature_dim", 0),
    ):
        if given[key] is not None and given[key] < least:
            raise UsageError(f"{key}={given[key]}: expected {least} or more, as in {key}={max(least, 100)}")
    for key, positive in (("train.lr", True), ("train.weight_decay", False)):
        value = given[key]
        if value is not None and not (value > 0 if positive else value >= 0):
            raise UsageError(f"{key}={value}: expected a {'positive' if positive else 'non-negative'} number")
    dropout = given["backbone.dropout"]
    if dropout is not None and not 0 <= dropout < 1:
        raise UsageError(f"backbone.dropout={dropout}: expected a number from 0 to less than 1")
    check_prune(config)
    check_frozen(config)
    stress_of(config.tgt)
    if given["backbone.views"] < 1:
        raise UsageError(f"backbone.views={given['backbone.views']}: expected 1 or more")


def check_prune(config: Config) -> None:
    """UsageError where there is nothing that could be pruned."""
    amount = config.prune.amount
    if not 0 <= amount < 1:
        raise UsageError(f"prune.amount={amount}: expected a share from 0 to less than 1, as in prune.amount=0.5")
    if amount and config.backbone["frozen"]:
        raise UsageError(
            f"prune.amount={amount} with backbone.frozen=true: a frozen backbone is not trained, and so could not make "
            "up for what is taken out; expected a run with backbone.frozen=false, or a small network that learns from "
            "the frozen one's run, as in method=distil method.teacher=RUN backbone.frozen=false"
        )
    if amount and (config.init is None or not (Path(config.init) / "checkpoint.pt").is_file()):
        raise UsageError(
            f"prune.amount={amount} with init={config.init or 'null'}: only a trained network is pruned; expected "
            f"init=RUN, or python -m dafw.prune RUN amount={amount}, with the folder of a finished run"
        )


def check_frozen(config: Config) -> None:
    """UsageError for an option that says how a network is trained which stands still."""
    if config.backbone["frozen"]:
        for name in getattr(backbone(config.backbone["name"]), "training_options", ()):
            value = config.backbone.get(name)
            if value is not None:
                raise UsageError(
                    f"backbone.{name}={value} with backbone.frozen=true: none of the network is trained; expected "
                    f"backbone.frozen=false, or backbone.{name} left out"
                )


# ---- nodes


def node(group: str, name: str, own: Sequence[Option], **changed: Any) -> Any:
    """A structured config of one choice of a group: its name, the group's common options and its own."""
    fields: list[tuple[Any, ...]] = [("name", str, field(default=name))]
    common = COMMON_OPTIONS[group]
    for key, (kind, default) in common.items():
        fields.append((key, kind, field(default=changed.get(key, default))))
    for option in own:
        if option.name in common:
            raise UsageError(f"{group}={name}: its option {option.name!r} has the name of a common one; rename it")
        default = MISSING if option.required else changed.get(option.name, option.default)
        is_list = isinstance(default, list)  # a fresh one for each node
        value: Any = field(default_factory=partial(list, default)) if is_list else field(default=default)
        fields.append((option.name, option.type, value))
    return dataclasses.make_dataclass("Node", fields)


def plain_node(group: str, name: str, own: Sequence[Option], **changed: Any) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(node(group, name, own, **changed)), enum_to_str=True)  # type: ignore[return-value]


# ---- recipes


def resolve(config: Config, with_method: bool = True) -> Config:
    """Fill what was left null: method's recipe, else target's, source's, frozen network's, backbone's, general.

    with_method=False leaves the method's recipe out: what every method of a comparison is given
    """
    method = METHODS.get(config.method["name"])
    sources = [dataset(name) for name in config.src["name"].split("+")]
    network = backbone(config.backbone["name"])
    recipes: list[Mapping[str, Any]] = [
        method.recipe if with_method else {},
        getattr(dataset(config.tgt["name"]), "recipe", {}),
        *(getattr(s, "recipe", {}) for s in sources),
        *((recipe_of(network, "frozen_recipe"), FROZEN) if config.backbone["frozen"] else ()),
        recipe_of(network),
        GENERAL,
    ]
    train, body = dataclasses.asdict(config.train), dict(config.backbone)
    size = config.image_size
    for recipe in recipes:
        for key, value in recipe.items():
            part, _, name = key.rpartition(".")
            if part == "train" and train[name] is None:
                train[name] = value
            elif part == "backbone" and name in body and body[name] is None:
                body[name] = value
            elif key == "image_size" and size is None:
                size = value
    return replace(config, train=Train(**train), backbone=body, image_size=size, init=_init(config))


def recipes_of(config: Config) -> Iterator[str]:
    """What the data sets and the method declare, in a line each, to be shown: any of it can be overridden."""
    method = METHODS.get(config.method["name"])
    data = [*config.src["name"].split("+"), config.tgt["name"]]
    for name, recipe in [
        (config.method["name"], method.recipe),
        *((n, getattr(dataset(n), "recipe", {})) for n in data),
    ]:
        if recipe:
            yield f"recipe of {name}: {' '.join(f'{key}={value}' for key, value in recipe.items())}"


def _init(config: Config) -> str:
    """What was typed; else transfer starts from the source model, a network of published weights from these, everything
    else at random. UsageError for ImageNet's weights of a network that takes no images.
    """
    network = backbone(config.backbone["name"])
    takes = getattr(network, "modality", "image")
    published = "imagenet" if takes == "image" else "published"
    if config.init == "imagenet" != published:
        raise UsageError(
            f"init=imagenet: backbone={config.backbone['name']} takes {takes} and was not trained on ImageNet; "
            "expected init=published"
        )
    if config.init is not None:
        return published if config.init in PUBLISHED else config.init
    setting: Setting = METHODS.get(config.method["name"]).setting
    default = RULES[setting].init
    drawn = default != "random" or not (config.backbone["frozen"] or getattr(network, "published", False))
    return default if drawn else published


def default_method(name: str) -> dict[str, Any]:
    """The config node of a method at its defaults."""
    return plain_node("method", name, options(METHODS.get(name)))
