"""`python -m dafw.prune RUN amount=0.5`: a finished run's network made smaller, in rounds, with training between them.

amount is the share to be gone at the end, over rounds=3 of equal shares. kind=channels takes whole ones out, and makes
the network faster; kind=magnitude holds single weights of the backbone at zero, and makes the saved file smaller.

Each round is an ordinary run: `init=` the run before it, `prune.amount=` its share, and of everything else the words of
RUN, unless others are typed (`method=mcc train.steps=300`), so that any method trains what was pruned; by
`method=distil method.teacher=RUN` it learns what RUN itself answers. A method that starts from another's run, as shot
from source_only, has its whole chain trained from the pruned network. No references and no pictures are made unless
they are asked for. Rounds that are finished are found again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dafw import cost, experiment
from dafw.answering import finished
from dafw.config import COMMON_OPTIONS
from dafw.console import Console
from dafw.errors import TrainingError, UsageError
from dafw.pruning import KINDS
from dafw.record import Record
from dafw.store import as_typed, compose

USAGE = "expected python -m dafw.prune RUN amount=0.5 [rounds=3] [kind=channels] [method=mcc train.steps=300 ...]"
QUIET = {"references": "references=false", "plots": "plots=false"}  # of every round, unless they are typed


class Asked(NamedTuple):
    """run: the folder; amount: the share to be gone at the end; words: of dafw.run, by their keys."""

    run: Path
    amount: float
    rounds: int
    kind: str
    words: dict[str, str]


def asked(arguments: Sequence[str] | None) -> Asked:
    """Raises UsageError for a word that is none of these, and for a value outside what it takes."""
    parser = argparse.ArgumentParser(prog="python -m dafw.prune", description=__doc__)
    what = "a finished run, rounds=, kind=, words of a run"
    parser.add_argument("words", nargs="*", metavar="RUN amount=0.5", help=what)
    folders, own = [], {"amount": "", "rounds": "3", "kind": KINDS[0]}
    words: dict[str, str] = {}
    for word in parser.parse_args(arguments).words:
        key, equals, value = word.partition("=")
        if not equals:
            folders.append(word)
        elif key in own:
            own[key] = value
        elif key == "init" or key.startswith("prune."):
            raise UsageError(f"{word}: the rounds set {key} themselves; {USAGE}")
        else:
            words[key] = word
    if len(folders) != 1:
        raise UsageError(f"{' '.join(folders) or 'no run'}: one run is pruned at a time; {USAGE}")
    amount, rounds = number("amount", own["amount"], float), number("rounds", own["rounds"], int)
    if not 0 < amount < 1:
        raise UsageError(f"amount={amount}: expected a share between 0 and 1, as in amount=0.5")
    if rounds < 1:
        raise UsageError(f"rounds={rounds}: expected 1 or more, as in rounds=3")
    return Asked(Path(folders[0]), amount, rounds, own["kind"], words)


def number(key: str, value: str, kind: type) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{key}={value}: expected a number; {USAGE}") from error


def words_of_round(before: Record, share: float, given: Asked) -> list[str]:
    """The words of one round: those of the run before it, but for what is typed and the options of another choice."""
    own = {word.partition("=")[0]: word for word in shlex.split(before.result["command"])[3:]}
    replaced = tuple(f"{group}." for group in COMMON_OPTIONS if group in given.words)
    kept = {key: word for key, word in own.items() if not key.startswith(replaced)}
    pruned = {"init": before.folder, "prune.amount": share, "prune.kind": given.kind}
    return list({**kept, **QUIET, **given.words, **{k: as_typed(k, v) for k, v in pruned.items()}}.values())


def rounds(given: Asked, console: Console) -> list[Record]:
    """The run, and after it that of each round; after all of them the share `amount` of the run's network is gone."""
    share = 1 - (1 - given.amount) ** (1 / given.rounds)
    first = finished(given.run)
    if first.config.backbone["frozen"]:
        data = ("src=", "src.", "tgt=", "tgt.", "data=", "plugins=", "image_size=")
        words = [word for word in shlex.split(first.record.result["command"])[3:] if word.startswith(data)]
        raise UsageError(
            f"{given.run}: its backbone is frozen, so that no training could make up for what is taken out; expected "
            "a run with backbone.frozen=false, or a small network that learns from this one, as in "
            f"python -m dafw.run method=distil method.teacher={given.run} backbone.frozen=false {shlex.join(words)}"
        )
    found = [first.record]
    for _ in range(given.rounds):
        found.append(experiment.run(compose(words_of_round(found[-1], share, given)), console))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console()
    try:
        found = rounds(asked(arguments), console)
        cost.show(cost.table([record.folder for record in found]))
    except UsageError as error:
        console.error(str(error))
        return 2
    except TrainingError as error:
        console.error(str(error))
        return 1
    except KeyboardInterrupt:
        console.error("interrupted; finished rounds are found again, so the same command goes on")
        return 130
    console.note(f"run: {found[-1].folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
