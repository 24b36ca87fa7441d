"""The loop. It knows no method's name, no modality and no target label."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dafw.errors import TrainingError, UsageError
from dafw.method import Method
from dafw.pair import Data, Pair
from dafw.setting import Output, Progress, Step
from dafw.split import mixed_seed


@dataclass(frozen=True)
class Training:
    """How a run is trained. steps: batches; batch_size: examples of each part of a batch."""

    steps: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    weight_decay: float
    precision: str


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda fraction: 0.5 * (1 + math.cos(math.pi * fraction)),  # Loshchilov and Hutter 2017
    "inverse": lambda fraction: (1 + 10 * fraction) ** -0.75,  # Ganin et al. 2016, section 5.2.2
    "step": lambda fraction: 0.1 ** ((fraction >= 0.5) + (fraction >= 0.75)),  # He et al. 2016, section 4.2
}

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, nesterov=True, **options),
    # one pass over the weights, where the default makes seven
    "adamw": lambda groups, **options: torch.optim.AdamW(groups, fused=True, **options),
}


@dataclass(frozen=True)
class Fitted:
    """What training leaves beside the method itself.

    answers: for test-time methods, rows of the test split and logits, as they were given on the stream
    """

    steps: int
    examples: int
    answers: tuple[Tensor, Tensor] | None


def fit(
    method: Method,
    pair: Pair,
    data: Data,
    training: Training,
    *,
    log_every: int,
    eval_every: int,
    on_log: Callable[[int, dict[str, float], float], None],
    on_evaluate: Callable[[int], None],
) -> Fitted:
    """Train a method that has been set up, then let it finish.

    on_log(step, means since the last call, examples a second); on_evaluate(step) at every evaluation point and at the
    end. Raises TrainingError, before the next evaluation point, when a loss is not finite.
    """
    steps = total_steps(method, pair, training)
    examples = 0
    answers: list[tuple[Tensor, Tensor]] = []
    if steps:
        optimizer = make_optimizer(method, training)
        rates = [group["lr"] for group in optimizer.param_groups]
        batches = pair.batches(training.batch_size)
        half = training.precision == "bf16"  # a disabled autocast is not free
        pending: list[tuple[int, dict[str, Tensor]]] = []
        since, examples_since = time.perf_counter(), 0
        method.train()
        for step in range(steps):
            seed_device(mixed_seed(pair.seed, "step", step), pair.device)  # dropout: resume needs only the step
            progress = Progress(step, steps, step / steps, step // batches)
            if step % batches == 0:
                method.prepare(data, progress)
            batch = pair.batch(step, training.batch_size)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * SCHEDULES[training.schedule](progress.fraction)
            with torch.autocast(pair.device.type, torch.bfloat16) if half else nullcontext():
                losses, answer = run_updates(method, method.update(batch, progress), optimizer)
            if pair.stream:
                answers.append((batch.target.index, given(answer, method).logits.detach()))
            pending.append((step, losses))
            seen = sum(len(part) for part in batch if part is not None)
            examples, examples_since = examples + seen, examples_since + seen
            last = step + 1 == steps
            if (step + 1) % log_every == 0 or last or (step + 1) % eval_every == 0:
                values = means(pending)
                values["lr"] = max(group["lr"] for group in optimizer.param_groups)
                values.update({name: float(value) for name, value in method.pop_logged().items()})
                now = time.perf_counter()
                on_log(step + 1, values, examples_since / max(now - since, 1e-9))
                pending, examples_since = [], 0
                if (step + 1) % eval_every == 0 and not last:
                    on_evaluate(step + 1)
                since = time.perf_counter()
    method.finish(data)
    on_evaluate(steps)
    recorded = tuple(torch.cat(parts).cpu() for parts in zip(*answers, strict=True)) if answers else None
    return Fitted(steps, examples, recorded)  # type: ignore[arg-type]


def seed_device(seed: int, device: torch.device) -> None:
    """torch.manual_seed for the CPU and this device alone.

    That one also writes down a stack trace for each kind of device that is not there, which took .6 ms at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def total_steps(method: Method, pair: Pair, training: Training) -> int:
    """0 for closed forms, one pass for a test stream, else what the config says."""
    if method.steps is not None:
        return method.steps
    return pair.batches(training.batch_size) if pair.stream else training.steps


def run_updates(
    method: Method, updates: Iterable[Step], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], Output | None]:
    """One optimiser step for each `Step` of a batch; the terms of all of them, and the answer returned at the end."""
    terms: dict[str, Tensor] = {}
    iterator = iter(updates)
    while True:
        try:
            step = next(iterator)
        except StopIteration as stop:
            return terms, stop.value
        optimizer.zero_grad(set_to_none=True)
        total = torch.stack([loss.float() for loss in step.losses.values()]).sum()
        parameters = moving(method, step.only, optimizer)
        if not parameters:
            raise UsageError(
                f"a step of {type(method).__name__} moves {', '.join(step.only)}, which has nothing to train here; "
                "expected a network that can move, as with backbone.feature_dim=128"
            )
        total.backward(inputs=parameters)
        optimizer.step()
        terms.update({name: loss.detach() for name, loss in step.losses.items()})


def moving(method: Method, only: tuple[str, ...], optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The optimiser's parameters that this step moves: those of the named submodules, all where none is named."""
    # a method may hand over a whole network of which some layers stand still (backbone.layers=1)
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    if not only:
        return parameters
    chosen = {id(p) for name in only for p in method.get_submodule(name).parameters()}
    return [p for p in parameters if id(p) in chosen]


def means(pending: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """The mean of each term since the last call, as `loss/<term>`; one synchronisation with the device.

    Raises TrainingError naming the first term and step that is not finite.
    """
    names = sorted({name for _, losses in pending for name in losses})
    values: dict[str, float] = {}
    wrong: list[tuple[int, str, float]] = []
    for name in names:
        steps = [step for step, losses in pending if name in losses]
        terms = torch.stack([losses[name].float() for _, losses in pending if name in losses]).cpu()
        wrong += [(steps[i], name, terms[i].item()) for i in (~torch.isfinite(terms)).nonzero().flatten().tolist()[:1]]
        values[f"loss/{name}"] = terms.mean().item()
    if wrong:
        step, name, value = min(wrong, key=lambda found: found[0])  # the others may have caught it
        raise TrainingError(
            f"the loss {name!r} became {value} at step {step}; "
            "the last good state is kept in the run folder; try a smaller train.lr"
        )
    return values


def make_optimizer(method: Method, training: Training) -> torch.optim.Optimizer:
    """The optimiser over the method's own groups; a group's `weight_decay` goes before the config's."""
    groups: list[dict[str, Any]] = method.parameter_groups(training.lr)
    if not any(group["params"] for group in groups):
        raise UsageError(
            f"{type(method).__name__} has nothing to train here; expected a network that can move, as with "
            "backbone.feature_dim=128, or `steps = 0` declared by a method in closed form"
        )
    return OPTIMIZERS[training.optimizer](groups, lr=training.lr, weight_decay=training.weight_decay)


def check_trainable(method: Method, pair: Pair, training: Training) -> None:
    """UsageError where a split is too small, nothing can move, or batch norm would see one example."""
    if total_steps(method, pair, training) == 0:
        return
    batch_size = training.batch_size
    pair.part_sizes(batch_size)
    make_optimizer(method, training)
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in method.modules()):
        return
    smallest = min(pair.part_sizes(batch_size).values())
    if smallest == 1:
        raise UsageError(f"train.batch_size={batch_size}: batch norm needs 2 examples of each part; expected 2 or more")
    if pair.stream and len(pair.target_test) % batch_size == 1:
        raise UsageError(
            f"train.batch_size={batch_size}: the last batch of the stream of {len(pair.target_test)} has one example, "
            f"too few for batch norm; expected another size, as in train.batch_size={batch_size + 1}"
        )


def given(answer: Output | None, method: Method) -> Output:
    if answer is None:
        raise TypeError(f"{type(method).__name__}.update returned no Output; a test-time method returns its answer")
    return answer
