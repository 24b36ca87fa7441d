"""Weights & Biases against servers that hang, refuse, die or are not there, and what its files hold."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tracked import KEY, RESULT, Server, closed_port, start, told

from dafw import tracking
from dafw.registry import METHODS
from dafw.store import compose, experiments_folder
from dafw.tracking import Tracker


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings or keys of whoever runs the tests, no real server, and no wandb process left behind."""
    for name in [n for n in os.environ if n.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    tracking.load().teardown()  # a test of another file may have left its settings
    yield
    tracking.load().teardown()


def test_offline_run_holds_all_that_it_was_told(tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "curves.png"
    Image.new("RGB", (4, 4)).save(picture)
    warnings: list[str] = []
    tracker = Tracker(warnings.append)
    start(tracker, tmp_path / "run", "offline")
    tracker.log(5, {"loss/classification": 0.25, "lr": 0.1})
    tracker.log(10, {"loss/classification": 0.125, "lr": 0.05})
    tracker.log(10, {"source/validation_accuracy": 0.75})
    tracker.finish(RESULT, [picture])
    said = told(tmp_path / "run")
    assert warnings == []
    assert {k: v for k, v in said["config"].items() if not k.startswith("_")} == {
        "method": "dann",
        "method.weight": 0.5,
        "train.lr": 0.1,
        "train.steps": None,
    }
    assert (said["run"].project, said["run"].run_group, said["run"].display_name) == ("p", "synth-digits/dann", "n")
    assert list(said["run"].tags) == ["a"]
    assert said["history"][5]["loss/classification"] == 0.25
    assert said["history"][10]["lr"] == 0.05
    assert said["history"][10]["source/validation_accuracy"] == 0.75
    final = {
        "target/accuracy": 0.8,
        "target/macro_f1": 0.7,
        "target/per_class_accuracy": 0.6,
        "source/accuracy": 0.9,
        "reference/lower": 0.5,
        "verdict": "better",
        "versus_lower/difference": 0.3,
        "versus_lower/p": 0.01,
        "seconds": 1.5,
        "total_seconds": 2.5,
    }
    assert {k: said["summary"].get(k) for k in final} == final
    assert not {"reference/upper", "recovered_gap"} & set(said["summary"])
    assert said["history"][10]["plots/curves/_type"] == "image-file"
    assert said["exit"] == 0
    assert {file.relative_to(tmp_path / "run").parts[0] for file in (tmp_path / "run").iterdir()} == {"wandb"}


def test_failed_run_ends_with_exit_code_1(tmp_path: Path) -> None:
    tracker = Tracker(pytest.fail)
    start(tracker, tmp_path / "run", "offline")
    tracker.finish({}, [], failed=True)
    assert told(tmp_path / "run")["exit"] == 1


def test_runs_one_after_the_other_and_within_one_another_are_apart(tmp_path: Path) -> None:
    outer, inner = Tracker(pytest.fail), Tracker(pytest.fail)
    start(outer, tmp_path / "outer", "offline")
    start(inner, tmp_path / "inner", "offline")
    inner.log(1, {"lr": 1.0})
    inner.finish(RESULT, [])
    outer.log(1, {"lr": 2.0})
    outer.finish(RESULT, [])
    start(inner, tmp_path / "third", "offline")
    inner.log(1, {"lr": 3.0})
    inner.finish(RESULT, [])
    assert [told(tmp_path / name)["history"][1]["lr"] for name in ("outer", "inner", "third")] == [2.0, 1.0, 3.0]


def test_finish_without_start_is_nothing() -> None:
    Tracker(pytest.fail).finish({}, [], failed=True)


def test_auto_is_offline_without_a_key_and_obeys_wandb_mode_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(pytest.fail)  # an attempt to go online would warn: the server is not there
    start(tracker, tmp_path / "keyless", "auto")
    tracker.finish({}, [])
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    start(tracker, tmp_path / "obedient", "auto")
    tracker.finish({}, [])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    start(tracker, tmp_path / "disabled", "auto")
    tracker.log(1, {"lr": 1.0})
    tracker.finish({}, [])
    assert len(list((tmp_path / "keyless").rglob("offline-run-*/*.wandb"))) == 1
    assert len(list((tmp_path / "obedient").rglob("offline-run-*/*.wandb"))) == 1
    assert list((tmp_path / "disabled").iterdir()) == []


def test_auto_obeys_the_word_that_wandb_offline_leaves_in_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings").write_text("[default]\nmode = offline\n")
    tracker = Tracker(pytest.fail)
    start(tracker, tmp_path / "run", "auto")
    tracker.finish({}, [])
    assert len(list((tmp_path / "run").rglob("offline-run-*/*.wandb"))) == 1


def test_a_key_is_found_in_netrc_for_its_host_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://example.org:8080")
    wandb = tracking.load()
    settings = wandb.setup().settings
    assert not tracking.has_key(settings)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert not tracking.has_key(settings)
    (tmp_path / "netrc").write_text(f"machine example.org:8080 login user password {KEY}\n")
    assert tracking.has_key(settings)


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_without_a_key_nothing_is_asked_or_printed_on_a_terminal(tmp_path: Path, mode: str) -> None:
    pty = pytest.importorskip("pty")
    program = f"""
from pathlib import Path
from dafw.tracking import Tracker
tracker = Tracker(lambda line: print("warned:", line))
tracker.start(Path({str(tmp_path)!r}), {{}}, mode={mode!r}, project="p", entity=None, group="g", name="n", tags=[])
tracker.log(1, {{"lr": 1.0}})
tracker.finish({{}}, [])
"""
    leader, follower = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", program], stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    assert child.wait(timeout=60) == 0
    try:
        shown = os.read(leader, 65536).decode().splitlines()
    except OSError:  # nothing was written, and the other end is closed
        shown = []
    os.close(leader)
    assert len(shown) == (mode == "online")
    assert all(line.startswith("warned: W&B: no API key") for line in shown)
    assert len(list(tmp_path.rglob("offline-run-*/*.wandb"))) == 1


def test_a_server_that_is_not_there_is_one_warning_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    warnings: list[str] = []
    tracker = Tracker(warnings.append)
    assert start(tracker, tmp_path / "run", "online") < 10
    tracker.log(5, {"lr": 0.5})
    tracker.finish(RESULT, [])
    assert len(warnings) == 1
    assert "does not answer" in warnings[0]
    assert "\n" not in warnings[0]
    assert told(tmp_path / "run")["history"][5]["lr"] == 0.5


def test_a_server_that_never_answers_holds_a_run_for_less_than_ten_seconds_and_not_its_end(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from dafw.tracking import Tracker
tracker = Tracker(lambda line: print("warned:", line))
began = time.perf_counter()
tracker.start(Path({str(tmp_path)!r}), {{}}, mode="online", project="p", entity=None, group="g", name="n", tags=[])
tracker.log(1, {{"lr": 1.0}})
tracker.finish({{}}, [])
print(time.perf_counter() - began, time.time())
"""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)  # connections are accepted by the system, and never read
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        environment.pop("WANDB_ERROR_REPORTING")
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        ended = time.time()
    warned, measured = done.stdout.splitlines()
    assert "does not answer" in warned
    assert done.stderr == ""
    seconds, at = map(float, measured.split())
    assert seconds < 10
    assert ended - at < 5
    assert told(tmp_path)["history"][1]["lr"] == 1.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb leaves the sweep's file open
def test_a_server_that_answers_and_opens_no_run_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the agent of a sweep starts it: the run asked for is the sweep's, under the id the agent gave."""
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"method.weight": {"value": 0.25}, "method": {"value": "dann"}})
    )
    with Server(lambda _: (401, {})) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
        monkeypatch.setenv("WANDB_RUN_ID", "run42")
        monkeypatch.setenv("WANDB_PROJECT", "of-the-agent")
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "sweep.yaml"))
        warnings: list[str] = []
        tracker = Tracker(warnings.append)
        assert start(tracker, tmp_path / "run", "auto") < 10
        tracker.log(5, {"lr": 0.5})
        tracker.finish(RESULT, [])
    asked = server.requests[0]["variables"]
    assert (asked["name"], asked["sweep"], asked["project"]) == ("run42", "sweep7", "of-the-agent")
    assert asked["groupName"] == "synth-digits/dann"
    config = {key: entry["value"] for key, entry in json.loads(asked["config"]).items() if key != "_wandb"}
    assert config == {"method": "dann", "method.weight": 0.25, "train.lr": 0.1, "train.steps": None}
    assert len(warnings) == 1
    assert "opened no run" in warnings[0]
    assert len(list((tmp_path / "run").rglob("offline-run-*/*.wandb"))) == 1


def test_a_server_that_opens_no_run_in_time_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.QUIET, "init_timeout", 1.0)
    with Server(lambda _: None) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        tracker = Tracker(warnings.append)
        start(tracker, tmp_path / "run", "online")
        tracker.log(5, {"lr": 0.5})
        tracker.finish(RESULT, [])
    assert len(warnings) == 1
    assert len(list((tmp_path / "run").rglob("offline-run-*/*.wandb"))) == 1


def test_a_server_that_dies_during_the_run_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.QUIET, "finish_timeout", 1.0)
    run = {"id": "x", "name": "n", "displayName": "n", "description": "", "config": "{}", "historyLineCount": 0}
    run["project"] = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
    alive = {"data": {"upsertBucket": {"bucket": run, "inserted": True}}}
    with Server(lambda _: (200, alive) if len(server.requests) == 1 else None) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        tracker = Tracker(warnings.append)
        start(tracker, tmp_path / "run", "online")
        assert warnings == []
        tracker.log(5, {"lr": 0.5})
        began = time.perf_counter()
        tracker.finish(RESULT, [])
        seconds = time.perf_counter() - began
    assert 0.9 < seconds < 4
    assert len(warnings) == 1
    assert "not all was sent" in warnings[0]
    assert told(tmp_path / "run")["history"][5]["lr"] == 0.5


def test_disabled_never_imports_wandb(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from dafw.tracking import Tracker
tracker = Tracker(print)
tracker.start(Path({str(tmp_path)!r}), {{}}, mode="disabled", project="p", entity=None, group="g", name="n", tags=[])
tracker.log(1, {{"lr": 1.0}})
tracker.finish({{"seconds": 1.0}}, [Path("missing.png")])
assert "wandb" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_whatever_wandb_raises_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = tracking.load()
    warnings: list[str] = []

    def broken(**_: Any) -> None:
        raise ZeroDivisionError("in\ntwo lines")

    tracker = Tracker(warnings.append)
    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", broken)
        start(tracker, tmp_path / "first", "offline")
    tracker.log(1, {"lr": 1.0})
    tracker.finish(RESULT, [])
    assert warnings == ["W&B: could not start (in); the run goes on without it"]

    class Broken:
        def log(self, *_: Any, **__: Any) -> None:
            raise ZeroDivisionError

    warnings.clear()
    tracker._run = Broken()
    tracker.log(7, {"lr": 1.0})
    tracker.log(8, {"lr": 1.0})
    tracker.finish(RESULT, [])
    assert warnings == ["W&B: stopped at step 7 (ZeroDivisionError); the run goes on without it"]


def test_a_picture_that_is_none_is_one_warning_and_the_run_is_closed(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    warnings: list[str] = []
    tracker = Tracker(warnings.append)
    start(tracker, tmp_path / "run", "offline")
    tracker.finish(RESULT, [tmp_path / "broken.png"])
    said = told(tmp_path / "run")
    assert len(warnings) == 1
    assert said["summary"]["target/accuracy"] == 0.8
    assert said["exit"] == 0


@pytest.mark.parametrize("name", ["methods", "dann", "bayes"])
def test_the_runs_of_a_sweep_can_be_composed_and_no_target_accuracy_is_its_metric(name: str) -> None:
    sweep = yaml.safe_load((experiments_folder() / "sweeps" / f"{name}.yaml").read_text())
    assert sweep["metric"] == {"name": "validator/im", "goal": "maximize"}
    assert sweep["command"][:4] == ["${env}", "python", "-m", "${program}"]
    assert sweep["program"] == "dafw.run"
    fixed = [word for word in sweep["command"][4:] if not word.startswith("$")]
    assert sweep["command"][4:] == [*fixed, "${args_no_hyphens}"]
    spaces = sweep["parameters"].values()
    assert set(sweep["parameters"].get("method", {}).get("values", [])) <= set(METHODS.names())
    for end in (0, -1):
        drawn = [space["values"][end] if "values" in space else space["max" if end else "min"] for space in spaces]
        swept = dict(zip(sweep["parameters"], drawn, strict=True))
        config = compose([*fixed, *(f"{key}={value}" for key, value in swept.items())])
        told = dict(tracking.as_typed(dataclasses.asdict(config)))
        assert {key: told[key] for key in swept} == swept
        assert config.wandb.mode == "online"


def test_within_gives_the_result_the_error_or_up() -> None:
    assert tracking.within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        tracking.within(5, lambda: 1 / 0)
    over = threading.Event()
    with pytest.raises(TimeoutError):
        tracking.within(0.05, over.wait)
    over.set()
