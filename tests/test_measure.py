"""dafw in a script or a notebook: `measure`, `load`, and the examples of the docstrings."""

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
import whole
from whole import TINY, command, made_pair

import dafw
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.place import Place
from dafw.registry import DATASETS
from dafw.store import as_typed

surroundings = whole.surroundings  # a fixture


def test_as_in_the_readme(tmp_path: Path) -> None:
    keys = {**TINY, "out": tmp_path, "train.steps": 6}
    record = dafw.measure(method="dann", src="synth", tgt="digits", seed=0, **keys)
    assert record.folder.is_dir()
    assert record.folder.parent == tmp_path / "synth-digits" / "dann"
    assert record.accuracy == record.result["target"]["accuracy"]
    method = dafw.load(record.folder)
    assert isinstance(method, dafw.Method)
    assert not method.training
    test = DATASETS.get("digits")(Place()).test
    answers = method.predict(resize(test.inputs, 16, 1))
    assert answers.features.shape == (719, 128)
    hits = answers.logits.argmax(1) == test.labels
    assert hits.float().mean().item() == pytest.approx(record.accuracy, abs=1e-6)


def test_keys_are_strings_numbers_booleans_and_lists(tmp_path: Path) -> None:
    changes = {"method.temperature": 1.5, "train.lr": 1e-3, "wandb.tags": ["one", "two words"], "image_size": None}
    keys = {**TINY, **made_pair(tmp_path), "references": "false", "reuse": False, "seed": 3, **changes}
    out = tmp_path / "a folder, é & ~; with = signs (and 'quotes')"
    record = dafw.measure(method="mcc", out=str(out), **keys)
    assert dafw.load(record.folder).temperature == 1.5
    saved = torch.load(record.folder / "checkpoint.pt", weights_only=True)["config"]
    assert (saved["seed"], saved["train"]["lr"], saved["reuse"]) == (3, 1e-3, False)
    assert saved["wandb"]["tags"] == ["one", "two words"]
    assert record.folder.parents[2] == out


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (True, "key=true"),
        (None, "key=null"),
        (1e-3, "key=0.001"),
        (Path("/a b"), "key='/a b'"),
        ("it's", r"key='it\'s'"),
        ("a;b", "key='a;b'"),
        ("/data/été", "key='/data/été'"),
        ([1, "a,b"], "key=[1,'a,b']"),
        ("dann/tllib", "key=dann/tllib"),
    ],
)
def test_a_value_is_typed_as_on_the_command_line(value: Any, typed: str) -> None:
    assert as_typed("key", value) == typed


def test_it_prints_nothing_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keys = {**TINY, **made_pair(tmp_path), "method": "source_only", "out": tmp_path / "runs"}
    record = dafw.measure(**keys)
    assert capfd.readouterr() == ("", "")
    assert "step 1/5" in (record.folder / "log.txt").read_text()
    dafw.measure(quiet=False, **keys)
    assert f"found again, not trained: {record.folder}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"method": "dan"}, "did you mean dann"),
        ({"train.step": 3}, r"train\.steps"),
        ({"src": "npz", "train.step": 3}, r"train\.step|src\.path"),
        ({"train.steps": -1}, "expected 1 or more"),
        ({"tgt.labels_per_class": 2, "method": "dann"}, "sees no target labels"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(keys: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says) as error:
        dafw.measure(**{**TINY, "out": tmp_path, **keys})
    assert "\n" not in str(error.value)


def test_many_runs_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    keys = {**TINY, **made_pair(tmp_path), "out": tmp_path / "runs"}
    first = dafw.measure(method="dann", **keys).accuracy
    with pytest.raises(UsageError):
        dafw.measure(method="dan", **keys)
    dafw.measure(method="shot", seed=1, **keys)
    assert dafw.measure(method="dann", reuse=False, **keys).accuracy == first


@pytest.mark.slow
def test_importing_dafw_is_quick_and_brings_nothing_slow(tmp_path: Path) -> None:
    slow = ("torchvision", "timm", "sklearn", "matplotlib", "wandb", "scipy", "PIL")
    (tmp_path / "show.py").write_text(
        f"import sys, dafw\nassert dafw.measure\nprint([m for m in {slow} if m in sys.modules])"
    )
    told = command("show", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert told.code == 0, told
    assert told.out.strip() in ("[]", "['scipy']")


MODULES = [m.name for m in pkgutil.walk_packages(dafw.__path__, "dafw.")]


def examples_of(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith(".run")])
def test_the_examples_of_a_docstring_are_true(name: str) -> None:
    for example in examples_of(name):
        told: list[str] = []
        doctest.DocTestRunner().run(example, out=told.append)
        assert not told, "".join(told)


def test_there_are_examples() -> None:
    assert {"dafw.classes", "dafw.experiment", "dafw.assembly"} <= {
        m for m in MODULES if m != "dafw.run" and examples_of(m)
    }


def test_the_public_names_are_there_and_documented() -> None:
    public = {"Method", "Setting", "measure", "load", "register_method", "register_dataset", "register_backbone"}
    assert set(dafw.__all__) == public | {"register_validator", "__version__"}
    for name in set(dafw.__all__) - {"__version__"}:
        assert getattr(dafw, name).__doc__
    assert set(dafw.__all__) == set(dir(dafw))
    with pytest.raises(AttributeError, match="has no attribute 'mesure'"):
        dafw.mesure  # noqa: B018 (asking is what is tested)
