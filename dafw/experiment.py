"""One run from top to bottom. Read this first.

`run` measures a method: it obtains the run itself and its references, each trained now or found again, and judges one
by the others. `obtain` makes one of these: the runs it depends on, pair, network, training, evaluation, record.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import torch

import dafw.record as records
from dafw import assembly, judgement
from dafw.assembly import Start
from dafw.config import PUBLISHED, Config, Prune, Train, backbone, default_method, recipes_of, resolve
from dafw.console import Console
from dafw.errors import UsageError
from dafw.identity import comparable, hash_of, identity
from dafw.job import Dependencies, Job, begin_tracking, described_run, name_of
from dafw.pair import Pair
from dafw.record import Record
from dafw.registry import METHODS, VALIDATORS, nearest
from dafw.setting import RULES, TARGET_SUPERVISED_REFERENCE, Reference, Setting
from dafw.split import Split
from dafw.store import as_typed, compose, words_of
from dafw.teachers import Teachers, check_inputs, finished, kind_of, known_by, teachers_of
from dafw.tracking import Tracker
from dafw.trainer import check_trainable


def run(config: Config, console: Console) -> Record:
    """Train a method, or find it trained, judge it by its references, and leave record, pictures and tracking."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    tracker = Tracker(console.note)
    record = obtain(config, console, tracker)
    if record.reused:
        console.note(f"found again, not trained: {record.folder}")
    rows = [("method", record)]
    if config.references != "false":
        rows = reference_rows(config, record, console)
    record.references = {
        other.result["method"] if role in ("baseline", "beside") else role: other
        for role, other in rows
        if other is not record
    }
    console.log_to(record.folder / "log.txt")
    if len(rows) > 1 or "references" not in record.result:  # found again without references: the old judgement stays
        record.result.update(judgement.judge(record, rows))
        record.result.update(judgement.diagnosed(record, rows))
    pictures: list[Path] = []
    if config.plots and not (record.reused and (record.folder / "plots" / "curves.png").exists()):
        from dafw import pictures as drawing  # matplotlib is slow to import

        pictures = drawing.draw(record, config, console)
    drawn = sorted((record.folder / "plots").glob("*.png"))
    record.result["pictures"] = [str(path.relative_to(record.folder)) for path in drawn]
    records.write_result(record.folder, record.result)
    track_again(record, config, tracker)
    tracker.finish(record.result, pictures)
    console.report(record.result, judgement.table(rows))
    return record


def measure(*, quiet: bool = True, **keys: Any) -> Record:
    """Run what the same words on the command line would; keys as they are typed there.

    >>> record = dafw.measure(method="dann", src="synth", tgt="digits", **{"train.steps": 200})  # doctest: +SKIP
    >>> record.accuracy, record.folder  # doctest: +SKIP
    """
    return run(compose([as_typed(key, value) for key, value in keys.items()]), Console(quiet=quiet))


# ---- one run


def obtain(raw: Config, console: Console, tracker: Tracker | None = None) -> Record:
    """The finished run of this config: found under `out` by the hash of all it depends on, or trained now."""
    config = resolve(raw)
    check(config)
    method = METHODS.get(config.method["name"])
    teachers = teachers_of(config)
    if RULES[method.setting].shots or config.select != "last" or teachers:  # told before any run is trained
        inputs = assembly.input_pair(config)
        check_selectable(config, inputs)
        check_inputs(config, teachers, inputs)
    dependencies = depend(raw, config, teachers, console)
    init = start_from(dependencies.init)
    config, pair, network = assembly.build_pair(config, init, console.note)
    start = init if dependencies.start is None else start_from(dependencies.start)
    depends_on = identity(known_by(teachers, config, lambda run: run.hash), pair, dependencies.hashes)
    config_hash = hash_of(depends_on)
    parent = (
        Path(config.out) / f"{name_of(config.src)}-{name_of(config.tgt)}".replace("/", "_") / method.registered_name
    )
    stem = f"seed{config.seed}-{config_hash[:10]}"
    with lock(Path(config.out), f"{method.registered_name}-{stem}"):
        found = records.find(parent, stem, config_hash) if config.reuse else None
        if found is not None:
            found.reused = True
            return found
        model = assembly.build_classifier(config, pair, network, start)
        built = assembly.build_method(config, model)
        data = assembly.data_of(config, pair, network, start)
        built.setup(data)
        check_trainable(built, pair, config.training)  # before a folder is made
        killed = records.stopped(parent, stem)
        folder = records.new_folder(parent, stem)
        console.log_to(folder / "log.txt")
        for line in [*recipes_of(raw), *pair.notes]:
            console.once(line)
        for other in killed:
            console.note(f"{other} was stopped before its end; it stays as it is, and the run starts again")
        init_run = dependencies.init.hash if dependencies.init is not None else None
        equal = comparable(raw, pair, init_run, depends_on["weights"])
        described = describe(raw, config, teachers, equal, pair.fingerprints, depends_on)
        try:
            return Job(config, pair, built, data, folder, described, dependencies, console, tracker).train()
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            failed = {"schema": records.SCHEMA, **described_run(config, pair), "status": "failed", "reason": reason}
            console.logged(f"failed: {reason}")
            records.write_result(folder, {**failed, **described})
            if tracker is not None:
                tracker.finish({}, [], failed=True)
            raise


def describe(
    raw: Config,
    config: Config,
    teachers: Teachers,
    equal: dict[str, Any],
    fingerprints: dict[str, Any],
    depends_on: dict[str, Any],
) -> dict[str, Any]:
    """The keys of result.json that say what a run is, how to repeat it and what it may be compared with."""
    choices, changed = words_of(raw)
    _, of_its_kind = words_of(known_by(teachers, raw, kind_of))
    unset = resolve(replace(raw, train=Train()))  # a reference is given all of it, typed or not
    usual = {as_typed(f"train.{key}", value) for key, value in dataclasses.asdict(unset.train).items()}
    own = [word for word in of_its_kind if word.startswith(("method.", "train.")) and word not in usual]
    budget = tuple(f"train.{key}=" for key in ("steps", "batch_size", "precision"))
    return {
        "config": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        "command": shlex.join(["python", "-m", "dafw.run", *choices, *changed]),
        "hyperparameters": [word for word in own if not word.startswith(budget)],
        "comparable": equal,
        "comparable_hash": hash_of(equal),
        "identity": {
            **{key: depends_on[key] for key in ("dafw", "plugins", "torch", "weights")},
            "data": fingerprints,
        },
        "config_hash": hash_of(depends_on),
    }


def check(config: Config) -> None:
    """UsageError for an init that is none, and for a selection where there is one answer only."""
    if config.select != "last" and METHODS.get(config.method["name"]).setting is Setting.TEST_TIME:
        raise UsageError(
            f"select={config.select}: {config.method['name']} answers each test example once, as it comes; "
            "expected select=last"
        )
    known = ["random", *PUBLISHED, "source"]
    pretrainings = [n for n in METHODS.names() if METHODS.get(n).setting is Setting.SELF_SUPERVISED]
    init = config.init or ""
    if init not in [*known, *pretrainings]:
        if not (Path(init) / "checkpoint.pt").exists():
            raise UsageError(f"init={init}: neither a run folder nor an init; {nearest(init, [*known, *pretrainings])}")
        finished("init", Path(init))


def check_selectable(config: Config, pair: Pair) -> None:
    """UsageError where the rule that chooses the checkpoint would have nothing to look at."""
    rule = config.select
    if rule == "last":
        return
    if pair.protocol.transductive:
        raise UsageError(f"select={rule}: tgt.transductive=true leaves nothing to select on; expected select=last")
    needed: dict[str, Split | None] = {"target test": pair.target_test} if rule == "oracle" else {}
    if rule in VALIDATORS:
        splits = {"source": pair.source_validation, "target": pair.target_validation}
        needed = {f"{side} validation": splits[side] for side in VALIDATORS.get(rule).sees}
    for part, split in needed.items():
        if split is None or not len(split):
            raise UsageError(f"select={rule}: it needs {part} examples and there are none here; expected select=last")


def depend(raw: Config, config: Config, teachers: Teachers, console: Console) -> Dependencies:
    """Obtain the runs that this one starts from; the init goes to the first run of the chain."""
    method = METHODS.get(config.method["name"])
    init = config.init or ""
    if init == "source" and config.src["name"] == "imagenet":
        config.init = init = "imagenet"
    init_run = start_run = None
    frozen = config.backbone["frozen"]
    transfer = method.setting is Setting.TRANSFER
    if method.start == "init" or frozen:
        plain = {**raw.backbone, "frozen": False}
        labels = "source" if transfer else raw.labels
        if init == "source":
            if frozen:
                network = config.backbone["name"]
                other = "published" if getattr(backbone(network), "published", False) else "random"
                console.once(
                    f"init=source: backbone={network} is trained whole on {name_of(config.src)} before it is frozen; "
                    f"init={other} starts from {other} weights"
                )
            init_run = obtain(derived(raw, "source_only", init=None, labels=labels, backbone=plain), console)
        elif init in METHODS and METHODS.get(init).setting is Setting.SELF_SUPERVISED:
            init_run = obtain(derived(raw, init, init=None, labels=labels, backbone=plain), console)
        elif init not in ("random", *PUBLISHED):
            init_run = finished("init", Path(init))
    if method.start != "init":
        start_run = obtain(derived(raw, method.start, init=raw.init), console)
    return Dependencies(init_run, start_run, teachers)


def derived(raw: Config, method: str, **changes: Any) -> Config:
    """The config of a run that this one needs: the same words, another method at its defaults."""
    setting = METHODS.get(method).setting
    shots = raw.tgt["labels_per_class"] if RULES[setting].shots else None
    base = {"method": default_method(method), "tgt": {**raw.tgt, "labels_per_class": shots}, "select": "last"}
    return replace(raw, **{**base, **changes})


def start_from(record: Record | None) -> Start | None:
    """A run's weights; the linear classifier of a pretraining is not kept, since the labels it fitted are a task."""
    if record is None:
        return None
    pretraining = METHODS.get(record.result["method"]).setting is Setting.SELF_SUPERVISED
    return assembly.start_of(record.folder, keep_head=not pretraining)


def lock(out: Path, stem: str) -> Any:
    """Two processes that want the same run train it once."""
    try:
        (out / ".locks").mkdir(parents=True, exist_ok=True)
        (out / ".locks" / f"{stem}.lock").touch()
    except OSError as error:
        raise UsageError(f"the run folder {out} cannot be written ({error.strerror}); set out=DIR") from error
    return filelock.FileLock(out / ".locks" / f"{stem}.lock")


# ---- references


def reference_rows(raw: Config, record: Record, console: Console) -> list[tuple[str, Record]]:
    """The run among the references of its setting, in the order of the table."""
    rule = RULES[METHODS.get(raw.method["name"]).setting]
    transductive = raw.tgt["transductive"]
    wanted: list[tuple[str, Reference]] = []
    if rule.lower is not None:
        wanted.append(("lower", rule.lower))
    frozen = raw.backbone["frozen"]
    wanted += [("baseline", reference) for reference in rule.baselines if frozen or not reference.frozen]
    if rule.upper is not None and not transductive:
        wanted.append(("upper", rule.upper))
    if raw.references == "all" and not transductive:
        wanted.append(("beside", TARGET_SUPERVISED_REFERENCE))
    rows: list[tuple[str, Record]] = []
    for role, reference in wanted:
        if reference.method == record.result["method"] and reference.init is None:
            continue
        other = obtain(reference_config(raw, reference), console)
        if other.folder != record.folder:  # finetune from random weights is its own lower reference
            rows.append((role, other))
    place = next((i for i, (role, _) in enumerate(rows) if role == "upper"), len(rows))
    rows.insert(place, ("method", record))
    named = [(key, run) for key, runs in teachers_of(raw).items() for run in runs]
    return [*rows, *((key, run) for key, run in named if same_test(run, record))]


def same_test(first: Record, second: Record) -> bool:
    """Whether two runs answer the same target test examples, at whatever size."""
    asked = [(r.result["tgt"], r.result["identity"]["data"]["tgt"], r.result["target"]) for r in (first, second)]
    (*one, ours), (*other, theirs) = asked
    return one == other and ours is not None and theirs is not None and ours["examples"] == theirs["examples"]


def reference_config(raw: Config, reference: Reference) -> Config:
    """The reference's run has the budget of the run it bounds: that of the first run of its chain."""
    chain = resolve(raw)
    first = METHODS.get(raw.method["name"])
    while first.start != "init" and METHODS.get(first.start).setting is not Setting.TRANSFER:
        first = METHODS.get(first.start)
        chain = resolve(derived(raw, first.registered_name))
    shots = raw.tgt["labels_per_class"] if reference.same_shots else None
    changes: dict[str, Any] = {"train": chain.train, "tgt": {**raw.tgt, "labels_per_class": shots}}
    if reference.init is not None:
        changes |= {"init": reference.init, "prune": Prune()}  # other weights than those that were pruned
    return derived(raw, reference.method, **changes)


# ---- tracking


def track_again(record: Record, config: Config, tracker: Tracker) -> None:
    """A run that was found again and never tracked (it was a reference then) is told to W&B from its metrics."""
    if not record.reused or config.wandb.mode == "disabled" or (record.folder / "wandb").exists():
        return
    begin_tracking(
        tracker, resolve(config), record.folder, json.loads(json.dumps(dataclasses.asdict(config), default=str))
    )
    for line in record.metrics():
        tracker.log(line.pop("step"), line)
