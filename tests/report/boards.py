"""What the tests of the page share: boards made by hand, small and hostile or large."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dafw.report.groups import adapting, validator_scores
from dafw.report.leaderboard import Across, Board, Comparison, Estimate, Group, Row, Sweep

HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b>"
METHODS = {
    "source_only": ("source_only", 0.727, 3.7),
    "adabn": ("unsupervised", 0.77, 0.1),
    "dann": ("unsupervised", 0.888, 9.5),
    "mcc": ("unsupervised", 0.906, 9.1),
    "mcd": ("unsupervised", 0.655, 14.2),
    "shot": ("source_free", 0.861, 6.0),
    "tent": ("test_time", 0.703, 0.4),
    "joint_supervised": ("joint_supervised", 0.986, 6.2),
}
VALIDATORS = ("source_accuracy", "entropy", "im", "bnm", "snd")
SEEDS = tuple(range(6))


def estimate(mean: float, half: float = 0.02) -> Estimate:
    return Estimate(mean, mean - half, mean + half)


def comparison(difference: float, against: str, adjusted: float | None = None) -> Comparison:
    word = "undecided" if abs(difference) < 0.02 else "better" if difference > 0 else "worse"
    p = 0.44 if word == "undecided" else 0.03125
    chance = 0.5 if word == "undecided" else float(difference > 0)
    return Comparison(against, estimate(difference), p, word, "sign-flip, 6 seeds", chance, SEEDS, adjusted)


def made_row(
    out: Path, pair: str, method: str, *, shift: float = 0.0, hyperparameters: str = "", seeds: Sequence[int] = SEEDS
) -> Row:
    setting, mean, seconds = METHODS.get(method, ("unsupervised", 0.8, 5.0))
    mean += shift
    noise = np.random.default_rng(len(method) + len(pair)).normal(0, 0.012, len(seeds))
    accuracies = tuple(float(np.clip(mean + n, 0, 1)) for n in noise)
    lower, is_lower = METHODS["source_only"][1] + shift, method == "source_only"
    selected = {"last": mean, **{v: mean - 0.003 * i for i, v in enumerate(VALIDATORS)}, "oracle": mean + 0.01}
    return Row(
        method=method,
        setting=setting,
        hyperparameters=hyperparameters,
        seeds=tuple(seeds),
        accuracies=accuracies,
        accuracy=estimate(mean) if len(seeds) > 1 else Estimate(mean, None, None),
        deviation=0.012 if len(seeds) > 1 else None,
        versus_lower=None if is_lower else comparison(mean - lower, "source_only"),
        versus_baseline=None if is_lower or method == "adabn" else comparison(mean - 0.77 - shift, "adabn"),
        gap=None if is_lower else estimate((mean - lower) / (0.986 - 0.727), 0.1),
        gap_reason="it is the lower reference" if is_lower else "",
        selected=selected,
        regrets={v: selected["oracle"] - selected[v] for v in VALIDATORS},
        correlations={v: None if v == "snd" else 0.9 - 0.1 * i for i, v in enumerate(VALIDATORS)},
        bound=mean - 0.2 if setting == "unsupervised" else None,
        seconds=seconds,
        total_seconds=seconds + (3.7 if setting == "source_free" else 0.0),
        selection="last",
        stale=(),
        warnings=("negative transfer on all seeds",) if method == "mcd" else (),
        folders=tuple(folder_of(out, pair, method, seed, hyperparameters) for seed in seeds),
    )


def folder_of(out: Path, pair: str, method: str, seed: int, hyperparameters: str = "") -> Path:
    return (
        out
        / pair
        / method.replace("/", "_")
        / f"seed{seed}-{zlib.crc32(f'{pair}{method}{seed}{hyperparameters}'.encode()):08x}"
    )


def made_run(row: Row, place: int, src: str, tgt: str) -> dict[str, Any]:
    """What result.json says of one seed of a row."""
    return {
        "schema": 1,
        "folder": str(row.folders[place]),
        "method": row.method,
        "setting": row.setting,
        "src": src,
        "tgt": tgt,
        "image_size": 16,
        "seed": row.seeds[place],
        "selection": row.selection,
        "status": "done",
        "steps": 500,
        "seconds": row.seconds,
        "total_seconds": row.total_seconds,
        "examples_seen": 32000,
        "peak_memory_mb": 612.5,
        "trainable_parameters": 164096,
        "target": {"accuracy": row.accuracies[place], "macro_f1": 0.8, "per_class_accuracy": 0.81, "examples": 719},
        "source": {"accuracy": 0.99, "examples": 614},
        "selected_step": 500,
        "classes": [str(digit) for digit in range(10)],
        "counts": {"source train": 4500, "source validation": 500, "target train": 970, "target test": 719},
        "protocol": {"image size": "16x16", "labels": "closed", "classes": 10, "transductive": False, "init": "random"},
        "notes": ["target classes dropped: none"],
        "remarks": [],
        "references": {"lower": {"method": "source_only", "accuracy": 0.727, "run": "there"}, "upper": None},
        "beside": [{"method": "adabn", "accuracy": 0.77, "run": "there"}],
        "recovered_gap": 0.62,
        "recovered_gap_reason": None,
        "versus_lower": {"difference": 0.16, "p": 1e-13, "verdict": "better", "test": "McNemar, one seed"},
        "versus_baseline": {"method": "adabn", "difference": 0.12, "p": 1e-5, "verdict": "better", "test": "McNemar"},
        "device": "cpu",
        "command": f"python -m dafw.run method={row.method} src={src} tgt={tgt} seed={row.seeds[place]}",
        "config": {
            "method": {"name": row.method, "weight": 1.0},
            "train": {"steps": 500, "lr": 0.05, "optimizer": "sgd", "schedule": "cosine", "weight_decay": 0.0005},
            "wandb": {"mode": "disabled", "tags": []},
        },
        "validators": dict.fromkeys(VALIDATORS, -0.31),
        "evaluations": [
            {"step": s, "oracle/target_accuracy": 0.8, **{f"validator/{v}": 0.5 for v in VALIDATORS}}
            for s in range(100, 600, 100)
        ],
        "identity": {"dafw": "9a9fd386b4", "data": {"src": ["5ab0"], "tgt": "77c1"}, "torch": "2.14"},
        "bound": {"accuracy": 0.61},
        "diagnosis": {"calibration": {"before": 0.11, "after": 0.03}, "per_class_accuracy": [0.8] * 10},
        "warnings": list(row.warnings),
    }


def made_group(
    out: Path,
    src: str,
    tgt: str,
    methods: Sequence[str],
    *,
    shift: float = 0.0,
    differs: str = "",
    seeds: Sequence[int] = SEEDS,
) -> Group:
    pair = f"{src}-{tgt}".replace("/", "_") + ("-28" if differs else "")
    rows = tuple(made_row(out, pair, method, shift=shift, seeds=seeds) for method in methods)
    claims = (comparison(0.13, "mcc over adabn", 0.094), comparison(0.018, "mcc over dann", 0.44))
    development = (src, tgt) in (("synth", "digits"), ("mnist", "usps"))
    comparable = {"pair": f"{src} → {tgt}", "image size": 28 if differs else 16, "transductive": False}
    return Group(pair, src, tgt, comparable, differs, development, rows, claims)


def made_board(out: Path, groups: Sequence[Group], sweeps: Sequence[Sweep] = (), **fields: Any) -> Board:
    runs = [made_run(row, i, g.src, g.tgt) for g in groups for row in g.rows for i in range(len(row.seeds))]
    for run in runs:
        Path(run["folder"]).mkdir(parents=True, exist_ok=True)
    methods = list(dict.fromkeys(row.method for group in groups for row in group.rows))
    across = Across(
        tuple(f"{g.src} → {g.tgt}" for g in groups),
        {method: 1.0 + place for place, method in enumerate(methods)},
        (("mcc", "dann", 0.031, 0.062), ("mcc", "adabn", 0.008, 0.024)),
    )
    development, report = (
        validator_scores([row for group in groups if group.development is which for row in adapting(group.rows)])
        for which in (True, False)
    )
    return Board(
        out, tuple(groups), across, tuple(sweeps), tuple(runs), development=development, report=report, **fields
    )


def made_sweep(out: Path, group: Group) -> Sweep:
    """Random search over a weight that spans decades and a learning rate, one trial without either validator."""
    points = []
    for trial, weight in enumerate((0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)):
        for seed in range(2):
            accuracy = 0.9 - 0.06 * abs(float(np.log10(weight))) + 0.01 * seed
            points.append(
                {"method": "dann", "seed": seed, "folder": str(out / f"trial{trial}"), "accuracy": accuracy}
                | {"validators": {"im": accuracy - 0.1}, "method.weight": weight, "train.schedule": "cosine"}
            )
    best = {
        "im": {"words": "method.weight=0.3", "accuracy": 0.869, "trials": 7},
        "oracle": {"words": "method.weight=1.0", "accuracy": 0.905, "trials": 7},
    }
    return Sweep(group.key, "dann", ("method.weight", "train.schedule"), tuple(points), best)


def draw_pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = (1200, 480)) -> None:
    """Pictures with lines and noise, as hard to store as a plot."""
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(names))
    for name in names:
        pixels = np.full((size[1], size[0], 3), 255, np.uint8)
        for _ in range(400):
            x, y = noise.integers(0, size[0] - 6), noise.integers(0, size[1] - 6)
            pixels[y : y + 6, x : x + 6] = noise.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / "plots" / f"{name}.png")


def small_board(out: Path, seeds: Sequence[int] = SEEDS) -> Board:
    """Three groups of two pairs, one of them hostile, a sweep, pictures, stale rows, failed and unfinished runs."""
    first = made_group(out, "synth", "digits", list(METHODS), seeds=seeds)
    second = made_group(out, "usps", "mnist", [*METHODS, HOSTILE], shift=-0.1, seeds=seeds)
    third = made_group(
        out, "usps", "mnist", ["source_only", "dann"], shift=-0.2, differs="image size 28 (others 16)", seeds=seeds
    )
    hostile = replace(
        second.rows[-1],
        hyperparameters=f"method.kind={HOSTILE}",
        stale=("dafw's source has changed", HOSTILE),
        warnings=(HOSTILE,),
        selection="oracle",
        gap=None,
        gap_reason="the upper reference is not clearly above the lower one",
    )
    swept = made_row(out, first.key, "dann", shift=-0.03, hyperparameters="method.weight=0.1", seeds=(0,))
    groups = (replace(first, rows=(*first.rows, swept)), replace(second, rows=(*second.rows[:-1], hostile)), third)
    others = (
        {
            "folder": str(out / "synth-digits/mcc/seed9-ab"),
            "status": "failed",
            "reason": f"the loss became nan {HOSTILE}",
        },
        {"folder": str(out / "synth-digits/mcd/seed1-cd"), "status": "unfinished", "reason": ""},
    )
    board = made_board(out, groups, [made_sweep(out, first)], others=others)
    draw_pictures(Path(board.runs[0]["folder"]), ["confusion", "curves", "tsne"])
    return board
