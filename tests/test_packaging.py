"""What the wheel holds, and that it works from any folder; recipes compose wherever they lie."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import whole
import yaml
from whole import CHECKOUT, surroundings_of_another

from dafw.config import resolve
from dafw.store import compose, experiments_folder

surroundings = whole.surroundings  # a fixture

RECIPES = sorted((experiments_folder() / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_ours_can_be_composed(file: Path) -> None:
    config = resolve(compose([f"+experiment={file.stem}"]))
    recipe = yaml.safe_load(file.read_text())
    for entry in recipe.get("defaults", []):
        for key, name in entry.items():
            assert getattr(config, key.removeprefix("override /"))["name"] == name
    for key, value in recipe.get("train", {}).items():
        assert getattr(config.train, key) == value
    if "image_size" in recipe:
        assert config.image_size == recipe["image_size"]
    assert compose([f"+experiment={file.stem}", "train.steps=7"]).train.steps == 7  # what is typed goes first
    head = file.read_text().split("defaults:")[0]
    assert f"python -m dafw.run +experiment={file.stem}" in head
    assert re.search("expected|published", head.lower())


def test_the_recipes_that_are_promised_are_there() -> None:
    assert {"mnist-usps", "cifar10-stl10"} <= {file.stem for file in RECIPES}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (CHECKOUT / "pyproject.toml").is_file():
        pytest.skip("the wheel is built from a checkout")
    if importlib.util.find_spec("build") is None or importlib.util.find_spec("hatchling") is None:
        pytest.skip("building needs the packages build and hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dafw"}  # dafw/ and dafw-<version>.dist-info/
    assert len(names) == len(set(names))
    assert "dafw/py.typed" in names
    for kind in ("recipes", "studies", "sweeps"):
        ours = {f"dafw/experiments/{kind}/{file.name}" for file in (CHECKOUT / "experiments" / kind).glob("*.yaml")}
        assert ours
        assert ours <= set(names)
    sources = {file.relative_to(CHECKOUT).as_posix() for file in (CHECKOUT / "dafw").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert not [name for name in names if "test" in name or "__pycache__" in name]
    assert any(name.endswith(("licenses/LICENSE", "dist-info/LICENSE")) for name in names)


PROGRAM = """
import json, sys
import dafw
from dafw.store import compose, experiments_folder
config = compose(["+experiment=mnist-usps"])
print(json.dumps([dafw.__file__, str(experiments_folder()), config.src["name"], config.tgt["name"]]))
"""


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    place = surroundings_of_another(tmp_path)
    place["env"]["PYTHONPATH"] = str(site)

    def told(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False, **place
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    package, experiments, src, tgt = json.loads(told("-c", PROGRAM))
    assert Path(package).parent == site / "dafw"
    assert Path(experiments) == site / "dafw" / "experiments"
    assert (src, tgt) == ("mnist", "usps")
    tiny = whole.words(out="runs", method="source_only", **{"train.steps": 2})
    last = told("-m", "dafw.run", *tiny).splitlines()[-1]
    assert last.startswith("run: runs/synth-digits/source_only/")
    assert (tmp_path / last.removeprefix("run: ") / "result.json").is_file()
