"""One run from top to bottom. Read this first.

`run` measures a method: it obtains the run itself and its references, each trained now or found again, and judges one
by the others. `obtain` makes one of these: the runs it depends on, pair, network, training, evaluation, record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

import dafw.record as records
from dafw import assembly, checkpoint, judgement
from dafw.assembly import Start
from dafw.config import Config, compose, default_method, resolve
from dafw.console import Console
from dafw.errors import TrainingError, UsageError
from dafw.evaluation import scores
from dafw.identity import hash_of, identity
from dafw.method import Method
from dafw.pair import Pair, Split
from dafw.record import Record
from dafw.registry import METHODS, nearest
from dafw.selection import better
from dafw.setting import RULES, TARGET_SUPERVISED_REFERENCE, Reference, Setting
from dafw.tracking import Tracker
from dafw.trainer import fit, total_steps


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
    record.references = {role: other for role, other in rows if other is not record}
    record.result.update(judgement.judge(record, rows))
    pictures: list[Path] = []
    if config.plots:
        from dafw import pictures as drawing  # matplotlib is slow to import

        pictures = drawing.draw(record, config, console)
    record.result["pictures"] = [str(p.relative_to(record.folder)) for p in pictures]
    records.write_result(record.folder, record.result)
    track_again(record, config, tracker)
    tracker.finish(record.result, pictures)
    console.report(record.result, judgement.table(rows))
    return record


def measure(*, quiet: bool = True, **keys: str | float | bool) -> Record:
    """Run what the same words on the command line would; keys as they are typed there.

    >>> record = dafw.measure(method="dann", src="synth", tgt="digits", **{"train.steps": 200})  # doctest: +SKIP
    >>> record.accuracy, record.folder  # doctest: +SKIP
    """
    return run(compose([as_typed(key, value) for key, value in keys.items()]), Console(quiet=quiet))


def as_typed(key: str, value: Any) -> str:
    """`key=value` as on a command line, quoted where Hydra's grammar needs it."""
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    if isinstance(value, (list, tuple)):
        return f"{key}=[{','.join(as_typed('', v)[1:] for v in value)}]"
    text = str(value)
    if isinstance(value, (str, Path)) and any(c in text for c in "=(), {}[]'\"\\:#"):
        text = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"{key}={text}"


# ---- one run


@dataclass
class Dependencies:
    """The runs that a run starts from: the one that `init` names and the one its method starts from."""

    init: Record | None
    start: Record | None

    @property
    def hashes(self) -> list[str]:
        return [r.hash for r in (self.init, self.start) if r is not None]

    @property
    def seconds(self) -> float:
        return sum(r.result["total_seconds"] for r in {r.folder: r for r in (self.init, self.start) if r}.values())


def obtain(raw: Config, console: Console, tracker: Tracker | None = None) -> Record:
    """The finished run of this config: found under `out` by the hash of all it depends on, or trained now."""
    config = resolve(raw)
    check(config)
    method = METHODS.get(config.method["name"])
    dependencies = depend(raw, config, console)
    init = start_from(dependencies.init, config)
    config, pair, network = assembly.build_pair(config, init, console.note)
    start = init if dependencies.start is None else start_from(dependencies.start, config)
    if pair.protocol.transductive and config.select != "last":
        raise UsageError(f"select={config.select}: tgt.transductive=true leaves nothing to select on; expected select=last")
    described = identity(config, pair, network, dependencies.hashes)
    config_hash = hash_of(described)
    parent = Path(config.out) / f"{name_of(config.src)}-{name_of(config.tgt)}".replace("/", "_") / method.registered_name
    stem = f"seed{config.seed}-{config_hash[:10]}"
    with lock(parent, stem):
        found = records.find(parent, stem, config_hash) if config.reuse else None
        if found is not None:
            found.reused = True
            return found
        model = assembly.build_classifier(config, pair, network, start)
        built = assembly.build_method(config, model)
        data = assembly.data_of(config, pair, network, start)
        built.setup(data)
        pair.part_sizes(config.training.batch_size)  # what cannot be trained is told before a folder is made
        folder = records.new_folder(parent, stem)
        console.log_to(folder / "log.txt")
        try:
            return Job(config, pair, built, data, folder, config_hash, dependencies, console, tracker).train()
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            failed = {"schema": records.SCHEMA, **described_run(config, pair), "status": "failed", "reason": reason}
            records.write_result(folder, {**failed, "config_hash": config_hash})
            if tracker is not None:
                tracker.finish({}, [], failed=True)
            raise


def check(config: Config) -> None:
    """UsageError for an init that is none."""
    known = ["random", "imagenet", "source"]
    pretrainings = [n for n in METHODS.names() if METHODS.get(n).setting is Setting.SELF_SUPERVISED]
    init = config.init or ""
    if init not in [*known, *pretrainings] and not (Path(init) / "checkpoint.pt").exists():
        raise UsageError(f"init={init}: neither a run folder nor an init; {nearest(init, [*known, *pretrainings])}")


def depend(raw: Config, config: Config, console: Console) -> Dependencies:
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
            init_run = obtain(derived(raw, "source_only", init=None, labels=labels, backbone=plain), console)
        elif init in METHODS and METHODS.get(init).setting is Setting.SELF_SUPERVISED:
            init_run = obtain(derived(raw, init, init=None, labels=labels, backbone=plain), console)
        elif init not in ("random", "imagenet"):
            init_run = records.read(Path(init))
    if method.start != "init":
        start_run = obtain(derived(raw, method.start, init=raw.init), console)
    return Dependencies(init_run, start_run)


def derived(raw: Config, method: str, **changes: Any) -> Config:
    """The config of a run that this one needs: the same words, another method at its defaults."""
    setting = METHODS.get(method).setting
    shots = raw.tgt["labels_per_class"] if RULES[setting].shots else None
    base = {"method": default_method(method), "tgt": {**raw.tgt, "labels_per_class": shots}, "select": "last"}
    return replace(raw, **{**base, **changes})


def start_from(record: Record | None, config: Config) -> Start | None:
    """A run's weights; the linear classifier of a pretraining is not kept, since the labels it fitted are a task."""
    if record is None:
        return None
    pretraining = METHODS.get(record.result["method"]).setting is Setting.SELF_SUPERVISED
    return assembly.start_of(record.folder, keep_head=not pretraining)


def name_of(node: dict[str, Any]) -> str:
    """What a data set is called in folders: its name, or the stem of the path it was read from."""
    path = node.get("path") or (node["root"] if node["name"] == "folder" else None)
    return Path(path).stem if path else str(node["name"])


def lock(parent: Path, stem: str) -> Any:
    """Two processes that want the same run train it once."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(parent / f".{stem}.lock")
    except OSError as error:
        raise UsageError(f"the run folder {parent} cannot be written ({error.strerror}); set out=DIR") from error


def described_run(config: Config, pair: Pair) -> dict[str, Any]:
    """The keys of result.json that say what was run."""
    return {
        "method": config.method["name"],
        "setting": pair.setting.value,
        "src": name_of(config.src),
        "tgt": name_of(config.tgt),
        "image_size": config.image_size,
        "seed": config.seed,
        "selection": config.select,
    }


@dataclass
class Job:
    """The training of one run in its folder."""

    config: Config
    pair: Pair
    method: Method
    data: Any
    folder: Path
    config_hash: str
    dependencies: Dependencies
    console: Console
    tracker: Tracker | None

    def train(self) -> Record:
        config, pair, method = self.config, self.pair, self.method
        plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
        records.write_config(self.folder, plain)
        self.save()
        if self.tracker is not None:
            self.start_tracking(plain)
        steps = total_steps(method, pair, config.training)
        self.best: tuple[float, dict[str, Any], int] | None = None
        began = time.perf_counter()
        if pair.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with self.console.training(f"{config.method['name']} seed {config.seed}", steps) as self.progress:
            fitted = fit(
                method,
                pair,
                self.data,
                config.training,
                log_every=max(1, steps // 100),
                eval_every=config.eval.every or max(1, -(-steps // 5)),
                on_log=self.log,
                on_evaluate=self.evaluate,
            )
        if config.select != "last" and self.best is not None:
            method.load_state_dict(self.best[1])
        self.save()
        seconds = time.perf_counter() - began
        result = self.result(fitted.steps, fitted.examples, fitted.answers, seconds)
        records.write_result(self.folder, result)
        return Record(self.folder, result)

    def start_tracking(self, plain: dict[str, Any]) -> None:
        config = self.config
        assert self.tracker is not None
        begin_tracking(self.tracker, config, self.folder, plain)

    def save(self) -> None:
        """The last good state."""
        init = self.dependencies.init
        state = assembly.saved_state(self.config, self.pair, self.method, init.folder if init else None)
        checkpoint.save(self.folder / "checkpoint.pt", state)

    def log(self, step: int, values: dict[str, float], examples_per_second: float) -> None:
        records.append_metrics(self.folder, step, values)
        self.progress.update(step, values, examples_per_second)
        if self.tracker is not None:
            self.tracker.log(step, values)

    def evaluate(self, step: int) -> None:
        """Accuracy on source validation, and on target test as an oracle's: it chooses nothing unless it is asked to."""
        values = {}
        if self.pair.source_validation is not None and len(self.pair.source_validation):
            values["source/validation_accuracy"] = accuracy(self.method, self.pair.source_validation)
        if not self.pair.stream and len(self.pair.target_test):
            values["oracle/target_accuracy"] = accuracy(self.method, self.pair.target_test)
        records.append_metrics(self.folder, step, values)
        if self.tracker is not None:
            self.tracker.log(step, values)
        if self.config.select != "last":
            score = values["oracle/target_accuracy"]
            if self.best is None or better(score, self.best[0]):
                self.best = (score, {k: v.clone() for k, v in self.method.state_dict().items()}, step)
        self.save()

    def result(self, steps: int, examples: int, answers: Any, seconds: float) -> dict[str, Any]:
        """Evaluate the selected state and say all that result.json says of a run by itself."""
        pair, method = self.pair, self.method
        target = source = None
        if len(pair.target_test):
            probabilities, labels, index = self.answers(answers)
            records.write_predictions(self.folder, probabilities, labels, index)
            target = scores(labels, probabilities.argmax(1), len(pair.classes))
        if pair.source_test is not None:
            source = {"accuracy": accuracy(method, pair.source_test), "examples": len(pair.source_test)}
        notes = list(getattr(method, "notes", []))
        return {
            "schema": records.SCHEMA,
            **described_run(self.config, pair),
            "status": "done",
            "steps": steps,
            "seconds": seconds,
            "total_seconds": seconds + self.dependencies.seconds,
            "examples_seen": examples,
            "peak_memory_mb": peak_memory(pair.device),
            "trainable_parameters": sum(p.numel() for p in method.parameters() if p.requires_grad),
            "target": target,
            "source": source,
            "selected_step": self.best[2] if self.best else steps,
            "classes": list(pair.classes),
            "counts": pair.counts,
            "protocol": protocol_lines(self.config, pair),
            "notes": [*pair.notes, *notes],
            "depends_on": [str(r.folder) for r in (self.dependencies.init, self.dependencies.start) if r],
            "versions": {"torch": torch.__version__, "dafw": version()},
            "device": str(pair.device),
            "config_hash": self.config_hash,
            "folder": str(self.folder),
        }

    def answers(self, recorded: Any) -> tuple[Any, Any, Any]:
        """Target test probabilities, labels and rows: what a stream was answered, else what `predict` says now."""
        labels = self.pair.target_test.labels.numpy()
        if recorded is None:
            logits, index = self.pair.target_test.outputs(self.method).logits.cpu(), torch.arange(len(labels))
        else:
            index, logits = recorded
        probabilities = logits.softmax(1).numpy().astype(np.float32)
        return probabilities, labels[index.numpy()], index.numpy()


def accuracy(method: Method, split: Split) -> float:
    """Share of the split that `predict` gets right."""
    return float((split.outputs(method).logits.argmax(1).cpu() == split.labels).float().mean())


def peak_memory(device: torch.device) -> float:
    """Megabytes: of the device where it counts them, else the largest size of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def version() -> str:
    from dafw import __version__

    return __version__


def protocol_lines(config: Config, pair: Pair) -> dict[str, Any]:
    """Under which rules the number was measured."""
    sides = f"{config.image_size}x{config.image_size}"
    return {
        "image size": sides,
        "labels": config.labels,
        "classes": len(pair.classes),
        "split seed": config.split_seed,
        "transductive": config.tgt["transductive"],
        "labels per class": config.tgt["labels_per_class"],
        "init": config.init,
        "backbone": config.backbone["name"] + (" (frozen)" if config.backbone["frozen"] else ""),
    }


# ---- references


def reference_rows(raw: Config, record: Record, console: Console) -> list[tuple[str, Record]]:
    """The run among the references of its setting, in the order of the table."""
    rule = RULES[METHODS.get(raw.method["name"]).setting]
    transductive = raw.tgt["transductive"]
    wanted: list[tuple[str, Reference]] = []
    if rule.lower is not None:
        wanted.append(("lower", rule.lower))
    wanted += [("beside", reference) for reference in rule.beside]
    if rule.upper is not None and not transductive:
        wanted.append(("upper", rule.upper))
    if raw.references == "all" and not transductive:
        wanted.append(("beside", TARGET_SUPERVISED_REFERENCE))
    rows: list[tuple[str, Record]] = []
    for role, reference in wanted:
        if reference.method == record.result["method"] and reference.init is None:
            continue
        rows.append((role, obtain(reference_config(raw, reference), console)))
    place = next((i for i, (role, _) in enumerate(rows) if role == "upper"), len(rows))
    rows.insert(place, ("method", record))
    return rows


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
        changes["init"] = reference.init
    return derived(raw, reference.method, **changes)


# ---- tracking


def begin_tracking(tracker: Tracker, config: Config, folder: Path, plain: dict[str, Any]) -> None:
    pair = f"{name_of(config.src)}-{name_of(config.tgt)}"
    method = config.method["name"]
    tracker.start(
        folder,
        plain,
        mode=config.wandb.mode,
        project=config.wandb.project,
        entity=config.wandb.entity,
        group=f"{pair}/{method}",
        name=config.wandb.name or f"{pair} {method} seed {config.seed}",
        tags=[pair, method, *config.wandb.tags],
    )


def track_again(record: Record, config: Config, tracker: Tracker) -> None:
    """A run that was found again and never tracked (it was a reference then) is told to W&B from its metrics."""
    if not record.reused or config.wandb.mode == "disabled" or (record.folder / "wandb").exists():
        return
    begin_tracking(tracker, resolve(config), record.folder, json.loads(json.dumps(dataclasses.asdict(config), default=str)))
    for line in record.metrics():
        tracker.log(line.pop("step"), line)


