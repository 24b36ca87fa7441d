"""`python -m dafw.list methods|datasets|backbones|validators`: what is registered, with its paper and options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from enum import Enum

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dafw.config import dataset_names
from dafw.errors import UsageError
from dafw.registry import BACKBONES, DATASETS, METHODS, VALIDATORS, Option, about, load_plugin, options

KINDS = ("methods", "datasets", "backbones", "validators")


def described(option: Option) -> str:
    """weight: float = 1.0"""
    kind = option.type.__name__ if isinstance(option.type, type) else str(option.type)
    if option.required:
        return f"{option.name}: {kind} (needed)"
    default = option.default.name if isinstance(option.default, Enum) else option.default
    tuned = option.range
    drawn = f", tuned from {tuned.low:g} to {tuned.high:g}{' (log)' if tuned.log else ''}" if tuned else ""
    return f"{option.name}: {kind} = {default}{drawn}"


def rows_of(kind: str) -> tuple[list[str], list[list[str]]]:
    """Column names and rows, as text."""
    if kind == "methods":
        rows = []
        for name in METHODS.names():
            method = METHODS.get(name)
            summary, paper = about(method)
            variants = [f"{name}/{v}" for v in getattr(method, "variants", {})]
            starts = method.setting.value if method.start == "init" else f"{method.setting.value}, from {method.start}"
            rows.append(
                [", ".join([name, *variants]), starts, paper, "\n".join(map(described, options(method))), summary]
            )
        return ["name", "setting", "paper", "hyper-parameters", "what it is"], rows
    if kind == "validators":
        rows = [validator_row(name) for name in VALIDATORS.names()]
        return ["name", "better is", "sees", "run", "paper", "what it is"], rows
    registry = {"datasets": DATASETS, "backbones": BACKBONES}[kind]
    rows = []
    for name in registry.names():
        plugin = registry.get(name)
        shown = "\n".join(n for n in dataset_names() if n.split("/")[0] == name) if kind == "datasets" else name
        summary, paper = about(plugin)
        rows.append([shown, paper, "\n".join(map(described, options(plugin))), summary])
    if kind == "backbones":
        rows.append(
            ["any timm name", "", "small_images: bool = False", "timm.list_models() lists them: backbone=resnet50"]
        )
    return ["name", "paper", "options", "what it is"], rows


def validator_row(name: str) -> list[str]:
    validator = VALIDATORS.get(name)
    summary, paper = about(validator)
    direction = "higher" if validator.higher_is_better else "lower"
    run = f"by select={name} only" if validator.only_named else "at every evaluation"
    return [name, direction, " and ".join(f"{part} validation" for part in validator.sees), run, paper, summary]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.list", description=__doc__)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS[:-1]) + f" or {KINDS[-1]}")
    parser.add_argument("plugins", nargs="*", help="files with plug-ins of your own")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.kind not in KINDS:
            raise UsageError(f"{parsed.kind or 'nothing'} cannot be listed; expected one of {', '.join(KINDS)}")
        for file in parsed.plugins:
            load_plugin(file)
        columns, rows = rows_of(parsed.kind)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table(title=parsed.kind, title_justify="left", show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    # on a pipe nothing is cut: a table that greps
    (console if console.is_terminal else Console(width=200)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
