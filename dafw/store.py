"""Hydra's store, filled from the registries, and the way from typed words to a config."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
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
from omegaconf import MISSING, DictConfig, EnumNode, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from dafw.config import (
    COMMON_OPTIONS,
    DEFAULT_BACKBONE,
    Config,
    backbone,
    check_values,
    config_of,
    dataset,
    dataset_names,
    flat,
    node,
)
from dafw.errors import UsageError
from dafw.registry import BACKBONES, METHODS, PLUGIN_FILES, load_plugin, nearest, options


def _store(group: str, name: str, value: Any, package: str | None = None) -> None:
    *folders, last = name.split("/")
    ConfigStore.instance().store(group="/".join([group, *folders]), name=last, node=value, package=package or group)


def fill_store(overrides: Sequence[str]) -> None:
    """Register every method, data set, backbone and recipe, and what only these overrides name (timm, mnist+usps)."""
    typed = parse(overrides)
    for path in _values(typed, "plugins"):
        for file in path if isinstance(path, list) else [path]:
            load_plugin(str(file))
    several = {str(value) for value in _values(typed, "src") if "+" in str(value)}
    networks = {str(value) for value in _values(typed, "backbone")}
    wanted = {
        *(("method", name) for name in METHODS.names()),
        *(("dataset", name) for name in (*dataset_names(), *several)),
        *(("backbone", name) for name in (*BACKBONES.names(), *networks)),
        *(("plug-in", f"{file} {digest}") for file, digest in PLUGIN_FILES.items()),
    }
    if wanted <= _filled:  # a study composes a hundred configs
        return
    _filled.difference_update({held for held in _filled if held[0] == "plug-in"})  # a file may change, and change back
    _filled.update(wanted)
    _default.cache_clear()  # a plug-in that was read anew may have other defaults
    for name in METHODS.names():
        _store_method(name)
    for name in dataset_names():
        _store("src", name, node("src", name, options(dataset(name))))
        _store("tgt", name, node("tgt", name, options(dataset(name))))
        _store_declared_backbone(name, dataset(name))
    for name in several:
        parts = name.split("+")
        common = OmegaConf.structured(node("src", name, []))
        nodes = {part: _one_of_several(part) for part in parts}
        _store("src", name, OmegaConf.create({**{key: common._get_node(key) for key in common}, **nodes}))
        _store_declared_backbone(name, dataset(parts[0]))
    for name in {*BACKBONES.names(), *networks}:
        if not name.startswith("for_"):
            _store("backbone", name, node("backbone", name, options(backbone(name))))
    for file in sorted(experiments_folder().glob("recipes/*.yaml")):
        ConfigStore.instance().store(
            group="experiment", name=file.stem, node=yaml.safe_load(file.read_text()), package="_global_"
        )
    ConfigStore.instance().store(name="dafw", node=Schema)


def _one_of_several(name: str) -> DictConfig:
    """The node of one of several sources; how much is set aside for validation is said of all of them."""
    whole = OmegaConf.structured(node("src", name, options(dataset(name))))
    return OmegaConf.create({key: whole._get_node(key) for key in whole if key != "validation"})


_filled: set[tuple[str, str]] = set()  # what the store holds; it is one for the process


def _store_method(name: str) -> None:
    method = METHODS.get(name)
    _store("method", name, node("method", name, options(method)))
    for variant, values in getattr(method, "variants", {}).items():
        _store("method", f"{name}/{variant}", node("method", name, options(method), **values))


DEFAULTS = [
    "_self_",
    {"method": "dann"},
    {"src": "synth"},
    {"tgt": "digits"},
    {"backbone": "for_${src}"},  # what the source declares; a backbone that is typed replaces it
    {"override hydra/job_logging": "none"},  # the run folder has its own log
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
        if key.startswith("backbone.") and key not in ("backbone.feature_dim", "backbone.dropout")  # left to `resolve`
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
        return from_hydra(_composed(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error, overrides) from error


# what Hydra reads as the text it is: no number, null or boolean
PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)\Z)(?!\.?\d)[\w./][\w./+@%*?|-]*", re.ASCII)


def as_typed(key: str, value: Any) -> str:
    """`key=value` as on a command line, quoted where Hydra's grammar needs it."""
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    if isinstance(value, (list, tuple)):
        return f"{key}=[{','.join(as_typed('', v)[1:] for v in value)}]"
    text = str(value)
    if isinstance(value, (str, Path)) and not PLAIN.fullmatch(text):  # backslashes count before a quote alone
        text = "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"
    return f"{key}={text}"


def words_of(config: Config) -> tuple[list[str], list[str]]:
    """The words that compose this config: the choices of the groups, and every other value that is not their default.

    The config is one as `compose` returns it. Where data lies is always said.
    """
    plugins = [as_typed("plugins", config.plugins)] if config.plugins else []
    choices = [f"{group}={getattr(config, group)['name']}" for group in ("method", "src", "tgt")]
    default = _default((*plugins, *choices))
    if default.backbone["name"] != config.backbone["name"]:
        choices.append(f"backbone={config.backbone['name']}")
        default = _default((*plugins, *choices))
    names = {f"{group}.name" for group in COMMON_OPTIONS}
    defaults = {**dict(flat(dataclasses.asdict(default))), "data": None, "plugins": []}
    given = dict(flat(dataclasses.asdict(config)))
    return choices, [as_typed(k, v) for k, v in given.items() if k not in names and v != defaults.get(k)]


@functools.cache
def _default(words: tuple[str, ...]) -> Config:
    fill_store(words)
    return from_hydra(_composed(words), complete=False)


def _composed(overrides: Sequence[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return hydra_compose("dafw", overrides=list(overrides))
    with initialize(version_base="1.3", config_path=None):
        return hydra_compose("dafw", overrides=list(overrides))


def check_choices(overrides: Sequence[str]) -> None:
    """UsageError, with the nearest names, for a method, data set or backbone that does not exist."""
    typed = parse(overrides)
    known = {"method": METHODS.names, "src": dataset_names, "tgt": dataset_names, "backbone": BACKBONES.names}
    for override in typed:
        key = override.key_or_group
        if key in known and override.value() is None:
            raise UsageError(f"{key}=null: expected a name; {nearest('', known[key]())}")
        added = override.is_add() or override.is_force_add()
        if added and key != "experiment" and not key.startswith("hydra"):
            keys = known_keys([w for w in overrides if w.split("=")[0] in COMMON_OPTIONS])
            if key not in keys:
                raise UsageError(f"unknown key {key}; {nearest(key, keys)}")
            if override.is_add():
                raise UsageError(f"{key} already has a value; type it without the +")
    for value in _values(typed, "tgt"):
        if "+" in str(value):
            raise UsageError(f"tgt={value}: the target is one data set; expected as in tgt={str(value).split('+')[0]}")
    for value in _values(typed, "method"):
        method = METHODS.get(str(value).split("/")[0])
        variant = str(value).partition("/")[2]
        if variant and variant not in getattr(method, "variants", {}):
            name = str(value).split("/")[0]
            variants = [name, *(f"{name}/{v}" for v in getattr(method, "variants", {}))]
            hint = ", ".join(f"method={v}" for v in variants)
            raise UsageError(f"unknown variant method={value}; expected one of {hint}")
    for key in ("src", "tgt"):
        for value in _values(typed, key):
            for part in str(value).split("+"):
                dataset(part)
    for value in _values(typed, "backbone"):
        if not str(value).startswith("for_"):
            backbone(str(value))


def from_hydra(composed: DictConfig, complete: bool = True) -> Config:
    """Hydra's composed config as ours; UsageError for an option that must be given and is not.

    complete=False leaves such an option as Hydra writes it, "???"
    """
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing and complete:
        raise UsageError(f"{missing[0]} is needed; expected a value, as in {missing[0]}=...")
    values: dict[str, Any] = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)  # type: ignore[assignment]
    values.pop("hydra", None)
    config = config_of({k: v for k, v in values.items() if k in {f.name for f in dataclasses.fields(Config)}})
    config = replace(config, references=config.references.lower(), data=config.data or os.environ.get("DAFW_DATA"))
    config.plugins = [str(Path(file).expanduser().resolve()) for file in config.plugins]
    check_values(config)
    return config


def explained(error: BaseException, overrides: Sequence[str]) -> UsageError:
    """Hydra's several lines as one: what was given, what was expected."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    text = " ".join(str(link) for link in chain)
    named = re.search(r"Could not (?:override|append to config)[^'\"]*['\"]([^'\"]+)['\"]", text)
    named = named or re.search(r"full_key: (\S+)", text) or re.search(r"override (\S+?)=", text)
    key = named.group(1) if named else ""
    if "is not in struct" in text or "To append to your config" in text:
        groups = [w for w in overrides if w.split("=")[0].lstrip("+") in (*COMMON_OPTIONS, "experiment")]
        return UsageError(f"unknown key {key.lstrip('+')}; {nearest(key.lstrip('+'), known_keys(groups))}")
    if "Could not append" in text or "already at" in text:
        return UsageError(f"{key.lstrip('+')} already has a value; type it without the +")
    reason = " ".join(str(chain[-1]).split("full_key")[0].split())
    if isinstance(chain[-1], ValidationError) and (expected := _expected(key.partition("[")[0], overrides)):
        return UsageError(expected)
    return UsageError(f"{key + ': ' if key and key not in reason else ''}{reason}")


KINDS: dict[Any, tuple[str, str, str]] = {
    bool: ("true or false", "true or false", "true"),
    int: ("a whole number", "whole numbers", "3"),
    float: ("a number", "numbers", "0.5"),
    str: ("a text", "texts", "NAME"),
    Path: ("a path", "paths", "FILE"),
}  # of an option's value: what is expected, what in a list of them, and an example


def _expected(key: str, overrides: Sequence[str]) -> str:
    """The line of a typed value that its key cannot hold; "" where nobody typed it, or its type says nothing."""
    given = [word.partition("=")[2] for word in overrides if word.split("=")[0].lstrip("+") == key]
    try:
        node: Any = _composed([w.split(",")[0] for w in overrides if w.split("=")[0] in COMMON_OPTIONS])
        for part in key.split("."):
            node = node._get_node(part)
    except (HydraException, OmegaConfBaseException):  # a plug-in's node that cannot be made, or a key that is not there
        return ""
    if not given or node is None:
        return ""
    if isinstance(node, DictConfig):
        return f"{key}={given[-1]}: it holds keys; expected one of them, as in {key}.{next(iter(node))!s}=..."
    kind, held = node._metadata.ref_type, node._value()
    expected, _, example = KINDS.get(kind, ("", "", ""))
    if isinstance(node, EnumNode):
        expected, example = f"one of {', '.join(kind.__members__)}", next(iter(kind.__members__))
    elif isinstance(node, ListConfig):
        of_each = node._metadata.element_type
        _, several, each = KINDS.get(of_each, ("", "values", "..."))
        expected = f"a list of {several}"
        example = f"[{given[-1] if of_each is str and given[-1] and given[-1][0] != '[' else each}]"
    elif held not in (None, "???"):
        example = as_typed("", held)[1:]
    if not expected:
        return ""
    return f"{key}={given[-1]}: expected {expected}{' or null' * node._is_optional()}, as in {key}={example}"


def known_keys(groups: Sequence[str]) -> list[str]:
    """The keys there are with these choices, of a sweep its first."""
    composed: Any = OmegaConf.to_container(_composed([w.split(",")[0] for w in groups]))  # options may still be missing
    return [key for key, _ in flat(composed) if not key.endswith(".name") and not key.startswith("hydra")]
