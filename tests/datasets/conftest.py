"""A data cache of each test's own, and made archives in the published formats."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data sets' folder of the data cache, empty."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DAFW_CACHE", str(cache))
    return cache / "datasets"


@pytest.fixture(scope="session")
def make_archives() -> ModuleType:
    """scripts/make_archives.py of the checkout."""
    path = Path(__file__).parents[2] / "scripts" / "make_archives.py"
    if not path.is_file():
        pytest.skip(f"no {path}: these tests need the checkout")
    spec = importlib.util.spec_from_file_location("make_archives", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made(make_archives: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small made archives of CIFAR-10 and STL-10; copy what a test unpacks."""
    folder = tmp_path_factory.mktemp("made")
    make_archives.make(folder, small=True)
    return folder


@pytest.fixture
def write_image():
    """Write one picture of a size (width, height) in one colour."""

    def write(path: Path, colour=(10, 20, 30), size=(12, 12), mode="RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "RGB":
            pixels = np.broadcast_to(np.array(colour, dtype=np.uint8), (size[1], size[0], 3))
            Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        else:
            Image.new(mode, size, colour).save(path)
        return path

    return write
