"""Dis²: a target accuracy that holds without a target label, if no linear critic finds a labelling that is worse.

Rosenfeld and Garg 2023, NeurIPS, "(Almost) Provable Error Bounds Under Distribution Shift via Disagreement
Discrepancy". Of all critics that agree with the model on the source, the one that disagrees most on the target shows
how wrong the model could be there. What is assumed, and cannot be tested without labels: on the target, against the
source, the true labels disagree with the model no more than this critic does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dafw.errors import UsageError
from dafw.setting import Output

FITTED = 2_000  # examples a side that the critics are fitted on, drawn at random
STARTS, EPOCHS, BATCH = 8, 25, 256
LEARNING_RATE = 0.1  # for logits of unit scale
WEIGHT_DECAY = 5e-4


class Bound(NamedTuple):
    """accuracy = max(0, source_accuracy - discrepancy - epsilon): at least this on the target, with probability
    1 - delta over the validation examples, under the paper's assumption.

    source_accuracy: on source validation
    discrepancy: the largest agreement on source validation minus agreement on target validation of a critic, at least
        0, which the model itself reaches
    epsilon: what the finite validation sets may hide
    """

    accuracy: float
    source_accuracy: float
    discrepancy: float
    epsilon: float
    delta: float


class Side(NamedTuple):
    """Logits (N, C) of one split, scaled, and the model's answers (N,)."""

    logits: Tensor
    answers: Tensor


def disagreement_bound(
    source_train: Output,
    source_validation: Output,
    source_labels: Tensor,
    target_train: Output,
    target_validation: Output,
    delta: float = 0.01,
) -> Bound:
    """The bound from a model's outputs on both sides; target labels have no place in it.

    source_labels: of source validation, (N,) int64. delta: 0.01 is the paper's.
    Critics are linear in the logits, as in the paper's main results: in the features they tell two domains apart so
    easily that the bound is 0. They are fitted on the train parts; agreement and accuracy are of the validation parts,
    as in the authors' code the largest over all starts and epochs, which can only lower the bound. Deterministic.
    Raises UsageError where a part has no example.
    """
    named = {
        "source train": source_train,
        "source validation": source_validation,
        "target train": target_train,
        "target validation": target_validation,
    }
    for name, output in named.items():
        if not len(output.logits):
            raise UsageError(f"the Dis2 bound was given no {name} example; expected some, as with tgt.validation=0.1")
    sides = _scaled(list(named.values()))
    correct = source_validation.logits.argmax(1) == source_labels.to(source_validation.logits.device)
    source_accuracy = float(correct.double().mean())
    gap = discrepancy(*sides)
    margin = epsilon(len(source_validation.logits), len(target_validation.logits), delta)
    return Bound(max(0.0, source_accuracy - gap - margin), source_accuracy, gap, margin, delta)


def epsilon(source: int, target: int, delta: float) -> float:
    """Hoeffding's margin of the main theorem for so many validation examples.

    A source example changes the sum by up to 2 (right or wrong, agreed or not), a target example by 1.
    """
    return math.sqrt((source + 4 * target) * math.log(1 / delta) / (2 * source * target))


def discrepancy(source_train: Side, source_validation: Side, target_train: Side, target_validation: Side) -> float:
    """The largest disagreement discrepancy on validation that a critic reaches on its way, at least 0."""
    largest = 0.0
    for weight, bias in _critics(source_train, target_train):
        gap = agreement(source_validation, weight, bias) - agreement(target_validation, weight, bias)
        largest = max(largest, float(gap.max()))
    return largest


def agreement(side: Side, weight: Tensor, bias: Tensor) -> Tensor:
    """The share of examples on which each of K critics, (K, C, C) and (K, 1, C), answers as the model: (K,)."""
    return ((side.logits @ weight + bias).argmax(2) == side.answers).double().mean(1)


def critic_loss(source: Side, target: Side, weight: Tensor, bias: Tensor) -> Tensor:
    """Of each critic: cross-entropy with the model's answers on the source plus `disagreement_loss` on the target."""
    critics = len(weight)
    ours, theirs = source.logits @ weight + bias, target.logits @ weight + bias  # (K, B, C)
    agree = functional.cross_entropy(ours.flatten(0, 1), source.answers.repeat(critics), reduction="none")
    disagree = disagreement_loss(theirs.flatten(0, 1), target.answers.repeat(critics))
    return agree.view(critics, -1).mean(1) + disagree.view(critics, -1).mean(1)


def disagreement_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """The paper's disagreement logistic loss, without its constant 1 / log 2: log(1 + exp(margin)), (N,).

    The margin is the logit of the answer to be avoided minus the mean of the other classes' logits.
    """
    avoided = logits.gather(1, answers[:, None]).squeeze(1)
    others = (logits.sum(1) - avoided) / (logits.shape[1] - 1)
    return functional.softplus(avoided - others)


def _critics(source: Side, target: Side) -> Iterator[tuple[Tensor, Tensor]]:
    """The critics after each epoch of AdamW, from random starts."""
    classes = source.logits.shape[1]
    draws = torch.Generator().manual_seed(0)
    source, target = (_drawn(side, draws) for side in (source, target))

    def start(*shape: int) -> Tensor:
        values = torch.empty(shape).uniform_(-1, 1, generator=draws) / math.sqrt(classes)
        return values.to(source.logits.device).requires_grad_()

    weight, bias = start(STARTS, classes, classes), start(STARTS, 1, classes)
    optimiser = torch.optim.AdamW([weight, bias], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    count = max(len(source.answers), len(target.answers))
    for _ in range(EPOCHS):
        passes = [_pass(side, count, draws) for side in (source, target)]
        for ours, theirs in zip(*passes, strict=True):
            optimiser.zero_grad()
            with torch.enable_grad():
                critic_loss(ours, theirs, weight, bias).sum().backward()
            optimiser.step()
        yield weight.detach(), bias.detach()


def _pass(side: Side, count: int, draws: torch.Generator) -> list[Side]:
    """Batches of `count` rows in random order; the smaller side is seen more than once, each row as often."""
    repeats = [torch.randperm(len(side.answers), generator=draws) for _ in range(-(-count // len(side.answers)))]
    rows = torch.cat(repeats)[:count].split(BATCH)
    return [Side(side.logits[r], side.answers[r]) for r in rows]


def _drawn(side: Side, draws: torch.Generator) -> Side:
    chosen = torch.randperm(len(side.answers), generator=draws)[:FITTED]
    return Side(side.logits[chosen], side.answers[chosen])


def _scaled(outputs: list[Output]) -> list[Side]:
    """Logits shifted and scaled by what the source's training logits are, so that one learning rate serves all."""
    logits = outputs[0].logits.float()
    mean = logits.mean(0)
    scale = (logits - mean).square().mean().sqrt().clamp_min(1e-12)
    return [Side(((o.logits.float() - mean) / scale).detach(), o.logits.argmax(1)) for o in outputs]
