"""Many runs packed onto the cores: one process a run, each with its share of the threads."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits

from dafw.console import Console
from dafw.errors import TrainingError, UsageError
from dafw.experiment import run
from dafw.store import compose


class Done(NamedTuple):
    """How a run ended: its folder and whether it was found again, or why it has none and its exit code."""

    folder: Path | None
    reused: bool
    error: str
    exit_code: int


def one(words: Sequence[str]) -> Done:
    """The run that these words ask for; an error is told by the caller, and other runs go on."""
    try:
        record = run(compose(words), Console(quiet=True))
    except (UsageError, TrainingError) as error:
        return Done(None, False, str(error), 1 if isinstance(error, TrainingError) else 2)
    return Done(record.folder, record.reused, "", 0)


def default_jobs() -> int:
    """As many runs at once as there are cores to this process; one where they would share a GPU."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def conduct(runs: Sequence[Sequence[str]], jobs: int, on_done: Callable[[int, Done], None]) -> list[Done]:
    """How each run ended, in the order of `runs`; `on_done(place, done)` is told at once.

    Runs that need the same reference train it once, under its lock. A word `threads=` that is typed goes first.
    """
    if jobs == 1:
        ended = []
        for place, words in enumerate(runs):
            ended.append(one(words))
            on_done(place, ended[-1])
        return ended
    threads = max(1, default_jobs() // jobs)
    places: dict[Future[Done], int] = {}
    by_place: dict[int, Done] = {}
    context = multiprocessing.get_context("spawn")  # a forked torch may hang on its threads
    pool = ProcessPoolExecutor(jobs, context, initializer=limit_threads, initargs=(threads,))
    try:
        for place, words in enumerate(runs):
            places[pool.submit(one, [f"threads={threads}", *words])] = place
        waiting = set(places)
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(finished, key=places.__getitem__):
                by_place[places[future]] = future.result()
                on_done(places[future], future.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [by_place[place] for place in range(len(runs))]


def limit_threads(threads: int) -> None:
    """For a process of the pool: what is no torch (BLAS, scikit-learn) keeps to its share as well."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
