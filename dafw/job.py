"""The training and evaluation of one run in its folder."""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dafw.record as records
from dafw import __version__, assembly, checkpoint
from dafw.config import Config
from dafw.console import Console
from dafw.evaluation import scores
from dafw.method import Method
from dafw.pair import Pair
from dafw.record import Record
from dafw.selection import better
from dafw.split import Split
from dafw.tracking import Tracker
from dafw.trainer import fit, total_steps


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
    """What a data set is called in folders: its name, or the stem of the path it was read from."""
    path = node.get("path") or (node["root"] if node["name"] == "folder" else None)
    return Path(path).stem if path else str(node["name"])


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
            begin_tracking(self.tracker, config, self.folder, plain)
        steps = total_steps(method, pair, config.training)
        self.best: tuple[float, dict[str, Any], int] | None = None  # score, state, step
        self.logits = self.best_logits = torch.empty(0)  # of target test, at the last and at the best evaluation
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
        """Accuracy on source validation, and on target test, as an oracle's: it chooses only if it is asked to."""
        values = {}
        if self.pair.source_validation is not None and len(self.pair.source_validation):
            values["source/validation_accuracy"] = accuracy(self.method, self.pair.source_validation)
        if not self.pair.stream and len(self.pair.target_test):
            self.logits = self.pair.target_test.outputs(self.method).logits.cpu()
            hits = self.logits.argmax(1) == self.pair.target_test.labels
            values["oracle/target_accuracy"] = float(hits.float().mean())
        records.append_metrics(self.folder, step, values)
        if self.tracker is not None:
            self.tracker.log(step, values)
        if self.config.select != "last":
            score = values["oracle/target_accuracy"]
            if self.best is None or better(score, self.best[0]):
                self.best = (score, {k: v.clone() for k, v in self.method.state_dict().items()}, step)
                self.best_logits = self.logits
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
            "notes": pair.notes,
            "remarks": list(getattr(method, "notes", [])),
            "depends_on": [str(r.folder) for r in (self.dependencies.init, self.dependencies.start) if r],
            "versions": {"torch": torch.__version__, "dafw": __version__},
            "device": str(pair.device),
            "config_hash": self.config_hash,
            "folder": str(self.folder),
        }

    def answers(self, recorded: Any) -> tuple[Any, Any, Any]:
        """Target test probabilities, labels and rows: what a stream was answered, else what the selected state says."""
        labels = self.pair.target_test.labels.numpy()
        if recorded is None:
            logits, index = self.best_logits if self.best else self.logits, torch.arange(len(labels))
        else:
            index, logits = recorded
        probabilities = logits.softmax(1).numpy().astype(np.float32)
        return probabilities, labels[index.numpy()], index.numpy()


def accuracy(method: Method, split: Split) -> float:
    """Share of the split that `predict` gets right."""
    return float((split.outputs(method).logits.argmax(1).cpu() == split.labels).float().mean())


# the default recipes saw the labels of other splits of these targets, and every table says so
DEVELOPMENT_PAIRS = {("synth", "digits"), ("mnist", "usps")}


def peak_memory(device: torch.device) -> float:
    """Megabytes: of the device where it counts them, else the largest size of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def protocol_lines(config: Config, pair: Pair) -> dict[str, Any]:
    """Under which rules the number was measured."""
    sides = f"{config.image_size}x{config.image_size}"
    development = (name_of(config.src), name_of(config.tgt)) in DEVELOPMENT_PAIRS
    return {
        "pair": "a development pair: the default recipes were chosen on it" if development else "chose nothing in dafw",
        "image size": sides,
        "labels": config.labels,
        "classes": len(pair.classes),
        "split seed": config.split_seed,
        "transductive": config.tgt["transductive"],
        "labels per class": config.tgt["labels_per_class"],
        "init": config.init,
        "backbone": config.backbone["name"] + (" (frozen)" if config.backbone["frozen"] else ""),
    }
