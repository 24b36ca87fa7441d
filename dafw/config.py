"""The typed config of a run, and Hydra's store filled from the registries: no YAML names a method, data set or backbone."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dafw.backbone import recipe_of
from dafw.errors import UsageError
from dafw.registry import BACKBONES, DATASETS, METHODS, Option, load_plugin, nearest, options
from dafw.setting import RULES, Setting
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
    wandb: WandB = field(default_factory=WandB)

    @property
    def training(self) -> Training:
        """The training of a resolved config."""
        return Training(**dataclasses.asdict(self.train))


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
CHOICES = {
    "labels": ("closed", "partial", "source"),
    "select": ("last", "oracle"),
    "references": ("true", "all", "false"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "train.optimizer": tuple(OPTIMIZERS),
    "train.schedule": tuple(SCHEDULES),
    "train.precision": ("fp32", "bf16"),
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


# ---- Hydra's store


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
        value = field(default_factory=lambda d=default: list(d)) if isinstance(default, list) else field(default=default)
        fields.append((option.name, option.type, value))
    return dataclasses.make_dataclass("Node", fields)


def plain_node(group: str, name: str, own: Sequence[Option], **changed: Any) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(node(group, name, own, **changed)), enum_to_str=True)  # type: ignore[return-value]


def _store(group: str, name: str, value: Any, package: str | None = None) -> None:
    *folders, last = name.split("/")
    ConfigStore.instance().store(group="/".join([group, *folders]), name=last, node=value, package=package or group)


def fill_store(overrides: Sequence[str]) -> None:
    """Register every method, data set, backbone and recipe, and what only these overrides name (timm, mnist+usps)."""
    typed = parse(overrides)
    for path in _values(typed, "plugins"):
        for file in path if isinstance(path, list) else [path]:
            load_plugin(str(file))
    for name in METHODS.names():
        method = METHODS.get(name)
        _store("method", name, node("method", name, options(method)))
        for variant, values in getattr(method, "variants", {}).items():
            _store("method", f"{name}/{variant}", node("method", name, options(method), **values))
    several = {str(v) for v in _values(typed, "src") if "+" in str(v)}
    for name in [*dataset_names(), *several]:
        parts = name.split("+")
        own = options(dataset(name)) if len(parts) == 1 else []
        source = OmegaConf.structured(node("src", name, own))
        if len(parts) > 1:
            OmegaConf.set_struct(source, False)
            source = OmegaConf.create(
                {**OmegaConf.to_container(source), **{p: plain_node("src", p, options(dataset(p))) for p in parts}}  # type: ignore[dict-item]
            )
        else:
            _store("tgt", name, node("tgt", name, own))
        _store("src", name, source)
        _store_declared_backbone(name, dataset(parts[0]))
    for name in {*BACKBONES.names(), *(str(v) for v in _values(typed, "backbone"))}:
        _store("backbone", name, node("backbone", name, options(backbone(name))))
    for file in sorted(experiments_folder().glob("recipes/*.yaml")):
        ConfigStore.instance().store(
            group="experiment", name=file.stem, node=yaml.safe_load(file.read_text()), package="_global_"
        )
    ConfigStore.instance().store(name="dafw", node=Schema)


DEFAULTS = [
    "_self_",
    {"method": "dann"},
    {"src": "synth"},
    {"tgt": "digits"},
    {"backbone": "for_${src}"},  # what the source declares; a backbone that is typed replaces it
]

HYDRA: dict[str, Any] = {
    "output_subdir": None,
    "run": {"dir": "."},
    "sweep": {"dir": "${out}/sweeps/${oc.env:DAFW_SWEEP,unnamed}", "subdir": "."},
    "job": {"name": "dafw"},
    "help": {"app_name": "dafw"},
}


@dataclass
class Schema(Config):
    """The config as Hydra composes it: the groups' nodes come from the store."""

    method: Any = MISSING
    src: Any = MISSING
    tgt: Any = MISSING
    backbone: Any = MISSING
    defaults: list[Any] = field(default_factory=lambda: list(DEFAULTS))
    hydra: Any = field(default_factory=lambda: dict(HYDRA))


def _store_declared_backbone(name: str, registered: Any) -> None:
    """`backbone/for_<source>`: the backbone that a data set declares, with the options that its recipe gives it."""
    chosen = getattr(registered, "backbone", DEFAULT_BACKBONE)
    recipe = {
        key.split(".", 1)[1]: value
        for key, value in getattr(registered, "recipe", {}).items()
        if key.startswith("backbone.")
    }
    _store("backbone", f"for_{name}", node("backbone", chosen, options(backbone(chosen)), **recipe))


def experiments_folder() -> Path:
    """The recipes, studies and sweeps: in the package once it is installed, beside it in a checkout."""
    installed = Path(__file__).parent / "experiments"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "experiments"


# ---- from what is typed to a config


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's own reading of `key=value` words; UsageError with a hint for one it cannot read."""
    parsed: list[Override] = []
    for word in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([word])
        except HydraException as error:
            raise UsageError(
                f"cannot read {word!r}; expected key=value, with a value that holds = ( ) , or spaces in quotes, "
                f"""as in '{word.split("=")[0]}="..."'"""
            ) from error
        if word.endswith("=None"):
            raise UsageError(f"{word}: None is not a value here; expected null, as in {word[:-4]}null")
    return parsed


def _values(typed: Sequence[Override], key: str) -> list[Any]:
    """All that is typed for a key, each value of a sweep by itself; recipes are read for a backbone they name."""
    found = []
    for override in typed:
        if override.key_or_group == key and not override.is_delete():
            if override.is_sweep_override():
                found += [_unquoted(v) for v in override.sweep_iterator()]
            else:
                found.append(override.value())
        elif override.key_or_group == "experiment" and not override.is_sweep_override():
            file = experiments_folder() / "recipes" / f"{override.value()}.yaml"
            if not file.is_file():
                known = [f.stem for f in file.parent.glob("*.yaml")]
                raise UsageError(f"unknown experiment {override.value()!r}; {nearest(str(override.value()), known)}")
            for entry in yaml.safe_load(file.read_text()).get("defaults", []):
                found += [v for k, v in entry.items() if k == f"override /{key}"]
    return [v for v in found if v is not None]


def _unquoted(value: Any) -> Any:
    return value.strip("'\"") if isinstance(value, str) else value


def compose(overrides: Sequence[str]) -> Config:
    """The config that these words of a command line give. UsageError says what is wrong with them."""
    fill_store(overrides)
    check_choices(overrides)
    try:
        if GlobalHydra.instance().is_initialized():
            return from_hydra(hydra_compose("dafw", overrides=list(overrides)))
        with initialize(version_base="1.3", config_path=None):
            return from_hydra(hydra_compose("dafw", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error, overrides) from error


def check_choices(overrides: Sequence[str]) -> None:
    """UsageError, with the nearest names, for a method, data set or backbone that does not exist."""
    typed = parse(overrides)
    for value in _values(typed, "method"):
        method = METHODS.get(str(value).split("/")[0])
        variant = str(value).partition("/")[2]
        if variant and variant not in getattr(method, "variants", {}):
            known = [f"{value.split('/')[0]}/{v}" for v in getattr(method, "variants", {})]
            raise UsageError(f"unknown variant method={value}; {nearest(str(value), known)}")
    for key in ("src", "tgt"):
        for value in _values(typed, key):
            for part in str(value).split("+"):
                dataset(part)
    for value in _values(typed, "backbone"):
        if not str(value).startswith("for_"):
            backbone(str(value))


def from_hydra(composed: DictConfig) -> Config:
    """Hydra's composed config as ours; UsageError for an option that must be given and is not."""
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise UsageError(f"{missing[0]} is needed; expected a value, as in {missing[0]}=...")
    values: dict[str, Any] = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    values.pop("hydra", None)
    values = {k: v for k, v in values.items() if k in {f.name for f in dataclasses.fields(Config)}}
    parts = {"train": Train(**values.pop("train")), "eval": Evaluate(**values.pop("eval")), "wandb": WandB(**values.pop("wandb"))}
    config = Config(**values, **parts)
    config = replace(config, references=config.references.lower(), data=config.data or os.environ.get("DAFW_DATA"))
    check_values(config)
    return config


def explained(error: Exception, overrides: Sequence[str]) -> UsageError:
    """Hydra's several lines as one: what was given, what was expected."""
    text = str(error)
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    key = unknown.group(1) if unknown else ""
    if "is not in struct" in text or "Key" in text and "not in" in text:
        groups = [w for w in overrides if w.split("=")[0] in COMMON_OPTIONS]
        return UsageError(f"unknown key {key}; {nearest(key, known_keys(groups))}")
    if "Could not append" in text or "+" in key:
        return UsageError(f"{key} already has a value; type it without the +")
    reason = " ".join(text.split("full_key")[0].split())
    return UsageError(f"{key + ': ' if key and key not in reason else ''}{reason}")


def known_keys(groups: Sequence[str]) -> list[str]:
    config = compose([w for w in groups if "," not in w])
    return [key for key, _ in flat(dataclasses.asdict(config)) if not key.endswith(".name")]


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
    for key, least in (("train.steps", 1), ("train.batch_size", 1), ("eval.every", 1), ("threads", 1), ("image_size", 8)):
        if given[key] is not None and given[key] < least:
            raise UsageError(f"{key}={given[key]}: expected {least} or more, as in {key}={max(least, 100)}")
    for key, positive in (("train.lr", True), ("train.weight_decay", False)):
        value = given[key]
        if value is not None and not (value > 0 if positive else value >= 0):
            raise UsageError(f"{key}={value}: expected a {'positive' if positive else 'non-negative'} number")
    if given["backbone.views"] < 1:
        raise UsageError(f"backbone.views={given['backbone.views']}: expected 1 or more")


# ---- recipes


def resolve(config: Config) -> Config:
    """Fill what was left null: method's recipe, else target's, source's, frozen network's, backbone's, general."""
    method = METHODS.get(config.method["name"])
    sources = [dataset(name) for name in config.src["name"].split("+")]
    recipes: list[Mapping[str, Any]] = [
        method.recipe,
        getattr(dataset(config.tgt["name"]), "recipe", {}),
        *(getattr(s, "recipe", {}) for s in sources),
        FROZEN if config.backbone["frozen"] else {},
        recipe_of(backbone(config.backbone["name"])),
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
    return replace(config, train=Train(**train), backbone=body, image_size=size, init=config.init or _init(config))


def _init(config: Config) -> str:
    """Transfer starts from the source model, a network of published weights from these, everything else at random."""
    setting: Setting = METHODS.get(config.method["name"]).setting
    default = RULES[setting].init
    published = config.backbone["frozen"] or config.backbone["name"] == "published"
    return "imagenet" if default == "random" and published else default


def default_method(name: str) -> dict[str, Any]:
    """The config node of a method at its defaults."""
    return plain_node("method", name, options(METHODS.get(name)))
