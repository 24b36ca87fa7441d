"""The finished runs that options of a method name, such as the teacher of a distillation.

`Method.runs` says which options do. Such a run is a dependency like the one that `init` names: known by its hash
wherever it lies, and looked at before anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import dafw.record as records
from dafw import assembly, checkpoint
from dafw.config import Config
from dafw.errors import UsageError
from dafw.identity import hash_of
from dafw.pair import Pair
from dafw.record import Record
from dafw.registry import METHODS, load_plugin
from dafw.setting import RULES, Setting

Teachers = dict[str, list[Record]]  # by option


def teachers_of(config: Config) -> Teachers:
    """The finished runs that the method's options name. UsageError for one that is not there, or not finished."""
    found = {}
    for name in METHODS.get(config.method["name"]).runs:
        value = config.method[name]
        paths = value if isinstance(value, list) else [value]
        found[name] = [finished(f"method.{name}", Path(path)) for path in paths if path is not None]
    return {name: runs for name, runs in found.items() if runs}


def finished(key: str, folder: Path) -> Record:
    """The run in a folder that was typed as `key`. UsageError where there is none, or one that did not end well."""
    record = records.read(folder)
    if record is not None and record.result["status"] == "done":
        return record
    if record is None and not (folder / "checkpoint.pt").exists():
        raise UsageError(
            f"{key}={folder}: there is no run; expected the folder of a finished one, which its last line names"
        )
    why = "still training, or stopped" if record is None else record.result.get("reason", record.result["status"])
    raise UsageError(
        f"{key}={folder}: this run is not finished ({why}); expected a finished one: type its command again, "
        "or name another"
    )


def each(teachers: Teachers) -> Iterator[tuple[str, Record]]:
    """Option and run, one after the other."""
    return ((key, run) for key, runs in teachers.items() for run in runs)


def with_those_behind(runs: Iterable[Record]) -> list[Record]:
    """The runs and all that they could not be without, each once."""
    found: dict[Path, Record] = {}
    left = list(runs)
    while left:
        record = left.pop()
        if record.folder not in found:
            found[record.folder] = record
            left += [r for path in record.result["depends_on"] if (r := records.read(Path(path))) is not None]
    return list(found.values())


# ---- what makes one useless here


def check_inputs(config: Config, teachers: Teachers, pair: Pair) -> None:
    """UsageError for a run whose answers mean something else here: other classes, or made for other inputs.

    pair: before its inputs are encoded, where the backbone is frozen
    """
    for key, run in each(teachers):
        told = f"method.{key}={run.folder}"
        saved = checkpoint.load(run.folder / "checkpoint.pt")
        check_classes(told, saved["classes"], pair.classes)
        check_shape(told, saved["input_shape"], pair.input_shape)
        for file in saved["config"]["plugins"]:
            load_plugin(file)
        body, size = saved["config"]["backbone"], saved["config"]["image_size"]
        as_it_reads = assembly.input_pair(replace(config, backbone=body, image_size=size))
        if as_it_reads.target.fingerprint != pair.target.fingerprint:
            raise UsageError(
                f"{told}: its backbone={body['name']} reads these examples otherwise (other tokens, or another sample "
                "rate); expected a run whose backbone takes the same"
            )


def check_classes(told: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if list(theirs) != list(ours):
        apart = sorted({*theirs} ^ {*ours})
        differ = f"{', '.join(apart[:8])} on one side only" if apart else "the same in another order"
        raise UsageError(f"{told}: its classes are not this pair's ({differ}); expected a run on the same classes")


def check_shape(told: str, theirs: Sequence[int], ours: Sequence[int]) -> None:
    if list(theirs) != list(ours):
        takes, given = ("x".join(map(str, shape)) for shape in (theirs, ours))
        another_size = len(theirs) == len(ours) == 3 and theirs[0] == ours[0]
        hint = f"type image_size={theirs[2]}" if another_size else "expected a run whose backbone takes the same"
        raise UsageError(f"{told}: it takes inputs of {takes} and this pair hands out {given}; {hint}")


def check_features(teachers: Teachers, pair: Pair) -> None:
    """UsageError where the pair hands out features of a frozen network that a run was not made on."""
    for key, run in each(teachers):
        if pair.weights is not None and run.result["identity"].get("weights") != pair.weights:
            raise UsageError(
                f"method.{key}={run.folder}: it was not made on the features of this frozen network; expected a run "
                "with the same backbone, init and seed, or type backbone.frozen=false"
            )


# ---- what is said of them


def known_by(teachers: Teachers, config: Config, name: Callable[[Record], str]) -> Config:
    """The config with a name for each run instead of the path to it."""
    names = {key: "+".join(map(name, runs)) for key, runs in teachers.items()}
    return replace(config, method={**config.method, **names})


def kind_of(run: Record) -> str:
    """What runs share that differ in their seed alone: "dann-93cce1ca80"."""
    kind = {key: run.result[key] for key in ("method", "hyperparameters", "comparable")}
    return f"{run.result['method']}-{hash_of(kind)[:10]}"


def said_of(teachers: Teachers) -> dict[str, str]:
    """Lines of the protocol: a number inherits what the runs behind it saw, and how they were chosen."""
    return {key: "; ".join(map(said, runs)) for key, runs in teachers.items()}


def said(run: Record) -> str:
    """dann, seed 0; with what it owes to target labels, itself or by a run behind it"""
    results = [record.result for record in with_those_behind([run])]
    told = [run.result["method"], f"seed {run.result['seed']}"]
    if any(RULES[Setting(result["setting"])].shots for result in results):
        told.append("saw target labels")
    if any(result["selection"] == "oracle" for result in results):
        told.append("chosen by an oracle")
    return ", ".join(told)
