"""Several runs by one command: `-m seed=0,1 method=a,b`."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import whole
import yaml
from whole import Told, command, made_pair, words

from dafw.store import compose, experiments_folder

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures


def runs_in(out: Path) -> dict[tuple[str, int], str]:
    """Method and seed of every run, and how it ended."""
    results = [json.loads(path.read_text()) for path in out.glob("*/*/*/result.json")]
    found = {(result["method"], result["seed"]): result["status"] for result in results}
    assert len(found) == len(results)
    return found


@pytest.mark.slow
def test_a_sweep_runs_every_combination(tmp_path: Path) -> None:
    tiny = words(out="runs", **{"train.steps": 3})
    told = command("dafw.run", "-m", "seed=0,1", "method=source_only,dann", *tiny, cwd=tmp_path)
    assert told.code == 0, told
    expected = dict.fromkeys(product(("source_only", "dann"), (0, 1)), "done")
    assert runs_in(tmp_path / "runs") == expected
    assert sum(line.startswith("run: ") for line in told.out.splitlines()) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # Hydra leaves no folder of its own beside it


def test_a_job_that_cannot_be_done_does_not_stop_the_others(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    keys = {**made_pair(tmp_path), "method": "source_only", "out": tmp_path / "runs"}
    told = type_here(["-m", *words(**keys), "train.batch_size=4,500,8"])
    assert told.code == 2
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("error: train.batch_size=500: there are 54 source training examples")
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/*/result.json")]
    assert sorted(result["examples_seen"] for result in results) == [5 * 4, 5 * 8]


def test_a_job_that_fails_decides_the_exit_code(tmp_path: Path, type_here: Callable[..., Told]) -> None:
    keys = {**made_pair(tmp_path), "out": tmp_path / "runs", "method": "mcc"}
    told = type_here(["-m", *words(**keys), "method.temperature=0,2.5"])  # 0 divides by 0
    assert told.code == 1
    assert told.err.startswith("error: the loss 'class_confusion' became nan at step 0")
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/*/result.json")]
    assert sorted(result["status"] for result in results) == ["done", "failed"]


@pytest.mark.parametrize("key", ["method.weight=0.5", "method.weight=0.5,1", "train.step=3"])
def test_a_key_that_one_of_the_methods_lacks_fails_the_sweep_before_it_starts(
    key: str, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    told = type_here(["-m", *words(**made_pair(tmp_path), out=tmp_path / "runs"), "method=dann,source_only", key])
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith(f"error: unknown key {key.split('=')[0]}; ")
    assert "Traceback" not in told.out
    assert runs_in(tmp_path / "runs") == {}
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))


def test_a_name_that_one_job_gets_wrong_fails_the_sweep_before_it_starts(
    tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    told = type_here(["-m", *words(**made_pair(tmp_path), out=tmp_path / "runs"), "method=source_only,dan"])
    assert told.code == 2
    assert told.err == "error: unknown method 'dan'; did you mean dann or adabn?\n"
    assert runs_in(tmp_path / "runs") == {}
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))


@pytest.mark.parametrize("place", [1, 3, 99])
def test_the_flag_may_stand_anywhere(place: int, tmp_path: Path, type_here: Callable[..., Told]) -> None:
    typed = words(**made_pair(tmp_path), out=tmp_path / "runs", method="source_only", **{"train.steps": 2})
    typed += ["seed=0,1"]
    told = type_here([*typed[:place], "-m", *typed[place:]])
    assert told.code == 0, told
    assert runs_in(tmp_path / "runs") == {("source_only", 0): "done", ("source_only", 1): "done"}


SWEEPS = sorted((experiments_folder() / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_of_weights_and_biases_expands_to_words_that_can_be_typed(file: Path) -> None:
    """As its agent writes them: the command, where every parameter stands as key=value."""
    sweep = yaml.safe_load(file.read_text())
    assert sweep["program"] == "dafw.run"
    command_line = sweep["command"]
    assert command_line[:4] == ["${env}", "python", "-m", "${program}"]
    assert command_line[-1] == "${args_no_hyphens}"
    choices = [
        [f"{key}={value}" for value in given.get("values", [given.get("min"), given.get("max")])]
        for key, given in sweep["parameters"].items()
    ]
    for number in range(max(map(len, choices))):  # every value once
        typed = [values[number % len(values)] for values in choices]
        config = compose([*command_line[4:-1], *typed])
        chosen = dict(word.split("=") for word in typed)
        assert config.method["name"] == chosen.get("method", "dann")
        assert str(config.seed) == chosen.get("seed", "0")
        for key, value in chosen.items():
            if key == "method.weight":
                assert config.method["weight"] == float(value)
    assert "target" not in sweep["metric"]["name"]  # test data chooses nothing


def test_there_is_a_sweep_over_methods_and_one_over_the_weight_of_dann() -> None:
    parameters = [set(yaml.safe_load(file.read_text())["parameters"]) for file in SWEEPS]
    assert {"method", "seed"} in parameters
    assert {"method.weight", "train.lr"} in parameters
