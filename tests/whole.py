"""What the tests of whole runs share: tiny words, the command line in this process or another one, made data."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

import dafw
import dafw.registry
from dafw.cli import main
from dafw.config import Config, config_of
from dafw.method import Method
from dafw.record import Record, read
from dafw.registry import METHODS, load_plugin, options, source_file
from dafw.store import as_typed

# a run of a moment: nothing drawn, nothing tracked, no reference, evaluated at its end alone
TINY: dict[str, Any] = {
    "train.steps": 5,
    "train.batch_size": 16,
    "eval.every": 1000,
    "plots": False,
    "references": False,
    "wandb.mode": "disabled",
}
CHECKOUT = Path(__file__).parents[1]


class Told(NamedTuple):
    """What a command leaves: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run folder, which the last line names."""
        key, _, folder = self.out.splitlines()[-1].partition(" ")
        assert key == "run:", self
        return Path(folder)


def words(**keys: Any) -> list[str]:
    """A tiny run as it is typed; `keys` come last and so win."""
    return [as_typed(key, value) for key, value in {**TINY, **keys}.items()]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One data cache for the whole session, one thread, and registries that forget what a test adds to them."""
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path_factory.getbasetemp() / "data-cache"))
    monkeypatch.delenv("DAFW_DATA", raising=False)
    for name in ("HYDRA_FULL_ERROR", "DAFW_SWEEP"):  # the command line sets them
        monkeypatch.setenv(name, os.environ.get(name, ""))
    for kind in (METHODS, dafw.registry.DATASETS, dafw.registry.BACKBONES, dafw.registry.VALIDATORS):
        kind.load()
        monkeypatch.setattr(kind, "_plugins", dict(kind._plugins))
    monkeypatch.setattr(dafw.registry, "PLUGIN_FILES", dict(dafw.registry.PLUGIN_FILES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def type_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`python -m dafw.run WORDS` in this process."""

    def typed(given: Sequence[str]) -> Told:
        monkeypatch.setattr(sys, "argv", ["dafw.run"])
        capsys.readouterr()
        try:
            code = main(list(given))
        except SystemExit as end:
            code = int(end.code or 0)
        return Told(code, *capsys.readouterr())

    return typed


def surroundings_of_another(cwd: Path, **changes: str) -> dict[str, Any]:
    """The folder and environment of another process that finds the same dafw and the same data cache."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_", "DAFW_SWEEP"))}
    root = str(Path(dafw.__file__).parents[1])
    path = os.pathsep.join([changes.pop("PYTHONPATH", ""), root]).strip(os.pathsep)
    return {"cwd": cwd, "env": {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **changes}}


def command(module: str, *given: str, cwd: Path, **environment: str) -> Told:
    """`python -m MODULE WORDS` in another process."""
    done = subprocess.run(
        [sys.executable, "-m", module, *given],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **surroundings_of_another(cwd, **environment),
    )
    return Told(done.returncode, done.stdout, done.stderr)


def made_npz(
    path: Path,
    classes: Sequence[str] = ("a", "b", "c"),
    *,
    train: int = 60,
    test: int = 30,
    size: int = 8,
    colour: bool = False,
    shift: int = 0,
    without: Sequence[int] = (),
) -> Path:
    """Images whose class is the place of a bright square; `without` leaves classes out of the training part."""
    arrays: dict[str, Any] = {"classes": np.array(classes)}
    random = np.random.default_rng(shift)
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % len(classes)
        if part == "train":
            labels = labels[~np.isin(labels, without)]
        images = random.integers(shift, shift + 60, (len(labels), size, size))
        side = size // len(classes)
        for row, label in enumerate(labels):
            images[row, label * side : (label + 1) * side, label * side : (label + 1) * side] += 120
        images = images.astype(np.uint8)
        arrays[f"{part}_images"] = np.repeat(images[..., None], 3, axis=3) if colour else images
        arrays[f"{part}_labels"] = labels
    np.savez(path, **arrays)
    return path


def made_pair(folder: Path, **shape: Any) -> dict[str, Any]:
    """The keys of a pair of made domains, the target brighter than the source."""
    source = made_npz(folder / "dark.npz", **shape)
    target = made_npz(folder / "bright.npz", shift=60, **shape)
    return {"src": "npz", "src.path": source, "tgt": "npz", "tgt.path": target}


def run_in(folder: Path | str) -> Record:
    """The finished run in a folder."""
    record = read(Path(folder))
    assert record is not None, f"no result.json in {folder}"
    return record


def files_of_runs(out: Path) -> list[str]:
    """Every file under a folder of runs but the locks."""
    return sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file() and ".locks" not in f.parts)


# ---- runs and what they hold


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

    def found(method: str) -> Record:
        if method not in records:
            required = [option.name for option in options(METHODS.get(method)) if option.required]
            teachers = {f"method.{name}": found("dann").folder for name in required}
            records[method] = dafw.measure(method=method, src="synth", tgt="digits", out=out, **TINY, **teachers)
        return records[method]

    return found


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


@pytest.fixture
def mutated(tmp_path: Path) -> Callable[..., type[Method]]:
    """A registered method whose source reads otherwise, under a name of its own."""

    def made(method: str, changes: tuple[tuple[str, str], ...]) -> type[Method]:
        text = source_file(METHODS.get(method)).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {method}"
            text = text.replace(old, new)
        file = tmp_path / f"{method}_mutant.py"
        file.write_text(text)
        load_plugin(file)
        return METHODS.get(file.stem)  # type: ignore[no-any-return]

    return made
