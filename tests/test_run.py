"""Whole runs of every method: what they leave, that it is true, and how runs find each other again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from whole import (
    TINY,
    Told,
    config_in,
    files_of_runs,
    made_npz,
    made_pair,
    measured,
    same,
    weights,
    words,
)

import dafw
from dafw import assembly
from dafw.config import resolve
from dafw.console import Console
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.experiment import run
from dafw.place import Place
from dafw.record import Record
from dafw.registry import DATASETS, METHODS
from dafw.setting import RULES, Setting

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures
out, records, record_of = whole.out, whole.records, whole.record_of

FILES = ["checkpoint.pt", "config.yaml", "log.txt", "metrics.jsonl", "predictions.npz", "result.json"]
KEYS = {"schema", "method", "setting", "src", "tgt", "image_size", "status", "seed", "steps", "seconds"}
KEYS |= {"total_seconds", "target", "source", "references", "recovered_gap", "versus_lower", "selection", "config_hash"}
STARTS = {m: METHODS.get(m).start for m in METHODS.names() if METHODS.get(m).start != "init"}


@pytest.fixture(scope="module")
def digits() -> Any:
    """The target's test part, at the size of the pair."""
    table = DATASETS.get("digits")(Place()).test
    return resize(table.inputs, 16, 1), table.labels


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


def test_a_run_that_was_killed_is_told_and_stays(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    record = measured(tmp_path / "runs", **made_pair(tmp_path), method="mcc")
    (record.folder / "result.json").unlink()
    left = sorted(path.name for path in record.folder.iterdir())
    told = type_here(words(out=tmp_path / "runs", **made_pair(tmp_path), method="mcc"))
    assert told.folder != record.folder
    line = f"{record.folder} was stopped before its end; it stays as it is, and the run starts again"
    assert told.out.splitlines().count(line) == 1
    assert sorted(path.name for path in record.folder.iterdir()) == left
    assert "stopped before" not in type_here(words(out=tmp_path / "runs", **made_pair(tmp_path), method="mcc")).out


def test_a_pair_of_other_data_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    keys = made_pair(tmp_path)
    record = measured(tmp_path, **keys, method="mcc")
    made_npz(tmp_path / "bright.npz", shift=90)
    assert not measured(tmp_path, **keys, method="mcc").reused
    made_pair(tmp_path)
    assert measured(tmp_path, **keys, method="mcc").folder == record.folder


def test_the_same_images_keep_their_own_name_and_flips(tmp_path: Path) -> None:
    """Two files of the same bytes, and one file under two options, are kept apart in one process."""
    keys = {**made_pair(tmp_path), "method": "source_only", "train.batch_size": 8}
    made_npz(tmp_path / "twin.npz")  # what dark.npz holds
    states = [weights(measured(tmp_path, **keys, **{"src.flip": f, "tgt.flip": f})) for f in (False, True, False)]
    assert not same(states[0], states[1])
    assert same(states[0], states[2])
    twin = measured(tmp_path, **{**keys, "src.path": tmp_path / "twin.npz"})
    assert "twin: 8x8 → 16x16 (bilinear)" in (twin.folder / "log.txt").read_text()
    made_npz(tmp_path / "other.npz", ("x", "y"))
    with pytest.raises(UsageError, match="twin and other share 0 classes"):
        measured(tmp_path, **{**keys, "src.path": tmp_path / "twin.npz", "tgt.path": tmp_path / "other.npz"})


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
    assert [b["method"] for b in record.result["beside"]] == ["adabn", "coral", "subspace_alignment"]
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
    cheap = ["adabn", "coral", "subspace_alignment"]
    assert [b["method"] for b in record.result["beside"]] == [*cheap, "target_supervised"]
    assert record.result["versus_baseline"]["method"] in cheap
    assert record.result["versus_baseline"]["accuracy"] == max(b["accuracy"] for b in record.result["beside"][:3])
    assert record.result["beside"][3]["run"] == str(record_of("target_supervised").folder)


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
