"""What a run shows: a bar or plain lines while it trains, a table and a verdict when it ends."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console as Screen
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

PLAIN_LINES = 10  # of one training on a pipe and in the log
NARROW = 100  # terminal columns below which the bar says less
WIDE = 500  # columns of a pipe or file, where nothing may be broken
MISSING = "\N{EN DASH}"


class Console:
    """Everything that a run prints: progress and results to stdout, errors to stderr, and all of it to a log.

    quiet: print nothing, but still log
    """

    def __init__(self, quiet: bool = False):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a character that a terminal lacks must not end a run
        self._screen = Screen(quiet=quiet, highlight=False)
        self._errors = Screen(quiet=quiet, highlight=False, stderr=True)
        self._log: Path | None = None
        self._said: set[str] = set()
        self._bar_shown = False
        if not self._screen.is_terminal:
            self._screen.width = WIDE

    def log_to(self, path: Path | None) -> None:
        """From now on append all that is shown, as plain text, to this file; None ends it."""
        self._log = path

    def note(self, line: str) -> None:
        """One plain line."""
        self._show(Text(line), wrap=False)

    def logged(self, line: str) -> None:
        """A line for the log alone."""
        self._append(Text(line))

    def once(self, line: str) -> None:
        """A line that several runs of one command say: shown the first time, written to each log."""
        if line in self._said:
            self._append(Text(line))
        else:
            self._said.add(line)
            self.note(line)

    def error(self, line: str) -> None:
        """`error: ...` on stderr, on one line whatever it holds."""
        text = Text.assemble(("error: ", "bold red"), " ".join(line.split("\n")))
        self._errors.print(text, soft_wrap=True)
        self._append(text)

    @contextmanager
    def training(self, label: str, steps: int) -> Iterator[Training]:
        """Show the progress of `steps` steps: a bar on a terminal, about ten lines on a pipe, and one line at the end.

        A training inside another one shows lines. With steps=0 only the line at the end is shown.
        """
        bar = self._bar() if steps and self._screen.is_interactive and not self._bar_shown else None
        training = Training(self, label, steps, bar)
        if bar is None:
            yield training
        else:
            self._bar_shown = True
            try:
                with bar:
                    yield training
            finally:
                self._bar_shown = False
        self._show(Text(training.ended()))

    def report(self, record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """The table of a run and its references, the verdict, and as the last line `run: <folder>`.

        record: what result.json holds. rows: role, method, target, source, seconds and note of each row, in order.
        """
        self._show(Text(title(record), style="bold"))
        if record["selection"] == "oracle":
            self._show(Text("oracle: target labels chose this checkpoint; a real user has none to choose by", "yellow"))
        wide = table(rows, narrow=False)
        unbroken = self._screen.measure(wide, options=self._screen.options.update(width=WIDE)).maximum
        self._screen.print(wide if unbroken <= self._screen.width else table(rows, narrow=True))
        self._append(wide)
        for line in [*row_notes(rows), verdict(record), *gain(record), *warned(record), *closing_lines(record)]:
            self._show(line)
        self.note(f"run: {record['folder']}")

    def _bar(self) -> Progress:
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=max(4, self._screen.width // 6 - 6)),
            MofNCompleteColumn(),
            Losses(table_column=Column(ratio=1, no_wrap=False)),  # the one column that gives way
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
        ]
        return Progress(*columns, console=self._screen, transient=True, expand=True, refresh_per_second=4)

    def _show(self, text: Text, wrap: bool = True) -> None:
        """Wrap at words on a terminal; a line that holds a path is left whole, to be copied."""
        self._screen.print(text, soft_wrap=not (wrap and self._screen.is_terminal))
        self._append(text)

    def _append(self, shown: RenderableType) -> None:
        """Write to the log; opened anew for each line, so that a run that dies leaves all of it."""
        if self._log is None:
            return
        with self._log.open("a", encoding="utf-8") as file:
            plain = Screen(file=file, width=WIDE, color_system=None, force_terminal=False, force_jupyter=False)
            plain.print(shown, soft_wrap=isinstance(shown, Text))


class Training:
    """One training being shown; made by `Console.training`."""

    def __init__(self, console: Console, label: str, steps: int, bar: Progress | None):
        self._console = console
        self._label = label
        self._steps = steps
        self._bar = bar
        self._task = bar.add_task(label, total=steps, losses="", speed="", left="") if bar else None
        self._began = time.perf_counter()
        self._tenth = 0
        self._last = ""

    def update(self, step: int, values: Mapping[str, float], examples_per_second: float) -> None:
        """step: how many are done. values: the losses and what else was logged, by their full names."""
        shown, speed = compact(values), f"{examples_per_second:.0f} examples/s"
        self._last = f"{shown}, {speed}" if shown else speed
        left = f"{clock((time.perf_counter() - self._began) * (self._steps - step) / max(step, 1))} left"
        line = Text(f"{self._label}: step {step}/{self._steps}, {self._last}, {left}")
        tenth = PLAIN_LINES * step // self._steps if self._steps else PLAIN_LINES
        if self._bar is not None and self._task is not None:
            short = speed.replace("examples", "ex") if self._console._screen.width < NARROW else speed
            self._bar.update(self._task, completed=step, losses=shown, speed=short, left=left)
        if tenth > self._tenth and step < self._steps:
            self._tenth = tenth
            self._console._append(line) if self._bar is not None else self._console._show(line)

    def ended(self) -> str:
        """The line that stays."""
        seconds = time.perf_counter() - self._began
        steps = f"{self._steps} steps" if self._steps else "closed form"
        return f"{self._label}: {steps} in {seconds:.1f} s" + (f", {self._last}" if self._last else "")


class Losses(ProgressColumn):
    """As many of the losses as there is room for."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["losses"], no_wrap=True, overflow="ellipsis")


class Heading(NamedTuple):
    """A column of the table: its heading on a wide and on a narrow screen."""

    wide: str
    narrow: str


HEADINGS = (
    Heading("role", "role"),
    Heading("method", "method"),
    Heading("target\naccuracy", "target"),
    Heading("per-class\naccuracy", "class"),
    Heading("target\nmacro-F1", "F1"),
    Heading("source\naccuracy", "source"),
    Heading("\nseconds", "sec."),
)


def table(rows: Sequence[Mapping[str, Any]], narrow: bool) -> Table:
    """One line a run; the method's own is bold."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for i, heading in enumerate(HEADINGS):
        text = heading.narrow if narrow else heading.wide
        shown.add_column(Text(text), justify="left" if i < 2 else "right", no_wrap=True, overflow="fold")
    for row in rows:
        target, source = row["target"] or {}, row["source"] or {}
        role = row["role"].split()[0] if narrow else row["role"]
        scores = [target.get(key) for key in ("accuracy", "per_class_accuracy", "macro_f1")]
        scores.append(source.get("accuracy"))
        cells = [role, row["method"], *map(number, scores), number(row["seconds"], digits=1)]
        shown.add_row(*(Text(cell) for cell in cells), style="bold" if row["role"] == "method" else None)
    return shown


def title(record: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    target = record["target"] or {}
    parts = [
        f"{record['method']}: {record['src']} -> {record['tgt']}",
        str(record["setting"]),
        f"{record['image_size']} px" if record["image_size"] else "",
        f"seed {record['seed']}",
        f"{target['examples']} target test examples" if "examples" in target else "",
    ]
    return ", ".join(part for part in parts if part) + (" [oracle]" if record["selection"] == "oracle" else "")


def row_notes(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """What is to be said of single rows, each remark once with the methods that it holds for."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.get("note"):
            methods.setdefault(row["note"], []).append(row["method"])
    return [
        Text(remark if len(names) == len(rows) else f"{', '.join(names)}: {remark}")
        for remark, names in methods.items()
    ]


def verdict(record: Mapping[str, Any]) -> Text:
    """The method against its lower reference, in words; negative transfer is red."""
    versus = record["versus_lower"]
    if versus is None:
        return Text("verdict: none, there is no lower reference to compare with")
    measured = f"{100 * versus['difference']:+.1f} points, {p_value(versus['p'])} ({versus['test']})"
    against = f"{record['method']} against its lower reference {record['references']['lower']['method']}: {measured}"
    word, style = {"better": ("better", "bold green"), "worse": ("negative transfer", "bold red")}.get(
        versus["verdict"], ("undecided", "")
    )
    return Text(f"verdict: {word}, {against}", style)


def warned(record: Mapping[str, Any]) -> list[Text]:
    """What the run's numbers warn of."""
    return [Text(f"warning: {line}", "yellow") for line in record.get("warnings") or []]


def gain(record: Mapping[str, Any]) -> list[Text]:
    """What the method is worth beside the best of what costs next to nothing."""
    versus = record.get("versus_baseline")
    if versus is None:
        return []
    measured = f"{100 * versus['difference']:+.1f} points, {p_value(versus['p'])} ({versus['test']})"
    against = f"{versus['method']} {number(versus['accuracy'])}, the best cheap baseline by its test accuracy"
    return [Text(f"gain: {measured} over {against}", "red" if versus["verdict"] == "worse" else "")]


def closing_lines(record: Mapping[str, Any]) -> list[Text]:
    """Recovered gap, cost, protocol, counts and pictures."""
    lines = [recovered_gap(record), *bound(record), cost(record)]
    for key in ("protocol", "counts"):
        if record.get(key):
            lines.append(
                f"{key}: "
                + "; ".join(f"{name.replace('_', ' ')} {words(value)}" for name, value in record[key].items())
            )
    if record.get("pictures"):
        lines.append(f"pictures: {' '.join(map(str, record['pictures']))}")
    return [Text(line) for line in lines]


def recovered_gap(record: Mapping[str, Any]) -> str:
    """The share of the way from the lower to the upper reference, or why it does not exist."""
    if record["recovered_gap"] is None:
        return f"recovered gap: undefined, {record.get('recovered_gap_reason') or 'a reference is missing'}"
    lower, upper = record["references"]["lower"], record["references"]["upper"]
    ends = [f"{end['method']} {number(end['accuracy'])}" for end in (lower, upper)]
    return f"recovered gap: {number(record['recovered_gap'])} of the way from {ends[0]} to {ends[1]}"


def bound(record: Mapping[str, Any]) -> list[str]:
    """What is promised without a target label."""
    promised = record.get("bound")
    if promised is None:
        return []
    return [
        f"bound: at least {number(promised['accuracy'])} on the target by Dis2, without target labels "
        f"(source validation {number(promised['source_accuracy'])} - disagreement {number(promised['discrepancy'])} "
        f"- epsilon {number(promised['epsilon'])}, confidence {1 - promised['delta']:.0%})"
    ]


def cost(record: Mapping[str, Any]) -> str:
    own, total = number(record["seconds"], digits=1), number(record["total_seconds"], digits=1)
    return f"cost: {record['steps']} steps, {own} s, {total} s with the runs it starts from"


def words(value: Any) -> str:
    """A value as one reads it."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None or value != value else f"{value:.{digits}f}"


def p_value(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-12 else "p < 1e-12"


def compact(values: Mapping[str, float]) -> str:
    """`classification 0.123, domain 1.38`: what training logs, without its rate."""
    return ", ".join(f"{name.removeprefix('loss/')} {value:.3g}" for name, value in values.items() if name != "lr")


def clock(seconds: float) -> str:
    """h:mm:ss"""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
