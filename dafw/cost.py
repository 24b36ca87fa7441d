"""`python -m dafw.cost RUN [RUN ...]`: what the networks of finished runs cost to ask, side by side.

Accuracy, parameters, multiply-accumulates, file size, and the latency on one CPU thread as a ratio to the first run's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from rich import box
from rich.console import Console as Screen
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dafw import pruning
from dafw.answering import finished
from dafw.console import WIDE, Console, number
from dafw.errors import UsageError
from dafw.job import network_name

BATCHES = (1, 64)  # examples asked at once: one that waits for its answer, and a heap of them
ROUNDS = (5, 101)  # of timing: at least, and at most
SECONDS = 4.0  # after which a batch size is timed no longer


# ---- what it costs


class Row(NamedTuple):
    """What one run costs to ask.

    accuracy: on target test, of result.json; None where it has none
    parameters: of all that answers, a frozen network included, without those that pruning holds at zero
    macs: multiply-accumulates of one example, in convolutions, linear and recurrent layers and attention
    size: bytes of what answers as a safetensors file
    latency: batch size → the time on one CPU thread, as a ratio to the first run's of the table
    """

    run: Path
    method: str
    backbone: str
    accuracy: float | None
    parameters: int
    macs: int
    size: int
    latency: dict[int, float]


def table(folders: Sequence[str | Path]) -> list[Row]:
    """A row for each finished run; UsageError for a folder that is none."""
    runs = [finished(folder) for folder in folders]
    networks = [run.answering() for run in runs]
    held = [(pruning.size(network), file_size(network)) for network in networks]
    for network in networks:
        network.made_plain()  # masks are for training: applied at each call, they would be timed too
    ratios = {batch: latencies(networks, [run.example(batch) for run in runs]) for batch in BATCHES}
    return [
        Row(
            run.record.folder,
            run.record.result["method"],
            network_name(run.config, run.method.model),
            (run.record.result["target"] or {}).get("accuracy"),
            held[place][0],
            multiply_accumulates(network, run.example(1)),
            held[place][1],
            {batch: ratios[batch][place] for batch in BATCHES},
        )
        for place, (run, network) in enumerate(zip(runs, networks, strict=True))
    ]


def multiply_accumulates(network: nn.Module, inputs: Tensor) -> int:
    """Products that are summed up in answering inputs (B, ...): two of torch's floating point operations are one."""
    recurrent = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_operations}
    with FlopCounterMode(display=False, custom_mapping=recurrent) as counter, _counted_kernels():
        network(inputs)
    return counter.get_total_flops() // 2


def _recurrent_operations(
    inputs: Sequence[int], weight: Sequence[int], hidden: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of one direction of one LSTM layer: inputs (T, B, D), weight (4 H, D), hidden (4 H, H)."""
    return 2 * inputs[0] * inputs[1] * (weight[0] * weight[1] + hidden[0] * hidden[1])


@contextmanager
def _counted_kernels() -> Iterator[None]:
    """Attention as matrix products: torch's counter does not know its fused kernels of the CPU."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def file_size(network: nn.Module) -> int:
    """Bytes of a safetensors file of all parameters and buffers, pruned weights packed as a run saves them."""
    held = dict([*network.named_parameters(), *network.named_buffers()])
    tensors = {k: v.clone().contiguous() for k, v in pruning.packed(held).items() if isinstance(v, Tensor)}
    return len(safetensors.torch.save(tensors))


def latencies(networks: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[float]:
    """The time of each network on its inputs, over the first one's: medians over rounds in which each has its turn.

    One thread; what else the machine does at a time is done to all networks alike.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        turns = list(zip(networks, inputs, strict=True))
        for turn in turns:
            _seconds(*turn)  # the first call allocates
        rounds: list[list[float]] = []
        began = time.perf_counter()
        while len(rounds) < ROUNDS[0] or (len(rounds) < ROUNDS[1] and time.perf_counter() - began < SECONDS):
            rounds.append([_seconds(*turn) for turn in turns])
    finally:
        torch.set_num_threads(threads)
    return [statistics.median(seconds[place] / seconds[0] for seconds in rounds) for place in range(len(networks))]


def _seconds(network: nn.Module, inputs: Tensor) -> float:
    began = time.perf_counter()
    network(inputs)
    return time.perf_counter() - began


# ---- shown


def show(rows: Sequence[Row]) -> None:
    """The table on the terminal; on a pipe nothing is cut."""
    first = rows[0]
    lines = [
        [
            str(row.run),
            row.method,
            row.backbone,
            number(row.accuracy),
            *(f"{short(value)} ({value / max(base, 1):.2f})" for value, base in zip(row[4:7], first[4:7], strict=True)),
            *(number(row.latency[batch], digits=2) for batch in BATCHES),
        ]
        for row in rows
    ]
    counts = [f"latency of {batch}" for batch in BATCHES]
    print_table(["run", "method", "backbone", "accuracy", "parameters", "MACs", "bytes", *counts], lines)


def print_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Text to the left in the first column, what is measured to the right."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, heading in enumerate(headings):
        shown.add_column(Text(heading), justify="right" if place else "left", overflow="fold")
    for line in lines:
        shown.add_row(*map(Text, line))
    screen = Screen(highlight=False)
    (screen if screen.is_terminal else Screen(width=WIDE, highlight=False)).print(shown)


def short(value: int) -> str:
    """Three digits and a unit: 1.23 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {unit}"
    return str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dafw.cost", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="the folder of a finished run; ratios are to the first")
    parsed = parser.parse_args(arguments)
    console = Console()
    try:
        if not parsed.runs:
            raise UsageError("no run given; expected python -m dafw.cost RUN [RUN ...], with folders of finished runs")
        rows = table(parsed.runs)
    except UsageError as error:
        console.error(str(error))
        return 2
    show(rows)
    console.note("in brackets, and latencies (one CPU thread, in turns): ratios to the first run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
