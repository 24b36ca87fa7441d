"""Many runs at once or one after the other: how each ended, in order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import test_bad_input
import torch
import whole
from whole import files_of_runs, made_pair, run_in, words

from dafw import conduct as conducting
from dafw.conduct import Done, conduct, default_jobs, one
from dafw.store import compose

surroundings = whole.surroundings  # a fixture


@pytest.fixture
def typed(tmp_path: Path) -> Any:
    """The words of a tiny run on the made pair, out to `runs`."""
    keys = {**made_pair(tmp_path), "out": tmp_path / "runs", "train.batch_size": 8, "train.steps": 2}

    def made(**more: Any) -> list[str]:
        return words(**keys, **more)

    return made


def conducted(runs: Sequence[Sequence[str]], jobs: int) -> tuple[list[Done], list[tuple[int, Done]]]:
    """How the runs ended, and what was told meanwhile."""
    told: list[tuple[int, Done]] = []
    return conduct(runs, jobs, lambda place, done: told.append((place, done))), told


def test_one_run_is_trained_and_then_found_again(typed: Any) -> None:
    first = one(typed(method="source_only"))
    assert (first.reused, first.error, first.exit_code) == (False, "", 0)
    assert first.folder is not None
    assert run_in(first.folder).result["method"] == "source_only"
    assert one(typed(method="source_only")) == Done(first.folder, True, "", 0)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("method=dan", "unknown method 'dan'; did you mean dann"),
        ("train.steps=0", "train.steps=0: expected 1 or more"),
        ("seeed=1", "unknown key seeed; did you mean seed"),
        ("select=best", "select=best: expected one of last, oracle"),
        ("tgt.labels_per_class=1", "tgt.labels_per_class=1: the setting unsupervised sees no target labels"),
    ],
)
def test_bad_words_are_a_sentence_and_code_2(
    bad: str, says: str, typed: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = one([*typed(method="dann"), bad])
    assert (done.folder, done.reused, done.exit_code) == (None, False, 2)
    assert done.error.startswith(says)
    assert "\n" not in done.error
    assert capfd.readouterr() == ("", "")  # the caller tells it
    assert files_of_runs(tmp_path / "runs") == []


def test_a_run_that_fails_is_code_1(typed: Any, tmp_path: Path) -> None:
    (tmp_path / "turns_nan.py").write_text(test_bad_input.TURNS_NAN)
    bad = ["train.steps=8", f"plugins=[{tmp_path / 'turns_nan.py'}]", "method=turns_nan"]
    done = one([*typed(), *bad])
    assert (done.folder, done.reused, done.exit_code) == (None, False, 1)
    assert "'odd' became nan at step 3" in done.error


def mixed(typed: Any, folder: Path) -> list[list[str]]:
    """A run, one that cannot be asked for, one that fails, and two more."""
    (folder / "turns_nan.py").write_text(test_bad_input.TURNS_NAN)
    failing = ["train.steps=8", f"plugins=[{folder / 'turns_nan.py'}]", "method=turns_nan"]
    return [
        typed(method="mcc", seed=3),
        [*typed(), "method=dan"],
        [*typed(), *failing],
        typed(method="source_only"),
        typed(method="dann", seed=1),
    ]


def check_mixed(ended: list[Done], told: list[tuple[int, Done]]) -> None:
    assert [done.exit_code for done in ended] == [0, 2, 1, 0, 0]
    assert [done.folder is None for done in ended] == [False, True, True, False, False]
    assert sorted(place for place, _ in told) == [0, 1, 2, 3, 4]
    assert all(ended[place] == done for place, done in told)
    results = [run_in(done.folder).result for done in ended if done.folder is not None]
    assert [(r["method"], r["seed"]) for r in results] == [("mcc", 3), ("source_only", 0), ("dann", 1)]
    assert ended[1].error.startswith("unknown method 'dan'")
    assert "became nan" in ended[2].error


def test_runs_end_in_order_whatever_happens_to_one(typed: Any, tmp_path: Path) -> None:
    ended, told = conducted(mixed(typed, tmp_path), jobs=1)
    check_mixed(ended, told)
    assert [place for place, _ in told] == [0, 1, 2, 3, 4]


def test_no_run_is_nothing() -> None:
    assert conduct([], 1, lambda *_: pytest.fail("told of a run")) == []


def test_a_run_is_told_before_the_next_begins(typed: Any, tmp_path: Path) -> None:
    seen: list[int] = []
    runs = [typed(method="source_only", seed=seed) for seed in (0, 1)]
    conduct(runs, 1, lambda *_: seen.append(len(list((tmp_path / "runs" / "dark-bright" / "source_only").iterdir()))))
    assert seen == [1, 2]


def test_a_reference_is_trained_once(typed: Any, tmp_path: Path) -> None:
    runs = [typed(method=method, references=True) for method in ("mcc", "dann")]
    ended, _ = conducted(runs, jobs=1)
    assert [done.exit_code for done in ended] == [0, 0]
    for reference in ("source_only", "adabn", "joint_supervised"):
        assert len(list((tmp_path / "runs" / "dark-bright" / reference).iterdir())) == 1


@pytest.mark.slow
def test_two_at_once_end_in_order_and_share_their_references(typed: Any, tmp_path: Path) -> None:
    """Processes of their own, one of them busy for longer than the others take."""
    runs = mixed(typed, tmp_path)
    runs[0] = typed(method="mcc", seed=3, references=True)
    runs[4] = typed(method="dann", seed=1, references=True)
    runs.append(typed(method="dann", seed=3, references=True))
    ended, told = conducted(runs, jobs=2)
    check_mixed(ended[:5], [(place, done) for place, done in told if place < 5])
    first, last = (run_in(ended[place].folder or "").result for place in (0, 5))
    assert (last["method"], last["seed"]) == ("dann", 3)
    for end in ("lower", "upper"):
        assert first["references"][end]["run"] == last["references"][end]["run"]
    by_seed = [
        json.loads((folder / "result.json").read_text())["seed"]
        for folder in (tmp_path / "runs" / "dark-bright" / "joint_supervised").iterdir()
    ]
    assert sorted(by_seed) == [1, 3]  # seed 3 for two of them, once


class Pool:
    """Stands for the pool of processes: runs what is submitted at once, here."""

    def __init__(self, jobs: int, context: Any, initializer: Any, initargs: tuple[Any, ...]):
        self.made = (jobs, initializer, initargs)
        self.shut: list[dict[str, bool]] = []
        Pool.last = self

    def submit(self, call: Any, given: list[str]) -> Any:
        from concurrent.futures import Future

        future: Any = Future()
        try:
            future.set_result(call(given))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **how: bool) -> None:
        self.shut.append(how)

    last: "Pool"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words that each job was given, where nothing is trained."""
    given: list[list[str]] = []

    def run(words: list[str]) -> Done:
        given.append(words)
        return Done(Path(words[-1]), False, "", 0)

    monkeypatch.setattr(conducting, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(conducting, "one", run)
    monkeypatch.setattr(conducting, "default_jobs", lambda: 8)
    return given


@pytest.mark.parametrize(("jobs", "threads"), [(2, 4), (3, 2), (8, 1), (20, 1)])
def test_each_has_its_share_of_the_cores(jobs: int, threads: int, pool: list[list[str]]) -> None:
    ended, _ = conducted([["seed=0"], ["seed=1"]], jobs)
    assert [str(done.folder) for done in ended] == ["seed=0", "seed=1"]
    assert pool == [[f"threads={threads}", "seed=0"], [f"threads={threads}", "seed=1"]]
    assert Pool.last.made == (jobs, conducting.limit_threads, (threads,))


def test_threads_that_are_typed_go_first(pool: list[list[str]]) -> None:
    conducted([["threads=3"]], jobs=2)
    assert compose(pool[0]).threads == 3


@pytest.mark.usefixtures("pool")
def test_what_ends_everything_drops_the_runs_that_wait() -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conduct([["seed=0"], ["seed=1"]], 2, interrupted)
    assert Pool.last.shut == [{"wait": True, "cancel_futures": True}]


def test_as_many_at_once_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(conducting.os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert default_jobs() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_jobs() == 1  # they would share the GPU


def test_a_process_keeps_to_its_share() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits():  # puts them back at the end
        conducting.limit_threads(2)
        assert torch.get_num_threads() == 2
        assert all(pool["num_threads"] <= 2 for pool in threadpool_info() if pool["user_api"] == "blas")
    torch.set_num_threads(before)
