"""The command line, and Hydra's task function (importable, since job launchers pickle it)."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dafw import store
from dafw.config import Config, dataset_names, flat
from dafw.console import Console
from dafw.errors import TrainingError, UsageError
from dafw.registry import BACKBONES, METHODS
from dafw.selection import rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what these words ask for; returns the exit code: 0, 1 for a run that failed, 2 for what cannot be asked."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions instead of being printed by Hydra
    os.environ["DAFW_SWEEP"] = uuid.uuid4().hex[:12]
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    exit_codes.clear()
    debug = "debug=true" in words
    try:
        check_words(words)
        store.fill_store(overrides)
        store.check_choices(overrides)
        if {"--help", "-h"}.intersection(words):
            print(help_text(store.compose(overrides)))
            return 0
        sys.argv = [sys.argv[0], *flags_first(words)]
        hydra.main(version_base="1.3", config_path=None, config_name="dafw")(task)()
    except (UsageError, TrainingError) as error:
        return told(error, debug)
    except KeyboardInterrupt:
        Console().error("interrupted; finished runs are found again, so the same command goes on")
        return 130
    except (HydraException, OmegaConfBaseException) as error:
        return told(store.explained(error, overrides), debug, error)
    except OSError as error:
        line = f"{error.filename or ''}: {error.strerror}; expected a place that can be written"
        return told(UsageError(line), debug, error)
    return max([*exit_codes, worst_outcome(overrides)])


HELP = """\
usage: python -m dafw.run [key=value ...]         one run: python -m dafw.run method=dann src=cifar10 tgt=stl10
       python -m dafw.run -m seed=0,1,2 key=a,b   a sweep over all combinations
       python -m dafw.list methods|datasets|backbones|validators   what each is, its paper and its options
       python -m dafw.study NAME                  pairs x methods x seeds:  {studies}
       python -m dafw.report runs/                all runs on one page: intervals, verdicts, selection, sweeps

  method=    {methods}
  src= tgt=  {datasets}
  backbone=  {backbones}, or any name timm knows
  +experiment=  {experiments}
  select=    {rules}

Keys and their values here (null: the recipe of the method, the data sets or the backbone decides):
{keys}

--hydra-help shows what Hydra adds; debug=true shows tracebacks."""


def help_text(config: Config) -> str:
    """What there is to type, with the values that it has."""
    keys = [f"  {key}={'null' if value is None else value}" for key, value in flat(dataclasses.asdict(config))]
    return HELP.format(
        methods=" ".join(METHODS.names()),
        datasets=" ".join(dataset_names()),
        backbones=", ".join(BACKBONES.names()),
        experiments=" ".join(sorted(f.stem for f in store.experiments_folder().glob("recipes/*.yaml"))),
        studies=" ".join(sorted(f.stem for f in store.experiments_folder().glob("studies/*.yaml"))),
        rules=" ".join(rules()),
        keys="\n".join(key for key in keys if ".name=" not in key or "wandb" in key),
    )


exit_codes: list[int] = []  # of jobs in this process


def task(composed: DictConfig) -> None:
    """One job. An error is told and recorded; a sweep goes on."""
    from dafw import experiment

    overrides = list(HydraConfig.get().overrides.task)
    try:
        store.fill_store(overrides)  # again, in the process of a job launcher
        experiment.run(store.from_hydra(composed), Console())
        code = 0
    except (UsageError, TrainingError) as error:
        code = told(error, bool(composed.debug))
    exit_codes.append(code)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        with (Path(HydraConfig.get().sweep.dir) / "outcomes.txt").open("a") as outcomes:
            outcomes.write(f"{code} {' '.join(overrides)}\n")


FLAGS = {"-m", "--multirun", "-r", "--run", "-h", "--help", "--hydra-help", "--version", "--resolve", "-sc"}
FLAGS |= {"--shell-completion"}
FLAGS_WITH_VALUE = {"-c", "--cfg", "-i", "--info", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"}
FLAGS_WITH_VALUE |= {"-cd", "--config-dir", "--experimental-rerun"}


def check_words(words: Sequence[str]) -> None:
    """UsageError for a word that is neither key=value nor an option of Hydra's."""
    before = ""
    for word in words:
        if word.startswith("-") and word.split("=")[0] not in FLAGS | FLAGS_WITH_VALUE:
            raise UsageError(f"unknown option {word}; expected key=value, as in {word.lstrip('-')}=..., or --help")
        if not word.startswith(("-", "~")) and "=" not in word and before not in FLAGS_WITH_VALUE:
            raise UsageError(f"{word!r} is not key=value; expected words such as method=dann, or --help")
        before = word


def flags_first(words: Sequence[str]) -> list[str]:
    """Options before key=value words: argparse, which Hydra uses, takes the former in one piece only."""
    flags: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        (flags if word.startswith("-") or before in FLAGS_WITH_VALUE else others).append(word)
    return [*flags, *others]


def told(error: Exception, debug: bool, cause: BaseException | None = None) -> int:
    """Print one line, and the traceback where it is asked for; the exit code for it."""
    if debug:
        error.__cause__ = cause or error.__cause__
        traceback.print_exception(error)
    Console().error(str(error))
    return 1 if isinstance(error, TrainingError) else 2


def worst_outcome(overrides: Sequence[str]) -> int:
    """The largest exit code of a sweep's jobs, which a launcher may have run in other processes."""
    out = next((word[4:] for word in reversed(overrides) if word.startswith("out=")), "runs")
    outcomes = Path(out) / "sweeps" / os.environ["DAFW_SWEEP"] / "outcomes.txt"
    return (
        max((int(line.split()[0]) for line in outcomes.read_text().splitlines()), default=0) if outcomes.exists() else 0
    )
