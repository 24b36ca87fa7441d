"""Evidence made by hand: random tensors, and models whose worth on the target is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafw.classifier import Classifier
from dafw.evidence import Evidence
from dafw.setting import Output


class Flat(nn.Module):
    """A backbone that hands its inputs (B, D) on."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def fresh_classifier(features: int, classes: int) -> Classifier:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return Classifier(Flat(features), classes, feature_dim=8, dropout=0.1).eval().requires_grad_(False)


def evidence(
    source: Any,
    source_labels: Any,
    target: Any,
    *,
    inputs: tuple[Tensor, Tensor] | None = None,
    predict: Callable[[Tensor], Output] | None = None,
) -> Evidence:
    """Evidence of these outputs, None for a split that is missing; a linear model of inputs that are the features."""
    known = target if target is not None else source
    classes = known.logits.shape[1]
    source_inputs, target_inputs = inputs or tuple((part or known).features for part in (source, target))
    weight = torch.randn(source_inputs.shape[-1], classes, generator=torch.Generator().manual_seed(9))
    fresh = fresh_classifier(target_inputs.shape[-1], classes)
    return Evidence(
        source=source,
        source_labels=source_labels,
        target=target,
        source_inputs=lambda: source_inputs,
        target_inputs=lambda: target_inputs,
        predict=predict or (lambda x: Output(x, x @ weight)),
        fresh_model=lambda: copy.deepcopy(fresh),
    )


def random_evidence(seed: int = 0, source: int = 41, target: int = 27, width: int = 6, classes: int = 4) -> Evidence:
    """Outputs that are drawn at random, the target's features shifted."""
    generator = torch.Generator().manual_seed(seed)

    def output(count: int, shift: float) -> Output:
        features = torch.randn(count, width, generator=generator) + shift
        return Output(features, 2 * torch.randn(count, classes, generator=generator))

    labels = torch.randint(classes, (source,), generator=generator)
    return evidence(output(source, 0.0), labels, output(target, 0.7))


def logits_of(labels: Tensor, classes: int, margin: float) -> Tensor:
    return margin * nn.functional.one_hot(labels, classes).float()


def three_models() -> dict[str, Evidence]:
    """One data set, three models of it: right on source and target, collapsed to one class, answering at random.

    The right one's features form a cluster a class in both domains; the collapsed one's are one point with noise, the
    random one's are noise. Their logits are as sure as each other's, and each answers as `predict`.
    """
    generator = torch.Generator().manual_seed(0)
    classes, width = 4, 6
    centres = 6 * torch.eye(classes, width)
    source_labels = torch.arange(60) % classes
    target_labels = torch.arange(40) % classes

    def noise(count: int) -> Tensor:
        return torch.randn(count, width, generator=generator)

    inputs = centres[source_labels] + noise(60), centres[target_labels] + noise(40)

    def nearest(x: Tensor) -> Output:
        return Output(x, -torch.cdist(x, centres).square() / 4)

    def collapsed(x: Tensor) -> Output:
        return Output(x[:, :1].repeat(1, width), logits_of(torch.zeros(len(x), dtype=torch.long), classes, 5.0))

    def arbitrary(x: Tensor) -> Output:
        digits = (x.double().abs().sum(1) * 1e4).long() % classes  # of the input, but of nothing it is about
        own = torch.Generator().manual_seed(7)
        return Output(torch.randn(len(x), width, generator=own), logits_of(digits, classes, 2.0))

    return {
        name: evidence(predict(inputs[0]), source_labels, predict(inputs[1]), inputs=inputs, predict=predict)
        for name, predict in {"right": nearest, "collapsed": collapsed, "random": arbitrary}.items()
    }


def softmax(logits: Tensor) -> np.ndarray:
    x = logits.double().numpy()
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def shuffled(seen: Evidence) -> Evidence:
    """The same evidence with the rows of both splits in another order."""
    generator = torch.Generator().manual_seed(11)
    first = torch.randperm(len(seen.source.features), generator=generator)
    second = torch.randperm(len(seen.target.features), generator=generator)
    return evidence(
        Output(*(t[first] for t in seen.source)), seen.source_labels[first], Output(*(t[second] for t in seen.target))
    )
