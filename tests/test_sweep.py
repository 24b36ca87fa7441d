"""Several runs by one command: `-m seed=0,1 method=a,b`."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import whole
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from whole import Told, command, made_pair, words

from dafw.record import read
from dafw.registry import VALIDATORS
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


def agent_words(sweep: dict[str, Any], number: int) -> list[str]:
    """What W&B's agent types after `python -m dafw.run` for the `number`-th values, in the formats it writes them."""
    chosen = {}
    for key, given in sweep["parameters"].items():
        values = given.get("values") or [given["min"], (given["min"] + given["max"]) / 2, given["max"]]
        chosen[key] = {"value": values[number % len(values)]}
    written = create_sweep_command_args({"args": chosen})
    command_line = create_sweep_command(list(sweep["command"]))
    assert command_line[:4] == ["${env}", "python", "-m", "${program}"]
    assert command_line[-1] == "${args_no_hyphens}"
    return [*command_line[4:-1], *written["args_no_hyphens"]]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_command_of_a_sweep_of_weights_and_biases_runs(
    file: Path, tmp_path: Path, type_here: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    sweep = yaml.safe_load(file.read_text())
    assert sweep["program"] == "dafw.run"
    values = max(len(given.get("values", [0, 1, 2])) for given in sweep["parameters"].values())
    name, goal = sweep["metric"]["name"], sweep["metric"]["goal"]
    validator = VALIDATORS.get(name.removeprefix("validator/"))
    assert name.startswith("validator/")  # never a target accuracy
    assert goal == ("maximize" if validator.higher_is_better else "minimize")
    for number in range(values):  # every value once
        typed = [word for word in agent_words(sweep, number) if not word.startswith(("eval.every", "wandb.mode"))]
        small = words(out=tmp_path / "runs", **{"train.steps": 3, "image_size": 16, "references": "false"})
        told = type_here([*typed, *small])
        assert told.code == 0, told
        record = read(Path(told.out.splitlines()[-1].removeprefix("run: ")))
        assert record is not None
        assert name in record.metrics()[-1]
        for word in agent_words(sweep, number)[-len(sweep["parameters"]) :]:
            key, value = word.split("=")
            group, _, leaf = key.partition(".")
            held = record.result["config"][group]
            held = held["name" if isinstance(held, dict) and not leaf else leaf] if isinstance(held, dict) else held
            assert str(held) == value


def test_sweeps_search_by_grid_at_random_and_by_bayes_with_an_early_end() -> None:
    sweeps = [yaml.safe_load(file.read_text()) for file in SWEEPS]
    assert {sweep["method"] for sweep in sweeps} == {"grid", "random", "bayes"}
    assert any("early_terminate" in sweep for sweep in sweeps)
    assert {"method", "seed"} in [set(sweep["parameters"]) for sweep in sweeps]


@pytest.mark.parametrize("value", [None, "None"])
def test_a_none_that_an_agent_writes_is_refused_with_a_hint(value: Any, type_here: Callable[..., Told]) -> None:
    (word,) = create_sweep_command_args({"args": {"image_size": {"value": value}}})["args_no_hyphens"]
    told = type_here([word])
    assert told.code == 2
    assert told.err == "error: image_size=None: None is not a value here; expected null, as in image_size=null\n"


@pytest.mark.parametrize(("value", "held"), [(True, True), (1e-05, 1e-05), (0.1, 0.1), (3, 3.0)])
def test_booleans_and_floats_are_read_as_an_agent_writes_them(value: Any, held: Any) -> None:
    key = "plots" if isinstance(value, bool) else "train.lr"
    config = compose(create_sweep_command_args({"args": {key: {"value": value}}})["args_no_hyphens"])
    assert (config.plots if key == "plots" else config.train.lr) == held
