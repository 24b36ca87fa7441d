"""Methods and data sets of one's own: from a file, and from an installed package."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import whole
from whole import Told, command, made_pair, run_in, words

import dafw

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures

METHOD = '''
from enum import Enum
from pathlib import Path

import torch.nn.functional as F

from dafw import Method, Setting, register_method


class Reduction(Enum):
    MEAN = "mean"
    SUM = "sum"


@register_method
class Mine(Method):
    """Cross-entropy of the source, its factor my own (Nobody 2020)."""

    setting = Setting.SOURCE_ONLY

    def __init__(
        self,
        model,
        *,
        factor: float = 2.0,
        reduction: Reduction = Reduction.MEAN,
        layers: list[int] = [1, 2],
        file: Path | None = None,
    ):
        super().__init__(model)
        assert isinstance(reduction, Reduction)
        assert file is None or isinstance(file, Path)
        self.factor, self.reduction = factor, reduction
        self.notes = [f"layers {layers}, file {file}"]

    def losses(self, batch, progress):
        logits = self.model(batch.source.inputs).logits
        loss = F.cross_entropy(logits, batch.source.labels, reduction=self.reduction.value)
        return {"classification": self.factor * loss}
'''

DATASET = """
import torch

from dafw import register_dataset
from dafw.domain import Domain, Table


@register_dataset("stripes")
def _(place, *, width: int = 4):
    labels = torch.arange(40) % 2
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    images[labels == 0, :, :width] = 200
    images[labels == 1, :, :, :width] = 200
    return Domain("stripes", ("across", "down"), Table(images, labels), Table(images[:20], labels[:20]))
"""


@pytest.fixture
def my_method(tmp_path: Path) -> Path:
    file = tmp_path / "my_method.py"
    file.write_text(METHOD)
    return file


def test_a_method_in_a_file_of_ones_own(my_method: Path, tmp_path: Path, type_here: Callable[..., Told]) -> None:
    typed = ["method=my_method", "method.factor=0.5", "method.reduction=SUM"]
    typed += ["method.layers=[3]", "method.file=x.txt"]
    told = type_here([*words(**made_pair(tmp_path), out=tmp_path / "runs"), *typed, f"plugins=[{my_method}]"])
    assert told.code == 0, told
    record = run_in(told.folder)
    assert record.folder.parent == tmp_path / "runs" / "dark-bright" / "my_method"
    assert record.result["setting"] == "source_only"
    assert record.result["remarks"] == ["layers [3], file x.txt"]
    loaded: Any = dafw.load(told.folder)
    assert (loaded.factor, loaded.reduction.name) == (0.5, "SUM")


def test_its_text_is_part_of_what_a_run_depends_on(my_method: Path, tmp_path: Path) -> None:
    keys = {**whole.TINY, **made_pair(tmp_path), "out": tmp_path / "runs", "method": "my_method"}
    first = dafw.measure(plugins=[my_method], **keys)
    assert dafw.measure(plugins=[my_method], **keys).folder == first.folder
    my_method.write_text(METHOD.replace("self.factor * loss", "3 * self.factor * loss"))
    second = dafw.measure(plugins=[my_method], **keys)
    assert not second.reused
    assert second.hash != first.hash


@pytest.mark.slow
@pytest.mark.usefixtures("my_method")
def test_from_the_folder_it_lies_in(tmp_path: Path) -> None:
    typed = words(out="runs", **{"train.steps": 2})
    told = command("dafw.run", "plugins=[my_method.py]", "method=my_method", *typed, cwd=tmp_path)
    assert told.code == 0, told
    result = json.loads((tmp_path / told.folder / "result.json").read_text())
    assert (result["method"], result["status"]) == ("my_method", "done")


def test_a_data_set_in_a_file_of_ones_own(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    (tmp_path / "shapes.py").write_text(DATASET)
    keys = {"method": "source_only", "src": "stripes", "tgt": "stripes", "tgt.width": 2, "out": tmp_path / "runs"}
    keys["train.batch_size"] = 8
    told = type_here(words(plugins=[tmp_path / "shapes.py"], **keys))
    assert told.code == 0, told
    record = run_in(told.folder)
    assert (record.result["src"], record.result["classes"]) == ("stripes", ["across", "down"])
    assert record.result["target"]["examples"] == 20


# ---- an installed package

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."dafw.methods"]
{point}

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""


def installed(folder: Path, name: str, point: str, text: str) -> Path:
    """A folder for PYTHONPATH in which pip has installed a package with one module and one entry point."""
    for needed in ("pip", "hatchling"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"a package is built and installed here, which needs {needed}")
    project, target = folder / name, folder / f"{name}-installed"
    project.mkdir()
    module = name.replace("-", "_")
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, point=point, module=module))
    (project / f"{module}.py").write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, project], check=True, timeout=120, capture_output=True, text=True)
    return target


@pytest.mark.slow
def test_a_method_of_an_installed_package(tmp_path: Path) -> None:
    target = installed(
        tmp_path, "strange-methods", 'strange = "strange_methods:Mine"', METHOD.replace("@register_method\n", "")
    )
    place = {"cwd": tmp_path, "PYTHONPATH": str(target)}
    told = command("dafw.run", "method=strange", "method.factor=3", *words(out="runs", **{"train.steps": 2}), **place)
    assert told.code == 0, told
    result = json.loads((tmp_path / told.folder / "result.json").read_text())
    assert (result["method"], result["status"]) == ("strange", "done")
    listed = command("dafw.list", "methods", **place)
    assert "factor: float = 2.0" in listed.out
    assert "Nobody 2020" in listed.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "text", "says"),
    [
        ('broken = "broken_methods"', "import no_such_module\n", "No module named 'no_such_module'"),
        ('broken = "broken_methods"', "x = 1\n", "registers no method"),
        ('dann = "broken_methods:Mine"', METHOD.replace("@register_method\n", ""), "'dann' is taken by"),
    ],
    ids=["fails to import", "registers nothing", "taken name"],
)
def test_a_broken_package_is_named_in_one_line(point: str, text: str, says: str, tmp_path: Path) -> None:
    target = installed(tmp_path, "broken-methods", point, text)
    told = command("dafw.run", *words(out="runs"), cwd=tmp_path, PYTHONPATH=str(target))
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith("error: ")
    assert "broken_methods" in line
    assert says in line
    assert not (tmp_path / "runs").exists()
