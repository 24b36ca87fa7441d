"""The training and evaluation of one run in its folder."""

from __future__ import annotations

import itertools
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dafw.record as records
from dafw import __version__, assembly, checkpoint, diagnosis, pruning, symptoms
from dafw.bound import disagreement_bound
from dafw.classifier import Classifier
from dafw.config import GENERAL, Config, backbone, dataset, plain_node
from dafw.console import Console
from dafw.diagnosis import Answers, answers_of, some_inputs
from dafw.errors import UsageError
from dafw.evaluation import scores
from dafw.evidence import Evidence, cheap_validators, evidence_of, validate
from dafw.method import Method
from dafw.modalities import modality
from dafw.pair import Data, Pair
from dafw.record import Record
from dafw.registry import VALIDATORS, options
from dafw.selection import ORACLE, chosen, score_of
from dafw.setting import Output
from dafw.split import generator
from dafw.store import as_typed
from dafw.stress import stress_of
from dafw.teachers import Teachers, said_of, with_those_behind
from dafw.tracking import Tracker
from dafw.trainer import fit, total_steps


@dataclass
class Dependencies:
    """The runs that a run could not be without.

    init: the one that `init` names; start: the one its method starts from; teachers: those its method's options name
    """

    init: Record | None
    start: Record | None
    teachers: Teachers = field(default_factory=dict)

    @property
    def all(self) -> list[Record]:
        return [*(r for r in (self.init, self.start) if r is not None), *itertools.chain(*self.teachers.values())]

    @property
    def hashes(self) -> list[str]:
        return [record.hash for record in self.all]

    @property
    def seconds(self) -> float:
        """Of every run that this one could not be without, once: the start of a frozen network has its init too."""
        return sum(float(record.result["seconds"]) for record in with_those_behind(self.all))


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


def name_of(node: dict[str, Any]) -> str:
    """What a domain is called in folders: its data set, and what is done to it where it is a stressed target."""
    stress = stress_of(node).name if "corruption" in node else ""
    return "-".join(filter(None, [data_name(node), stress]))


def data_name(node: dict[str, Any]) -> str:
    """What a domain is called: as its data set says of its options, else the data set's name."""
    name = str(node["name"])
    says = None if "+" in name else getattr(dataset(name), "called", None)
    return name if says is None else says(node)  # type: ignore[no-any-return]


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


@dataclass(frozen=True)
class Point:
    """What an evaluation found: the state to go back to is held only where a rule may choose it.

    target: of target test, None for a stream; seen: what the validators saw; values: what was logged
    """

    step: int
    target: Output | None
    seen: Evidence
    values: dict[str, float]
    state: dict[str, Any] | None


@dataclass
class Job:
    """The training of one run in its folder.

    described: the keys of result.json that say what it is: config, command, hashes
    """

    config: Config
    pair: Pair
    method: Method
    data: Data
    folder: Path
    described: dict[str, Any]
    dependencies: Dependencies
    console: Console
    tracker: Tracker | None

    def train(self) -> Record:
        config, pair, method = self.config, self.pair, self.method
        plain = self.described["config"]
        records.write_config(self.folder, plain)
        self.save()
        if self.tracker is not None:
            begin_tracking(self.tracker, config, self.folder, plain)
        steps = total_steps(method, pair, config.training)
        self.validators = cheap_validators()
        if config.select in VALIDATORS and config.select not in self.validators:
            self.validators.append(config.select)
        self.evaluations: list[dict[str, float]] = []
        import sklearn.cluster  # noqa: F401  # slow, and class_ami needs it: not in the `seconds` of a process's first run

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
        if config.select != "last" and score_of(config.select)[0] not in self.point.values:
            raise UsageError(f"select={config.select}: it gave no number at any evaluation; expected select=last")
        if self.point.state is not None:
            method.load_state_dict(self.point.state)
        self.save()
        seconds = time.perf_counter() - began
        result = self.result(fitted.steps, fitted.examples, fitted.answers, seconds)
        record = Record(self.folder, result)
        result["warnings"] = symptoms.warnings(result, record.metrics())
        records.write_result(self.folder, result)
        return record

    def save(self) -> None:
        """The last good state."""
        init = self.dependencies.init
        state = assembly.saved_state(self.config, self.pair, self.method, init.folder.resolve() if init else None)
        checkpoint.save(self.folder / "checkpoint.pt", state)

    def log(self, step: int, values: dict[str, float], examples_per_second: float) -> None:
        records.append_metrics(self.folder, step, values)
        self.progress.update(step, values, examples_per_second)
        if self.tracker is not None:
            self.tracker.log(step, values)

    def evaluate(self, step: int) -> None:
        """Validators, and accuracy on target test as an oracle's: it chooses only if it is asked to."""
        pair, rule = self.pair, self.config.select
        target_validation = None if pair.stream else pair.target_validation  # a stream is answered as it comes
        seen = evidence_of(self.method, pair.source_validation, target_validation, self.data.start_model)
        values = {f"validator/{name}": value for name, value in validate(seen, self.validators).items()}
        if "validator/source_accuracy" in values:
            values["source/validation_accuracy"] = values["validator/source_accuracy"]
        target = None
        if not pair.stream and len(pair.target_test):
            target = Output(*(t.cpu() for t in pair.target_test.outputs(self.method)))
            values[ORACLE] = float((target.logits.argmax(1) == pair.target_test.labels).double().mean())
        records.append_metrics(self.folder, step, values)
        if self.tracker is not None:
            self.tracker.log(step, values)
        self.evaluations.append({"step": step, **values})
        if rule == "last":
            self.point = Point(step, target, seen, values, None)
        else:
            key, higher_is_better = score_of(rule)
            scores = [evaluation.get(key) for evaluation in self.evaluations]
            if chosen(scores, higher_is_better) in (None, len(scores) - 1):  # the best so far
                state = {k: v.clone() for k, v in self.method.state_dict().items()}
                self.point = Point(step, target, seen, values, state)
        self.save()

    def result(self, steps: int, examples: int, answers: Any, seconds: float) -> dict[str, Any]:
        """Evaluate the selected state and say all that result.json says of a run by itself."""
        pair, method = self.pair, self.method
        target = source = found = None
        on_source = answers_of(method, pair.source_test)
        if on_source is not None:
            source = {"accuracy": on_source.accuracy, "examples": len(on_source.labels)}
        if len(pair.target_test):
            on_target, index = self.answers(answers)
            labels, probabilities = on_target.labels.numpy(), on_target.logits.softmax(1).numpy().astype(np.float32)
            records.write_predictions(self.folder, probabilities, labels, index)
            target = scores(labels, probabilities.argmax(1), len(pair.classes))
            found = self.diagnosis(on_source, on_target)
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
            "diagnosis": found,
            "selected_step": self.point.step,
            "bound": self.bound(),
            "validators": {
                name.removeprefix("validator/"): value
                for name, value in self.point.values.items()
                if name.startswith("validator/")
            },
            "evaluations": self.evaluations,
            "classes": list(pair.classes),
            "counts": pair.counts,
            "protocol": protocol_lines(self.config, pair, method.model) | said_of(self.dependencies.teachers),
            "notes": pair.notes,
            "remarks": list(getattr(method, "notes", [])),
            "depends_on": [str(record.folder) for record in self.dependencies.all],
            "versions": {"torch": torch.__version__, "dafw": __version__},
            "device": str(pair.device),
            **self.described,
            "folder": str(self.folder),
        }

    def bound(self) -> dict[str, Any] | None:
        """The accuracy on the target that Dis2 promises; None where a validation split it needs is not there."""
        seen, pair, method = self.point.seen, self.pair, self.method
        if not (seen.has("source") and seen.has("target")):
            return None
        source, target = (
            Output(*(t.cpu() for t in split.take(drawn(len(split)), split.name).outputs(method)))
            for split in (pair.source_train, pair.target_train)
        )
        return disagreement_bound(source, seen.source, seen.source_labels, target, seen.target)._asdict()

    def answers(self, recorded: Any) -> tuple[Answers, Any]:
        """Target test and its rows (N,): what a stream was answered, else what the selected state says."""
        split, target = self.pair.target_test, self.point.target
        if recorded is None:
            assert target is not None
            return Answers(target.features, target.logits, split.labels), np.arange(len(split))
        index, logits = recorded
        features = split.outputs(self.method).features.cpu()  # of the last state: a stream's answers have none
        return Answers(features[index], logits, split.labels[index]), index.numpy()

    def diagnosis(self, on_source: Answers | None, on_target: Answers) -> dict[str, Any]:
        """Why, as far as the run by itself can tell."""
        seen, pair = self.point.seen, self.pair
        validation = Answers(*seen.source, seen.source_labels) if seen.has("source") else None
        inputs = some_inputs(pair.target_train)
        return diagnosis.of_run(self.method, pair.classes, validation, on_source, on_target, inputs)


def drawn(count: int, most: int = 2000) -> torch.Tensor:
    """Positions of at most `most` examples of a split, the same for every run."""
    return torch.randperm(count, generator=generator("bound", count))[:most].sort().values


# the default recipes saw the labels of other splits of these targets, and every table says so
DEVELOPMENT_PAIRS = {
    ("synth", "digits"),
    ("mnist", "usps"),
    ("vader/amazon", "vader/tweets"),
    ("espeak", "fsdd"),
    ("espeak", "spoken_digits"),
}


def peak_memory(device: torch.device) -> float:
    """Megabytes: of the device where it counts them, else the largest size of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def protocol_lines(config: Config, pair: Pair, model: Classifier) -> dict[str, Any]:
    """Under which rules the number was measured."""
    development = (data_name(config.src), data_name(config.tgt)) in DEVELOPMENT_PAIRS
    return {
        "pair": "a development pair: the default recipes were chosen on it" if development else "chose nothing in dafw",
        **modality(pair.modality).said(pair.input_shape),
        "labels": config.labels,
        "classes": len(pair.classes),
        "split seed": config.split_seed,
        "transductive": config.tgt["transductive"],
        "labels per class": config.tgt["labels_per_class"],
        "init": config.init,
        "backbone": network_name(config, model),
    }


def network_name(config: Config, model: Classifier) -> str:
    """The backbone with those of its options that are not the defaults, and what pruning left of it."""
    name = config.backbone["name"]
    own = options(backbone(name))
    usual = {**plain_node("backbone", name, own), "feature_dim": GENERAL["backbone.feature_dim"]}
    keys = [key for key in ("feature_dim", *(o.name for o in own)) if key in config.backbone]
    changed = [as_typed(key, config.backbone[key]) for key in keys if config.backbone[key] != usual[key]]
    told = " ".join([name, *changed]) + (" (frozen)" if config.backbone["frozen"] else "")
    if model.pruned_from is None:
        return told
    return f"{told}, {pruning.size(model.backbone) / model.pruned_from:.0%} of its parameters left"
