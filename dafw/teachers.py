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
from dafw.config import Config, backbone
from dafw.errors import UsageError
from dafw.identity import hash_of
from dafw.pair import Pair
from dafw.record import Record
from dafw.registry import METHODS
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
    """UsageError for a run that has no answer here: it knows other classes, or cannot read what the pair holds.

    pair: before its inputs are encoded, where the backbone is frozen
    """
    for key, run in each(teachers):
        told = f"method.{key}={run.folder}"
        saved = checkpoint.load(run.folder / "checkpoint.pt")
        check_classes(told, saved["classes"], pair.classes)
        own = assembly.read_by(run.folder, config)
        name = own.backbone["name"]
        takes = getattr(backbone(name), "modality", "image")
        if takes != pair.modality:
            raise UsageError(
                f"{told}: its backbone={name} takes {takes} and this pair holds {pair.modality}; expected a run on "
                f"{pair.modality}"
            )
        check_shape(told, saved["input_shape"], assembly.input_pair(own).input_shape)


def check_classes(told: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if list(theirs) != list(ours):
        apart = sorted({*theirs} ^ {*ours})
        differ = f"{', '.join(apart[:8])} on one side only" if apart else "the same in another order"
        raise UsageError(f"{told}: its classes are not this pair's ({differ}); expected a run on the same classes")


def check_shape(told: str, theirs: Sequence[int], ours: Sequence[int]) -> None:
    """ours: the shape of this pair's examples when they are brought to what that run's backbone takes"""
    if theirs[0] != ours[0]:  # channels; the size is made to fit, and a text may be of any length
        takes, given = ("x".join(map(str, shape)) for shape in (theirs, ours))
        raise UsageError(
            f"{told}: it takes inputs of {takes} and would be given {given} here; expected a run on as many channels"
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
