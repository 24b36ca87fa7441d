"""The runs that options of a method name: which these are, what makes one useless, and what a run with one leaves."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_registry
import torch
import whole
from test_bad_input import the_line
from whole import TINY, Told, checkpoint, files_of_runs, made_npz, made_pair, measured, run_in, same, weights, words

import dafw
from dafw.classifier import Classifier
from dafw.config import Config
from dafw.errors import UsageError
from dafw.experiment import same_test
from dafw.job import Dependencies
from dafw.record import Record, write_result
from dafw.registry import load_plugin
from dafw.store import compose
from dafw.teachers import kind_of, said_of, teachers_of

surroundings, type_here, write = whole.surroundings, whole.type_here, test_registry.write  # fixtures

ENSEMBLE = '''
from pathlib import Path

import torch
import torch.nn.functional as F

from dafw import Method, Setting, register_method


@register_method
class Ensemble(Method):
    """The mean of several runs, learnt (Nobody 2020)."""

    setting = Setting.SOURCE_FREE
    runs = ("teachers", "spare")

    def __init__(self, model, *, teachers: list[Path], spare: Path | None = None, words: Path = Path("runs/none")):
        super().__init__(model)
        self.paths = teachers

    def setup(self, data):
        self.teachers = [data.teacher(path) for path in self.paths]

    def losses(self, batch, progress):
        labels = torch.stack([run.answer(batch.target).logits.softmax(1) for run in self.teachers]).mean(0)
        return {"classification": F.cross_entropy(self.model(batch.target.inputs).logits, labels)}
'''


def made_run(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """What a finished run says of itself that a dependent one asks."""
    result = {
        **{"method": "dann", "setting": "unsupervised", "seed": seed, "status": "done", "selection": "last"},
        **{"config_hash": f"hash of {folder.name}", "depends_on": [], "seconds": 2.0, "hyperparameters": []},
        **{"comparable": {"pair": "a → b"}, **changed},
    }
    folder.mkdir(parents=True)
    write_result(folder, result)
    return folder


def of_ensemble(write: test_registry.Write, **method: Any) -> Config:
    load_plugin(write("ensemble.py", ENSEMBLE))
    config = compose(["method=dann"])
    return replace(config, method={"name": "ensemble", "spare": None, "note": "runs/none", **method})


# ---- which they are


def test_a_method_says_which_of_its_options_name_runs(tmp_path: Path, write: test_registry.Write) -> None:
    one, other = made_run(tmp_path / "one"), made_run(tmp_path / "other")
    (tmp_path / "words.txt").write_text("a file")
    found = teachers_of(of_ensemble(write, teachers=[one, str(other)]))  # text where it was read from a saved config
    assert {key: [run.folder for run in runs] for key, runs in found.items()} == {"teachers": [one, other]}
    found = teachers_of(of_ensemble(write, teachers=[], spare=str(one), words=tmp_path / "words.txt"))
    assert {key: [run.folder for run in runs] for key, runs in found.items()} == {"spare": [one]}
    assert teachers_of(compose(["method=dann"])) == {}


@pytest.mark.parametrize(
    ("result", "has_checkpoint", "says"),
    [
        (None, False, "there is no run; expected the folder of a finished one"),
        (None, True, "this run is not finished (still training, or stopped); expected a finished one"),
        ({"status": "failed", "reason": "KeyError: 3"}, True, "this run is not finished (KeyError: 3); expected"),
    ],
    ids=["nothing", "still training", "failed"],
)
def test_a_run_that_is_none(
    result: dict[str, Any] | None, has_checkpoint: bool, says: str, tmp_path: Path, write: test_registry.Write
) -> None:
    folder = tmp_path / "run"
    if result is not None:
        made_run(folder, **result)
    if has_checkpoint:
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(UsageError) as error:
        teachers_of(of_ensemble(write, teachers=[], spare=folder))
    assert str(error.value).startswith(f"method.spare={folder}: {says}")
    assert "\n" not in str(error.value)


def test_what_they_cost_is_counted_once(tmp_path: Path) -> None:
    start = made_run(tmp_path / "start", seconds=3.0)
    one, other = (made_run(tmp_path / name, depends_on=[str(start)]) for name in ("one", "other"))
    teachers = {"teachers": [run_in(one), run_in(other)]}
    dependencies = Dependencies(None, run_in(start), teachers)
    assert dependencies.hashes == ["hash of start", "hash of one", "hash of other"]
    assert dependencies.seconds == 3.0 + 2.0 + 2.0


# ---- what is said of them


def test_a_kind_is_all_but_the_seed(tmp_path: Path) -> None:
    usual, another_seed = (made_run(tmp_path / str(seed), seed) for seed in (0, 1))
    tuned = made_run(tmp_path / "tuned", hyperparameters=["method.weight=0.5"])
    wide = made_run(tmp_path / "wide", comparable={"pair": "a → b", "backbone": "convnet width=32"})
    mcc = made_run(tmp_path / "mcc", method="mcc")
    kinds = [kind_of(run_in(folder)) for folder in (usual, another_seed, tuned, wide, mcc)]
    assert kinds[0] == kinds[1]
    assert len(set(kinds)) == 4
    assert [kind.partition("-")[0] for kind in kinds] == [*["dann"] * 4, "mcc"]


def test_what_a_number_owes_to_target_labels_is_said_also_of_the_runs_behind(tmp_path: Path) -> None:
    upper = made_run(tmp_path / "upper", method="joint_supervised", setting="joint_supervised")
    after = made_run(tmp_path / "after", seed=3, depends_on=[str(upper)])
    picked = made_run(tmp_path / "picked", selection="oracle")
    usual = made_run(tmp_path / "usual")
    teachers = {"teacher": [run_in(usual)], "more": [run_in(folder) for folder in (upper, after, picked)]}
    assert said_of(teachers) == {
        "teacher": "dann, seed 0",
        "more": "joint_supervised, seed 0, saw target labels; dann, seed 3, saw target labels; "
        "dann, seed 0, chosen by an oracle",
    }


def test_only_answers_to_the_same_examples_stand_in_one_table(tmp_path: Path) -> None:
    def answering(tgt: str, data: str, examples: int | None) -> Record:
        target = None if examples is None else {"accuracy": 0.5, "examples": examples}
        return Record(tmp_path, {"tgt": tgt, "identity": {"data": {"src": ["s"], "tgt": data}}, "target": target})

    first = answering("digits", "d", 719)
    assert same_test(first, answering("digits", "d", 719))
    for other in (("digits-contrast3", "d", 719), ("digits", "e", 719), ("digits", "d", 700), ("digits", "d", None)):
        assert not same_test(first, answering(*other))


# ---- whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two made domains and the runs on them, shared by the tests, which take copies of what they move."""
    folder = tmp_path_factory.mktemp("teachers")
    made_pair(folder)
    return folder


@pytest.fixture
def keys(place: Path) -> dict[str, Any]:
    pair = {"src": "npz", "src.path": place / "dark.npz", "tgt": "npz", "tgt.path": place / "bright.npz"}
    return {**pair, "backbone.width": 4}


@pytest.fixture
def teacher(place: Path, keys: dict[str, Any]) -> Record:
    return measured(place / "runs", method="dann", **keys)


def student(place: Path, keys: dict[str, Any], teacher: Path, **more: Any) -> Record:
    own = {"method": "distil", "method.teacher": teacher, "backbone.width": 2, "backbone.feature_dim": 16}
    return measured(place / "runs", **{**keys, **own, **more})


def test_a_student_depends_on_its_teacher_and_not_on_where_it_lies(
    place: Path, keys: dict[str, Any], teacher: Record, tmp_path: Path
) -> None:
    record = student(place, keys, teacher.folder)
    result = record.result
    assert result["depends_on"] == [str(teacher.folder)]
    assert result["total_seconds"] == pytest.approx(result["seconds"] + teacher.result["seconds"])
    assert result["hyperparameters"] == [f"method.teacher={kind_of(teacher)}"]
    assert result["protocol"]["teacher"] == "dann, seed 0"
    assert f"method.teacher={teacher.folder}" in result["command"]
    shutil.copytree(teacher.folder, tmp_path / "moved")
    again = student(place, keys, tmp_path / "moved")
    assert again.reused
    assert again.folder == record.folder
    another = measured(place / "runs", **{**keys, "method": "dann", "seed": 1})
    other = student(place, keys, another.folder)
    assert other.folder != record.folder
    assert other.hash != record.hash
    assert other.result["hyperparameters"] == result["hyperparameters"]  # two seeds of one row
    assert not same(weights(other), weights(record), atol=1e-4)


def test_a_student_answers_without_its_teacher(place: Path, keys: dict[str, Any], tmp_path: Path) -> None:
    teacher = measured(tmp_path, **{**keys, "method": "mcc"})
    record = student(place, keys, teacher.folder)
    shutil.rmtree(teacher.folder)
    state = checkpoint(record)["method"]
    assert {name.partition(".")[0] for name in state} == {"model", "regressor"}
    assert state["model.bottleneck.0.weight"].shape == (16, 32)
    assert state["regressor.weight"].shape == (128, 16)
    images = dafw.domain.resize(torch.from_numpy(np.load(place / "bright.npz")["test_images"])[:, None], 16, 1)
    answers = dafw.load(record.folder).predict(images).logits.softmax(1)
    np.testing.assert_allclose(answers.numpy(), record.predictions()["probabilities"], atol=1e-5)


def test_what_a_student_draws_is_its_own_seeds(place: Path, keys: dict[str, Any], teacher: Record) -> None:
    """Loading a teacher draws by the teacher's seed."""
    still = {"train.lr": 1e-12, "train.weight_decay": 0.0}
    drawn = [
        checkpoint(student(place, keys, teacher.folder, seed=seed, **still))["method"]["regressor.weight"]
        for seed in (0, 1)
    ]
    assert not torch.allclose(*drawn, atol=1e-3)
    another = measured(place / "runs", **{**keys, "method": "dann", "seed": 1})
    other = checkpoint(student(place, keys, another.folder, seed=0, **still))["method"]["regressor.weight"]
    torch.testing.assert_close(other, drawn[0], rtol=0, atol=1e-6)


def test_what_the_teacher_answers_is_what_is_learnt(
    place: Path, keys: dict[str, Any], teacher: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the run that was named, in eval mode."""
    seen: list[tuple[Any, bool]] = []
    forward = Classifier.forward

    def noted(self: Classifier, inputs: torch.Tensor) -> Any:
        output = forward(self, inputs)
        if self.head.weight.shape[1] == 128 and torch.is_grad_enabled() is False:  # as wide as the teacher's
            seen.append(((inputs, output.logits), self.training))
        return output

    monkeypatch.setattr(Classifier, "forward", noted)
    student(place, keys, teacher.folder, reuse=False)
    monkeypatch.undo()
    loaded = dafw.load(teacher.folder)
    assert len(seen) >= TINY["train.steps"]
    for (inputs, logits), training in seen:
        assert not training
        torch.testing.assert_close(loaded.predict(inputs).logits, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_student_stands_between_its_references_beside_its_teacher(
    place: Path, keys: dict[str, Any], teacher: Record, type_here: Callable[..., Told]
) -> None:
    own = {"method": "distil", "method.teacher": teacher.folder, "backbone.width": 2, "references": True}
    told = type_here(words(out=place / "runs", **{**keys, **own}))
    assert told.code == 0, told
    rows = [line.split() for line in told.out.splitlines()]
    table = rows[next(i for i, row in enumerate(rows) if set("".join(row)) == {"─"}) + 1 :][:7]
    named = [(row[0], row[-6]) for row in table]
    assert named == [
        ("lower", "source_only"),
        *(("cheap", method) for method in ("adabn", "coral", "subspace_alignment")),
        ("method", "distil"),
        ("upper", "joint_supervised"),
        ("teacher", "dann"),
    ]
    record = run_in(told.folder)
    assert float(table[-1][-5]) == pytest.approx(teacher.accuracy, abs=6e-4)
    assert [other["method"] for other in record.result["beside"]] == ["adabn", "coral", "subspace_alignment"]
    lower = run_in(record.result["references"]["lower"]["run"])
    assert lower.result["config"]["backbone"] == record.result["config"]["backbone"]
    assert lower.result["comparable"] == record.result["comparable"]
    assert "teacher dann, seed 0" in told.out
    json.dumps(record.result, allow_nan=False)


def test_several_teachers_of_a_users_own_method(
    place: Path, keys: dict[str, Any], teacher: Record, write: test_registry.Write
) -> None:
    load_plugin(file := write("ensemble.py", ENSEMBLE))
    another = measured(place / "runs", **{**keys, "method": "dann", "seed": 1})
    both = [teacher.folder, another.folder]
    own = {"method": "ensemble", "plugins": [file]}
    records = [
        measured(place / "runs", **{**keys, **own, "method.teachers": paths}) for paths in (both, both[::-1], both)
    ]
    assert records[0].result["depends_on"] == [str(folder) for folder in both]
    assert [record.reused for record in records] == [False, False, True]
    kind = kind_of(teacher)
    assert records[0].result["hyperparameters"] == [f"method.teachers={kind}+{kind}"]
    assert records[0].result["protocol"]["teachers"] == "dann, seed 0; dann, seed 1"


# ---- what makes one useless


USELESS: dict[str, tuple[dict[str, Any], str]] = {
    "no run": ({"method.teacher": "nowhere"}, "method.teacher=nowhere: there is no run; expected the folder of a"),
    "none named": ({"method.teacher": None}, "method.teacher"),
    "temperature": ({"method.temperature": 0}, "method.temperature=0: expected a positive number"),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_wrong_teacher_is_one_line_and_nothing_is_trained(
    name: str, keys: dict[str, Any], teacher: Record, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    change, says = USELESS[name]
    if "backbone" in change:
        keys = {key: value for key, value in keys.items() if not key.startswith("backbone.")}
    own = {"method": "distil", "method.teacher": teacher.folder}
    told = type_here(words(out=tmp_path / "runs", **{**keys, **own, **change}))
    assert told.code == 2
    assert says in the_line(told)
    assert files_of_runs(tmp_path / "runs") == []


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("a", "b", "z"), "its classes are not this pair's (c, z on one side only); expected a run on the same"),
        (("b", "a", "c"), "its classes are not this pair's (the same in another order); expected a run on the same"),
    ],
    ids=["another", "another order"],
)
def test_a_teacher_of_another_label_space_is_told_before_any_run_is_trained(
    classes: tuple[str, ...], says: str, teacher: Record, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    for name, shift in (("one", 0), ("two", 60)):
        made_npz(tmp_path / f"{name}.npz", classes, shift=shift)
    pair = {"src": "npz", "src.path": tmp_path / "one.npz", "tgt": "npz", "tgt.path": tmp_path / "two.npz"}
    own = {"method": "distil", "method.teacher": teacher.folder, "init": "source"}
    told = type_here(words(out=tmp_path / "runs", **{**pair, **own}))
    assert told.code == 2
    assert says in the_line(told)
    assert files_of_runs(tmp_path / "runs") == []  # its init would have been


def test_a_run_to_start_from_must_be_finished_too(
    teacher: Record, keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    shutil.copytree(teacher.folder, tmp_path / "stopped")
    (tmp_path / "stopped" / "result.json").unlink()
    told = type_here(words(out=tmp_path / "runs", **{**keys, "method": "mcc", "init": tmp_path / "stopped"}))
    assert told.code == 2
    assert f"init={tmp_path / 'stopped'}: this run is not finished (still training" in the_line(told)
