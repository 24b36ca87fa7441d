"""The run folder: never shared, never half-written, found again by its hash."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dafw import answering, record, teachers
from dafw.errors import UsageError
from dafw.record import Record


def result(config_hash: str = "abc", **changed: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "status": "done",
        "config_hash": config_hash,
        "depends_on": [],
        "target": {"accuracy": 0.75, "examples": 4},
        **changed,
    }


def made(parent: Path, stem: str, written: Mapping[str, Any] | None) -> Path:
    folder = record.new_folder(parent, stem)
    if written is not None:
        record.write_result(folder, written)
    return folder


# ---- folders


def test_folders_of_one_name_are_numbered_and_old_ones_untouched(tmp_path):
    first = record.new_folder(tmp_path / "a" / "b", "seed0-x")
    (first / "mine").write_text("kept")
    second, third = record.new_folder(first.parent, "seed0-x"), record.new_folder(first.parent, "seed0-x")
    assert [f.name for f in (first, second, third)] == ["seed0-x", "seed0-x-2", "seed0-x-3"]
    assert (first / "mine").read_text() == "kept"
    assert [*second.iterdir()] == [*third.iterdir()] == []


def test_folders_never_collide_even_from_threads(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        folders = [*threads.map(lambda _: record.new_folder(tmp_path / "runs", "seed0-x"), range(64))]
    assert len(set(folders)) == 64
    assert all(f.is_dir() for f in folders)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"the run folder .*file/runs cannot be written \(Not a directory\); set out=DIR"
    ):
        record.new_folder(tmp_path / "file" / "runs", "seed0-x")


# ---- what is written


def test_a_result_comes_back_as_it_was(tmp_path):
    written = result(references={"lower": None}, p=1e-9, path=Path("a/b"))
    record.write_result(tmp_path, written)
    read = record.read(tmp_path)
    assert read.result == {**written, "path": "a/b", "folder": str(tmp_path)}
    assert (read.accuracy, read.hash, read.reused) == (0.75, "abc", False)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), np.float64("nan"), np.float32("nan"), np.int64(3), torch.tensor(0.5)],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_what_is_no_json_number_is_refused_and_never_text_and_the_old_result_stays(tmp_path, value):
    record.write_result(tmp_path, result())
    before = (tmp_path / "result.json").read_text()
    with pytest.raises((ValueError, TypeError)):
        record.write_result(tmp_path, result(target={"accuracy": value}))
    assert (tmp_path / "result.json").read_text() == before
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]


def test_the_record_of_a_folder_that_was_moved_knows_where_it_lies(tmp_path):
    folder = made(tmp_path, "old", result(folder="/somewhere/else"))
    assert record.read(folder.rename(tmp_path / "new")).result["folder"] == str(tmp_path / "new")


def test_a_folder_without_a_result_is_no_run_yet(tmp_path):
    assert record.read(tmp_path) is None


def test_the_config_is_plain_yaml_in_its_order(tmp_path):
    config = {"seed": 3, "method": {"name": "dann", "weight": 0.5}, "init": None, "plugins": ["b", "a"]}
    record.write_config(tmp_path, config)
    text = (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load(text) == config
    assert text.index("seed") < text.index("method") < text.index("init")


def test_metrics_are_appended_a_line_a_step(tmp_path):
    record.append_metrics(tmp_path, 5, {"loss/a": 0.5})
    record.append_metrics(tmp_path, 10, {"loss/a": 0.25, "lr": 0.1})
    assert Record(tmp_path, {}).metrics() == [{"step": 5, "loss/a": 0.5}, {"step": 10, "loss/a": 0.25, "lr": 0.1}]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_predictions_come_back_with_the_likeliest_class_and_what_is_right(tmp_path):
    probabilities = np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]], dtype=np.float32)
    record.write_predictions(tmp_path, probabilities, np.array([1, 1, 1]), np.array([2, 0, 1]))
    written = Record(tmp_path, {})
    saved = written.predictions()
    assert saved.keys() == {"probabilities", "predicted", "labels", "index"}
    np.testing.assert_array_equal(saved["probabilities"], probabilities)
    assert saved["predicted"].tolist() == [1, 0, 1]
    assert saved["index"].tolist() == [2, 0, 1]
    assert written.correct().tolist() == [True, False, True]
    assert [f.name for f in tmp_path.iterdir()] == ["predictions.npz"]


# ---- found again


def test_a_finished_run_of_the_same_hash_is_found(tmp_path):
    folder = made(tmp_path, "seed0-abc", result("abc"))
    found = record.find(tmp_path, "seed0-abc", "abc")
    assert found.folder == folder
    assert found.accuracy == 0.75


@pytest.mark.parametrize(
    "written",
    [None, result("abd"), result("abc", status="failed", reason="TrainingError: nan"), result("abc", status="running")],
)
def test_a_run_that_is_unfinished_failed_or_another_is_not(tmp_path, written):
    made(tmp_path, "seed0-abc", written)
    assert record.find(tmp_path, "seed0-abc", "abc") is None


def test_a_finished_run_is_found_behind_a_failed_one(tmp_path):
    made(tmp_path, "seed0-abc", result("abc", status="failed"))
    made(tmp_path, "seed0-abc", None)
    good = made(tmp_path, "seed0-abc", result("abc"))
    made(tmp_path, "seed0-abc", result("abc"))
    assert record.find(tmp_path, "seed0-abc", "abc").folder == good


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert record.find(tmp_path / "nowhere", "seed0-abc", "abc") is None
    made(tmp_path, "seed1-abc", result("abc"))
    assert record.find(tmp_path, "seed0-abc", "abc") is None


FOREIGN = ['{"status": "do', "[1, 2]", "3", "", "null", "{}", '{"status": 1}', '{"status": "done", "config_hash": "a"}']


@pytest.mark.parametrize("text", FOREIGN)
def test_a_result_that_no_run_wrote_is_told_in_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UsageError, match=r"result.json is no run's result \(.*\); expected what a run") as told:
        record.read(tmp_path)
    assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match=r"result.json is no run's result"):
        record.find(tmp_path.parent, tmp_path.name, "a")


@pytest.mark.parametrize(
    "ask", [answering.finished, partial(teachers.finished, "method.teacher")], ids=["run", "teacher"]
)
def test_what_asks_a_run_says_so_too(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match=r"result.json is no run's result \(no status\); expected what a run wrote"):
        ask(tmp_path)


def test_a_failed_run_stays_readable(tmp_path: Path) -> None:
    record.write_result(tmp_path, {"status": "failed", "reason": "KeyError: 3"})
    assert record.read(tmp_path).result["reason"] == "KeyError: 3"
