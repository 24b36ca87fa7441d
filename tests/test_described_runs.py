"""What result.json says of whole tiny runs: command, hyper-parameters, what must be equal to compare, the bound."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from test_bad_input import METHOD
from whole import TINY, Told, files_of_runs, made_npz, made_pair, measured, run_in, same, weights

import dafw
from dafw.record import Record

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two made domains and the runs on them, shared by the tests."""
    folder = tmp_path_factory.mktemp("described")
    made_pair(folder, train=90)
    return folder


@pytest.fixture
def keys(place: Path) -> dict[str, Any]:
    pair = {"src": "npz", "src.path": place / "dark.npz", "tgt": "npz", "tgt.path": place / "bright.npz"}
    return {**pair, "method": "dann", "out": place / "runs", "train.steps": 3, "train.batch_size": 8}


def tiny(keys: dict[str, Any], **more: Any) -> Record:
    return dafw.measure(**{**TINY, **keys, **more})


def references(record: Record) -> dict[str, Record]:
    """Every run that it was judged by or shown beside, by its method."""
    ends = [end for end in record.result["references"].values() if end is not None]
    return {end["method"]: run_in(end["run"]) for end in [*ends, *record.result["beside"]]}


# ---- what must be equal


def difference(first: Record, second: Record) -> set[str]:
    """Which of the things that must be equal are not; the hash says the same."""
    one, other = first.result["comparable"], second.result["comparable"]
    assert one.keys() == other.keys()
    differ = {key for key in one if one[key] != other[key]}
    assert (first.result["comparable_hash"] == second.result["comparable_hash"]) is (not differ)
    return differ


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({"seed": 1, "method": "mcc", "method.weight": 0.5, "train.lr": 0.1, "train.optimizer": "adamw"}, set()),
        ({"method": "tent"}, set()),  # what its recipe changes is its own
        ({"tgt.corruption": "contrast"}, {"pair"}),
        ({"method": "finetune", "tgt.labels_per_class": 3}, {"labels per class", "init"}),
        ({"image_size": 20, "select": "im", "backbone.width": 8}, {"image size", "evaluation", "backbone"}),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_must_be_equal_between_runs_that_are_compared(
    change: dict[str, Any], differ: set[str], keys: dict[str, Any]
) -> None:
    assert difference(tiny(keys), tiny(keys, **change)) == differ


def test_a_recipe_of_the_methods_own_makes_no_other_budget(keys: dict[str, Any]) -> None:
    """tent is published with batches of 200, the others are given 64."""
    untyped = {"train.batch_size": None}
    plain, stream = (tiny(keys, **untyped, method=method) for method in ("source_only", "tent"))
    assert difference(plain, stream) == set()
    assert plain.result["comparable"]["budget"] == "3 steps of 64, fp32"
    assert stream.result["config"]["train"]["batch_size"] == 200


def test_other_images_under_the_same_names_are_another_pair(keys: dict[str, Any], tmp_path: Path) -> None:
    plain = tiny(keys)
    made_npz(tmp_path / "bright.npz", shift=61, train=90)
    other = tiny(keys, **{"tgt.path": tmp_path / "bright.npz"})
    assert difference(plain, other) == {"data"}
    identity = other.result["identity"]
    assert identity["data"]["src"] == plain.result["identity"]["data"]["src"]
    assert identity["data"]["tgt"] != plain.result["identity"]["data"]["tgt"]
    assert identity["torch"] == torch.__version__


def test_the_references_of_a_run_may_be_compared_with_it(keys: dict[str, Any]) -> None:
    record = tiny(keys, references=True)
    found = references(record)
    assert set(found) == {"source_only", "adabn", "coral", "subspace_alignment", "joint_supervised"}
    assert {method: difference(record, other) for method, other in found.items()} == {method: set() for method in found}


# ---- hyper-parameters


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ({}, []),
        ({"method.weight": 1.0, "train.schedule": "cosine"}, []),  # what they are anyway
        ({"method.weight": 0.5, "method.hidden": 32, "train.lr": 0.125}, None),
        ({"seed": 1, "image_size": 20, "backbone.width": 8, "train.steps": 2, "train.batch_size": 9}, []),
        ({"method": "shot", "method.threshold": 1}, ["method.threshold=1"]),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_the_hyper_parameters_are_those_that_are_not_as_usual(
    change: dict[str, Any], own: list[str] | None, keys: dict[str, Any]
) -> None:
    own = ["method.weight=0.5", "method.hidden=32", "train.lr=0.125"] if own is None else own
    assert tiny(keys, **change).result["hyperparameters"] == own


def test_a_reference_has_no_hyper_parameters_though_it_is_given_a_training(keys: dict[str, Any]) -> None:
    usual = tiny(keys, references=True, **{"method.weight": 0.5})
    assert usual.result["hyperparameters"] == ["method.weight=0.5"]
    assert {m: r.result["hyperparameters"] for m, r in references(usual).items()} == {m: [] for m in references(usual)}


def test_a_reference_has_the_rate_that_was_typed(keys: dict[str, Any]) -> None:
    typed = tiny(keys, references=True, **{"train.lr": 0.2})
    assert {m: r.result["hyperparameters"] for m, r in references(typed).items()} == {
        m: ["train.lr=0.2"] for m in references(typed)
    }


# ---- the command


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"select": "entropy", "seed": 3, "method.weight": 0.25},
        {"method": "shot", "method.pseudo_label_weight": 0.1, "backbone.width": 8},
        {"method": "finetune", "tgt.labels_per_class": 2, "init": "random"},
        {"tgt.corruption": "contrast", "tgt.severity": 2, "wandb.tags": ["a b", "it's", "c,d"]},
    ],
    ids=lambda change: " ".join(f"{k}={v}" for k, v in change.items()),
)
def test_the_command_repeats_the_run(
    change: dict[str, Any], keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    out = tmp_path / "a folder, (it's) mine"
    record = tiny(keys, **{**change, "out": out})
    before = files_of_runs(out)
    python, flag, module, *again = shlex.split(record.result["command"])
    assert (python, flag, module) == ("python", "-m", "dafw.run")
    told = type_here(again)
    assert told.code == 0, told
    assert told.folder == record.folder
    assert "found again, not trained" in told.out
    assert files_of_runs(out) == before


def test_the_command_trains_it_again_to_the_bit(keys: dict[str, Any], type_here: Callable[..., Told]) -> None:
    record = tiny(keys)
    anew = type_here([*shlex.split(record.result["command"])[3:], "reuse=false"])
    assert anew.folder != record.folder
    assert run_in(anew.folder).hash == record.hash
    assert same(weights(run_in(anew.folder)), weights(record))


def test_the_command_of_a_reference_repeats_it(keys: dict[str, Any], type_here: Callable[..., Told]) -> None:
    found = references(tiny(keys, references=True))
    for method in ("source_only", "joint_supervised", "coral"):
        told = type_here(shlex.split(found[method].result["command"])[3:])
        assert (told.code, told.folder) == (0, found[method].folder)


RATED = METHOD.replace(
    "    setting = Setting.SOURCE_ONLY\n",
    """    setting = Setting.SOURCE_ONLY
    variants = {"strong": {"rate": 2.0}}

    def __init__(self, model, *, rate: float = 1.0):
        super().__init__(model)
        self.rate = rate
""",
).replace('": loss}', '": self.rate * loss}')


def test_the_command_of_a_plug_in_and_a_variant_repeats_the_run(
    keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    (tmp_path / "rated.py").write_text(RATED)
    record = tiny(keys, method="rated/strong", plugins=[tmp_path / "rated.py"], out=tmp_path / "runs")
    assert record.result["hyperparameters"] == ["method.rate=2.0"]
    told = type_here(shlex.split(record.result["command"])[3:])
    assert told.code == 0, told
    assert told.folder == record.folder


# ---- the bound


def test_the_bound_is_what_its_parts_say_at_the_chosen_step(tmp_path: Path) -> None:
    made_npz(tmp_path / "dark.npz", train=1200)
    made_npz(tmp_path / "dim.npz", train=1200, shift=3)
    pair = {"src": "npz", "src.path": tmp_path / "dark.npz", "tgt": "npz", "tgt.path": tmp_path / "dim.npz"}
    record = measured(tmp_path, **pair, method="source_only", **{"train.steps": 60})
    bound = record.result["bound"]
    assert set(bound) == {"accuracy", "source_accuracy", "discrepancy", "epsilon", "delta"}
    assert bound["source_accuracy"] == record.result["validators"]["source_accuracy"] > 0.9
    assert bound["epsilon"] == pytest.approx(np.sqrt(5 * 120 * np.log(100) / (2 * 120 * 120)))
    assert 0 <= bound["discrepancy"] <= 1
    assert bound["accuracy"] == bound["source_accuracy"] - bound["discrepancy"] - bound["epsilon"] > 0
    assert bound["accuracy"] <= record.accuracy


def test_a_bound_is_never_below_nothing(keys: dict[str, Any]) -> None:
    bound = tiny(keys).result["bound"]
    assert bound["source_accuracy"] - bound["discrepancy"] - bound["epsilon"] < 0
    assert bound["accuracy"] == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"tgt.validation": 0},
        {"src.validation": 0},
        {"tgt.transductive": True},
        {"method": "finetune"},
        {"method": "tent"},
    ],
    ids=lambda change: " ".join(f"{k}={v}" for k, v in change.items()),
)
def test_there_is_no_bound_without_both_validation_splits(change: dict[str, Any], keys: dict[str, Any]) -> None:
    result = json.loads((tiny(keys, **change).folder / "result.json").read_text())
    assert result["bound"] is None
