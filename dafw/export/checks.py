"""An exported file is asked what the run was asked, before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dafw import assembly
from dafw.answering import Finished
from dafw.errors import UsageError
from dafw.split import Split, to_float

BATCH = 64  # examples asked at once; every file takes any number
DRAWN = 64  # random inputs that a file is checked on where there are no examples

Answer = Callable[[Tensor], Tensor]  # inputs (B, ...) → logits (B, classes)


class Checked(NamedTuple):
    """One file.

    accuracy: on target test, None without examples; difference: of a probability from the run's, at most
    """

    name: str
    bytes: int
    accuracy: float | None
    difference: float


class Examples(NamedTuple):
    """What a file is checked on.

    inputs (N, ...): as held; labels (N,): None where they are drawn; wanted (N, classes): the run's probabilities
    note: in words
    """

    inputs: Tensor
    labels: Tensor | None
    wanted: Tensor
    note: str


def answer_of(path: Path) -> Answer:
    """How the file answers, by what it will be asked through."""
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda inputs: module(inputs)  # type: ignore[no-any-return]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(["logits"], {"inputs": inputs.numpy()})[0])


def probabilities(answer: Answer, inputs: Tensor) -> Tensor:
    """(N, classes), asked in batches of floats as the file takes them."""
    with torch.no_grad():
        return torch.cat([answer(to_float(part)).softmax(1) for part in inputs.split(BATCH)])


def check(path: Path, answer: Answer, examples: Examples) -> Checked:
    found = probabilities(answer, examples.inputs)
    accuracy = None
    if examples.labels is not None:
        accuracy = float((found.argmax(1) == examples.labels).double().mean())
    return Checked(path.name, path.stat().st_size, accuracy, float((found - examples.wanted).abs().max()))


def examples_of(run: Finished) -> Examples:
    """Target test with the run's own predictions where both are at hand, else random inputs, and why."""

    def answer(inputs: Tensor) -> Tensor:
        return run.method.predict(inputs).logits

    split, reason = target_test(run)
    if split is None:
        inputs = run.example(DRAWN)
        note = f"checked on {DRAWN} random inputs alone, without accuracy, for target test is not at hand: {reason}"
        return Examples(inputs, None, probabilities(answer, inputs), note)
    inputs, labels, saved = split.inputs, split.labels, run.record.predictions()
    note = f"checked on {len(labels)} target test examples"
    # a stream was answered in its own order by a network that moved, and other devices round otherwise
    if np.array_equal(saved["index"], np.arange(len(labels))) and run.record.result["device"] == "cpu":
        return Examples(inputs, labels, torch.from_numpy(saved["probabilities"]), f"{note} and the run's predictions")
    return Examples(inputs, labels, probabilities(answer, inputs), f"{note} and what the run's network says now")


def target_test(run: Finished) -> tuple[Split | None, str]:
    """The examples that the run was tested on, or why they are not at hand; nothing is downloaded for it."""
    config = run.config
    src, tgt = {**config.src, "download": False}, {**config.tgt, "download": False}
    try:
        pair = assembly.input_pair(replace(config, device="cpu", src=src, tgt=tgt))
    except UsageError as error:
        return None, str(error)
    if pair.fingerprints["tgt"] != run.record.result["identity"]["data"]["tgt"]:
        return None, f"{pair.target.name} is no longer what the run was tested on"
    return (pair.target_test, "") if len(pair.target_test) else (None, f"{pair.target.name} has no test examples")
