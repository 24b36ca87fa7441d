"""Whether the code and the data of a run are still today's."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dafw import assembly, cache
from dafw.config import Config, backbone, config_of, dataset
from dafw.errors import UsageError
from dafw.registry import METHODS, VALIDATORS
from dafw.sources import plugin_hash, source_hash

NOT_READ = {"download", "validation", "transductive", "labels_per_class"}  # what a data set is not asked for
MOST_FILES = 20_000  # of a data set: more are not looked at one by one, and its examples are read anew instead

Fingerprints = dict[str, dict[str, Any]]  # described pair → its stamp and fingerprints, kept between reports


class Age(NamedTuple):
    """stale: what is no longer today's; notes: what could not be checked, or is another version and changes nothing."""

    stale: tuple[str, ...]
    notes: tuple[str, ...]


class Today:
    """The code and the data as they are now; each is looked at once.

    known: the fingerprints of an earlier report, which are taken where the files are the same; it is filled
    """

    def __init__(self, known: Fingerprints):
        self.known = known
        self._data: dict[str, dict[str, Any]] = {}
        self._code: dict[tuple[str, str], str | UsageError] = {}
        self._stamps: dict[Path, list[int] | None] = {}  # several pairs share a folder

    def age(self, result: Mapping[str, Any]) -> Age:
        """Of a run by its result.json. One that does not say what it was made of is not checked."""
        identity, config = result.get("identity"), result.get("config")
        if not identity or not config:
            return Age((), ("too old to say which code and data it was made with",))
        stale = [] if identity["dafw"] == source_hash() else ["the code of dafw changed"]
        notes = []
        if identity["torch"] != torch.__version__:
            notes.append(f"torch {identity['torch']} then, {torch.__version__} now")
        for use, then in identity["plugins"].items():
            now = self._hash_of(use, config)
            if isinstance(now, UsageError):
                if then not in _hashes_of_files(config["plugins"]):
                    notes.append(f"the code of its {use} is not at hand, not checked")
            elif now != then:
                stale.append(f"the code of its {use} changed")
        fingerprints = self._fingerprints(config)
        if "problem" in fingerprints:
            notes.append(f"data not at hand, not checked ({fingerprints['problem']})")
        elif {side: fingerprints[side] for side in ("src", "tgt")} != identity["data"]:
            stale.append("its data changed")
        return Age(tuple(stale), tuple(notes))

    def _hash_of(self, use: str, config: Mapping[str, Any]) -> str | UsageError:
        """Of the plug-in's file, or why there is none. use: "method", "backbone", "tgt", "src mnist", "validator v"."""
        kind, _, name = use.partition(" ")
        name = name or config[kind]["name"]
        find = {"method": METHODS.get, "backbone": backbone, "src": dataset, "tgt": dataset}
        find["validator"] = VALIDATORS.get
        if (kind, name) not in self._code:
            try:
                self._code[kind, name] = plugin_hash(find[kind](name))
            except UsageError as error:
                self._code[kind, name] = error
        return self._code[kind, name]

    def _fingerprints(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """{"src": [...], "tgt": ...} of the pair's data as it lies today, or {"problem": ...}."""
        parts: dict[str, Any] = {key: config.get(key) for key in ("data", "split_seed")}
        for side in ("src", "tgt"):
            parts[side] = {k: v for k, v in dict(config.get(side) or {}).items() if k not in NOT_READ}
        described = json.dumps(parts, sort_keys=True)
        if described not in self._data:
            self._data[described] = self._looked_up(described, config)
        return self._data[described]

    def _stamp(self, place: Path) -> list[int] | None:
        if place not in self._stamps:
            self._stamps[place] = stamp_of(place)
        return self._stamps[place]

    def _looked_up(self, described: str, plain: Mapping[str, Any]) -> dict[str, Any]:
        try:
            config = config_of(plain)
            config = replace(config, src={**config.src, "download": False}, tgt={**config.tgt, "download": False})
            readers = [f"src {name}" for name in config.src["name"].split("+")] + ["tgt"]
            files = [self._stamp(place) for place in places_of(config)]
            stamp = [source_hash(), *(str(self._hash_of(use, plain)) for use in readers), files]
            held = self.known.get(described)
            if None not in files and held is not None and held["stamp"] == stamp:
                return dict(held["fingerprints"])
            sources, target = assembly.load_domains(config)
        except Exception as error:  # whatever is wrong with the data, the report is made, and says so
            return {"problem": " ".join(str(error).partition(";")[0].split()) or type(error).__name__}
        fingerprints = {"src": [s.fingerprint for s in sources], "tgt": target.fingerprint}
        self.known[described] = {"stamp": stamp, "fingerprints": fingerprints}
        return fingerprints


def _hashes_of_files(plugins: list[str]) -> set[str]:
    """Of the user's own plug-ins, which are read and not run."""
    files = (Path(plugin).expanduser() for plugin in plugins)
    return {hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest() for file in files if file.is_file()}


def stamp_of(place: Path) -> list[int] | None:
    """Count, total size and newest change (ns) of a file or of a folder's files; None where they are too many."""
    files = [place] if place.is_file() else (file for file in place.rglob("*") if file.is_file())
    stats = [file.stat() for file in itertools.islice(files, MOST_FILES + 1)]
    if len(stats) > MOST_FILES:
        return None
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def places_of(config: Config) -> list[Path]:
    """Every file and folder that the pair may be read from."""
    places = {Path(p) for node in (config.src, config.tgt) for p in _places(node)}
    roots = [cache.folder("datasets"), *([Path(config.data)] if config.data else [])]
    for name in [*config.src["name"].split("+"), config.tgt["name"]]:
        stem = name.partition("/")[0]
        places |= {place for root in roots for place in (root / stem, root / f"{stem}.npz")}
    return sorted(places)


def _places(node: Mapping[str, Any]) -> list[str]:
    """The paths that a data set's node names, those of one of several sources included."""
    inner = [path for value in node.values() if isinstance(value, Mapping) for path in _places(value)]
    return inner + [str(node[key]) for key in ("root", "path") if node.get(key)]
