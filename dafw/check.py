"""`python -m dafw.check my_method.py`: the conformance checks on a file of your own, or on registered names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from dafw.conformance import exemptions, failures, source_of
from dafw.errors import UsageError
from dafw.registry import METHODS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.check", description=__doc__)
    parser.add_argument("methods", nargs="+", help="a Python file that registers a method, or a method's name")
    parsed = parser.parse_args(arguments)
    console = Console(highlight=False)
    torch.set_num_threads(1)  # the networks are tiny: more threads only wait for each other
    wrong = 0
    try:
        for word in parsed.methods:
            for name in names_of(word):
                console.print(f"[bold]{escape(name)}[/bold]")
                for excused, reason in exemptions(METHODS.get(name)).items():
                    console.print(f"  [yellow]excused[/yellow] {escape(excused)}: {escape(reason)}")
                for check, problem in failures(name):
                    verdict = "[green]ok[/green]" if problem is None else f"[red]FAILED[/red]: {escape(problem)}"
                    console.print(f"  {check} {verdict}", soft_wrap=True)
                    wrong += problem is not None
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"{wrong} failed" if wrong else "all passed")
    return 1 if wrong else 0


def names_of(word: str) -> list[str]:
    """The methods in a file, or the one of this name."""
    if not word.endswith(".py"):
        METHODS.get(word)
        return [word]
    names = source_of(Path(word))
    if not names:
        raise UsageError(f"{word} registers no method; decorate its class with @register_method")
    return names


if __name__ == "__main__":
    sys.exit(main())
