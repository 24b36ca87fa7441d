"""What the tests of the report share: made run folders, as `python -m dafw.run` leaves them."""

import copy
import functools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from dafw.assembly import load_domains
from dafw.config import Config, default_method, plain_node
from dafw.identity import hash_of
from dafw.registry import BACKBONES, DATASETS, METHODS
from dafw.report.leaderboard import Board, Group, Row
from dafw.sources import plugin_hash, source_hash
from dafw.store import as_typed

HOSTILE = "<script>alert(1)</script>"
SEEDS = tuple(range(6))
STEPS = 500
EVALUATIONS = 5
PAIRS = (("synth", "digits"), ("mnist", "usps"))
# method: mean target accuracy, setting, seconds
MEANS: dict[str, tuple[float, str, float]] = {
    "source_only": (0.72, "source_only", 3.7),
    "adabn": (0.77, "unsupervised", 0.1),
    "coral": (0.78, "unsupervised", 0.2),
    "dann": (0.89, "unsupervised", 9.5),
    "mcc": (0.91, "unsupervised", 8.1),
    "shot": (0.86, "source_free", 6.0),
    "mcd": (0.66, "unsupervised", 14.2),  # negative transfer
    "joint_supervised": (0.985, "joint_supervised", 6.2),
}
VALIDATOR_SCALES = {"im": 2.0, "entropy": -1.0, "snd": 1.5, "source_accuracy": 0.0}


@functools.cache
def fingerprint(name: str) -> str:
    """Of a data set as it is today; of one that is not at hand a made one."""
    if name not in ("synth", "digits"):
        return f"made-{name}"
    node = plain_node("tgt", name, [])
    return load_domains(Config(src=node, tgt=node))[1].fingerprint


def config_of_run(method: Mapping[str, Any], src: str, tgt: str, seed: int, out: Path) -> dict[str, Any]:
    """A resolved config, nested, as config.yaml holds it."""
    return {
        "method": dict(method),
        "src": plain_node("src", src, []),
        "tgt": plain_node("tgt", tgt, []),
        "backbone": {"name": "convnet", "frozen": False, "views": 1, "feature_dim": 128, "dropout": 0.0, "width": 16},
        "init": "random",
        "seed": seed,
        "select": "last",
        "references": "true",
        "image_size": 16,
        "labels": "closed",
        "split_seed": 0,
        "data": None,
        "out": str(out),
        "plots": True,
        "device": "auto",
        "threads": None,
        "reuse": True,
        "debug": False,
        "plugins": [],
        "train": {
            "steps": STEPS,
            "batch_size": 64,
            "optimizer": "sgd",
            "lr": 0.05,
            "schedule": "cosine",
            "weight_decay": 5e-4,
            "precision": "fp32",
        },
        "eval": {"every": None},
        "wandb": {"mode": "disabled", "project": "dafw", "entity": None, "name": None, "tags": []},
    }


def with_keys(config: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The config with dotted keys set: {"method.weight": 0.5}."""
    changed = copy.deepcopy(config)
    for key, value in keys.items():
        *parents, last = key.split(".")
        node = changed
        for parent in parents:
            node = node[parent]
        node[last] = value
    return changed


def comparable_of(config: Mapping[str, Any], src: str, tgt: str) -> dict[str, Any]:
    return {
        "pair": f"{src} → {tgt}",
        "data": hash_of({"src": [fingerprint(src)], "tgt": fingerprint(tgt)}),
        "image size": config["image_size"],
        "classes": f"10, {config['labels']}",
        "split": f"seed {config['split_seed']}, 0.1 of source and {config['tgt']['validation']} of target train for "
        "validation",
        "transductive": config["tgt"]["transductive"],
        "labels per class": config["tgt"]["labels_per_class"],
        "backbone": " ".join(str(v) if k == "name" else f"{k}={v}" for k, v in config["backbone"].items()),
        "init": config["init"],
        "budget": f"{config['train']['steps']} steps of {config['train']['batch_size']}, fp32",
        "evaluation": f"select={config['select']}, eval.every={config['eval']['every']}",
    }


def evaluations_of(final: float, noise: np.random.Generator, validators: Mapping[str, float]) -> list[dict[str, Any]]:
    """Points that rise, pass their best before the end, and end at `final`; validators follow them with noise."""
    shape = np.array([-0.12, -0.05, 0.01, 0.02, 0.0])[-EVALUATIONS:]
    points = []
    for place, offset in enumerate(shape):
        accuracy = float(np.clip(final + offset, 0, 1))
        scores = {f"validator/{n}": float(s * accuracy + noise.normal(0, 0.02)) for n, s in validators.items()}
        points.append(
            {
                "step": STEPS // EVALUATIONS * (place + 1),
                "source/validation_accuracy": float(np.clip(0.95 + 0.01 * place + noise.normal(0, 0.003), 0, 1)),
                "oracle/target_accuracy": accuracy,
                **scores,
            }
        )
    return points


def made_run(
    out: Path,
    method: str = "dann",
    *,
    src: str = "synth",
    tgt: str = "digits",
    seed: int = 0,
    accuracy: float | None = None,
    lower: float | None = None,
    upper: float | None = None,
    beside: Mapping[str, float] | None = None,
    keys: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    evaluations: Sequence[Mapping[str, Any]] | None = None,
    old: bool = False,
    pictures: bool = False,
    age: float = 0.0,
) -> Path:
    """One finished run folder; returns it.

    keys: dotted keys of the config that differ; changes: keys of result.json that differ, put in last
    lower, upper, beside: accuracies of the references, of this seed; those of `MEANS` where not given, {} for none
    old: a result.json as it was before runs knew with what they may be compared
    age: seconds since it was written
    """
    known = MEANS.get(method, (0.8, "unsupervised", 5.0))
    noise = np.random.default_rng([zlib.crc32(f"{src}{tgt}{method}{dict(keys or {})}".encode()), seed])
    ease = np.random.default_rng([zlib.crc32(f"{src}{tgt}".encode()), seed]).normal(0, 0.01)  # shared by all methods
    drawn = {name: min(mean + float(ease), 1.0) for name, (mean, _, _) in MEANS.items()}
    if accuracy is None:
        accuracy = float(np.clip(known[0] + ease + noise.normal(0, 0.008), 0, 1))
    node = default_method(method) if method in METHODS else {"name": method}
    config = with_keys(config_of_run(node, src, tgt, seed, out), keys or {})
    comparable = comparable_of(config, src, tgt)
    config_hash = hash_of({"config": {**config, "out": ""}})
    folder = out / f"{src}-{tgt}".replace("/", "_") / method / f"seed{seed}-{config_hash[:10]}"
    folder.mkdir(parents=True)
    bound = {"lower": drawn["source_only"] if lower is None else lower, "upper": upper or drawn["joint_supervised"]}
    if beside is None:
        beside = {name: drawn[name] for name in ("adabn", "coral")}
    if method in ("source_only", "joint_supervised"):
        beside = {}
    if evaluations is None:
        evaluations = evaluations_of(accuracy, noise, VALIDATOR_SCALES)
    per_class = [float(np.clip(accuracy + noise.normal(0, 0.05), 0, 1)) for _ in range(10)]

    def versus(other: float) -> dict[str, Any]:
        difference = accuracy - other
        word = "undecided" if abs(difference) < 0.02 else "better" if difference > 0 else "worse"
        p = 0.4 if word == "undecided" else 1e-6
        return {"difference": difference, "p": p, "verdict": word, "test": "McNemar, one seed"}

    result: dict[str, Any] = {
        "schema": 1,
        "method": method,
        "setting": known[1],
        "src": src,
        "tgt": tgt,
        "image_size": config["image_size"],
        "seed": seed,
        "selection": config["select"],
        "status": "done",
        "steps": config["train"]["steps"],
        "seconds": known[2] + float(noise.uniform(0, 0.5)),
        "total_seconds": known[2] + 3.7,
        "examples_seen": 64 * config["train"]["steps"],
        "peak_memory_mb": 612.0,
        "trainable_parameters": 164_096,
        "target": {
            "accuracy": accuracy,
            "macro_f1": accuracy - 0.004,
            "per_class_accuracy": float(np.mean(per_class)),
            "examples": 719,
        },
        "source": {"accuracy": 0.99, "examples": 1000},
        "selected_step": config["train"]["steps"],
        "classes": [str(digit) for digit in range(10)],
        "counts": {"source train": 4500, "source validation": 500, "target train": 970, "target test": 719},
        "protocol": {
            "pair": "a development pair: the default recipes were chosen on it"
            if (src, tgt) in PAIRS
            else "chose nothing",
            "image size": "16x16",
            "labels": "closed",
            "classes": 10,
            "split seed": 0,
            "transductive": False,
            "labels per class": None,
            "init": "random",
            "backbone": "convnet",
        },
        "notes": [],
        "remarks": [],
        "depends_on": [],
        "versions": {"torch": "2.14.1", "dafw": "0.1.0"},
        "device": "cpu",
        "config_hash": config_hash,
        "folder": str(folder),
        "references": {
            role: {"method": name, "accuracy": bound[role], "run": f"{folder.parents[1] / name}/seed{seed}-made"}
            if method != name
            else None
            for role, name in (("lower", "source_only"), ("upper", "joint_supervised"))
        },
        "beside": [
            {"method": name, "accuracy": value, "run": f"{folder.parents[1] / name}/seed{seed}-made"}
            for name, value in beside.items()
            if name != method
        ],
        "recovered_gap": None,
        "recovered_gap_reason": None,
        "versus_lower": None if method == "source_only" else versus(bound["lower"]),
        "pictures": [],
    }
    if not old:
        best = max(result["beside"], key=lambda b: b["accuracy"], default=None)
        final = evaluations[-1] if evaluations else {}
        result |= {
            "config": config,
            "command": f"python -m dafw.run method={method} src={src} tgt={tgt} seed={seed}"
            + "".join(f" {as_typed(key, value)}" for key, value in (keys or {}).items()),
            "validators": {k.removeprefix("validator/"): v for k, v in final.items() if k.startswith("validator/")},
            "evaluations": list(evaluations),
            "hyperparameters": [
                as_typed(key, value) for key, value in (keys or {}).items() if key.startswith(("method.", "train."))
            ],
            "comparable": comparable,
            "comparable_hash": hash_of(comparable),
            "identity": {
                "dafw": source_hash(),
                "plugins": {
                    "method": plugin_hash(METHODS.get(method)) if method in METHODS else "a hash of long ago",
                    "backbone": plugin_hash(BACKBONES.get("convnet")),
                    f"src {src}": plugin_hash(DATASETS.get(src)),
                    "tgt": plugin_hash(DATASETS.get(tgt)),
                },
                "data": {"src": [fingerprint(src)], "tgt": fingerprint(tgt)},
                "torch": "2.14.1",
            },
            "bound": {"accuracy": accuracy - 0.2},
            "diagnosis": {"per_class_accuracy": per_class},
            "warnings": [] if accuracy > bound["lower"] else ["negative transfer: below its lower reference"],
            "versus_baseline": None if best is None else {**versus(best["accuracy"]), "method": best["method"]},
        }
    if pictures:
        (folder / "plots").mkdir()
        Image.new("RGB", (64, 48), (200, 40 * (seed % 6), 90)).save(folder / "plots" / "confusion.png")
        result["pictures"] = ["plots/confusion.png"]
    result |= changes or {}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "result.json").write_text(json.dumps(result))
    if age:
        written = (folder / "result.json").stat().st_mtime - age
        os.utime(folder / "result.json", (written, written))
    return folder


def made_failure(out: Path, method: str = "mcc", seed: int = 9, reason: str = "TrainingError: nan") -> Path:
    """A run that failed."""
    folder = out / "synth-digits" / method / f"seed{seed}-failed"
    folder.mkdir(parents=True)
    result = {"schema": 1, "method": method, "setting": "unsupervised", "src": "synth", "tgt": "digits", "seed": seed}
    result |= {"image_size": 16, "selection": "last", "status": "failed", "reason": reason, "config_hash": "failed"}
    (folder / "config.yaml").write_text("seed: 9\n")
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def made_unfinished(out: Path, method: str = "mcd", seed: int = 8) -> Path:
    """A run that is being trained, or was killed."""
    folder = out / "synth-digits" / method / f"seed{seed}-unfinished"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"seed: {seed}\n")
    return folder


def made_runs(
    out: Path,
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    methods: Sequence[str] = tuple(MEANS),
    seeds: Sequence[int] = SEEDS,
    weights: Sequence[float] = (0.1, 0.3, 3.0),
    pictures: bool = True,
) -> Path:
    """A believable folder of runs; returns it.

    Every method on every pair over the seeds; a sweep of dann over method.weight with two seeds; a group of another
    image size; a run of hostile words; an old run; a failed and an unfinished one; folders that hold no runs.
    """
    for src, tgt in pairs:
        for method in methods:
            for seed in seeds:
                made_run(out, method, src=src, tgt=tgt, seed=seed, pictures=pictures and seed == seeds[0])
    for weight in weights:
        for seed in seeds[:2]:
            accuracy = 0.88 - 0.05 * abs(float(np.log10(weight))) + 0.004 * seed
            made_run(out, "dann", seed=seed, keys={"method.weight": weight}, accuracy=accuracy)
    for method in ("source_only", "dann"):
        made_run(out, method, keys={"image_size": 28})
    made_run(
        out,
        "my_<i>method",
        keys={"method.kind": HOSTILE, "method.weight": 0.5, "wandb.name": HOSTILE},
        changes={
            "warnings": ['collapsed: class "><img src=x onerror=alert(1)> is never predicted & more'],
            "classes": [HOSTILE, *map(str, range(1, 10))],
            "notes": ["`${jinja}` {{ 7 * 7 }} $x_1$ 100% \\input{x}"],
        },
    )
    made_run(out, "mcc", seed=7, old=True)
    made_failure(out, reason=f"TrainingError: the loss {HOSTILE!r} became nan")
    made_unfinished(out)
    for name in (".locks", "sweeps", "studies", "wandb"):
        (out / name).mkdir()
    stray = out / "sweeps" / "2026" / "0"
    stray.mkdir(parents=True)
    (stray / "result.json").write_text("{}")
    return out


def group_of(board: Board) -> Group:
    (group,) = board.groups
    return group


def rows_of(group: Group) -> dict[str, Row]:
    return {" ".join([row.method, row.hyperparameters]).strip(): row for row in group.rows}
