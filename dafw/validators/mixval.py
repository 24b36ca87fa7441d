"""Consistency of predictions on mixtures of target examples."""

import torch
from torch import Tensor

from dafw.classifier import to_float
from dafw.evidence import Evidence
from dafw.registry import register_validator
from dafw.split import generator

MIXING = 0.55  # the paper's
BATCH = 512


@register_validator(higher_is_better=True, sees=("target",), only_named=True)
def mixval(seen: Evidence) -> float:
    """How often a mixture of two target examples is given the label of the larger part (Hu et al. 2023, NeurIPS).

    A mixture is 0.55 of one input and 0.45 of another, its label the model's prediction for the first. Within a class,
    mixtures probe how dense it is; between classes, where the boundary lies. The paper ranks the candidates by either
    consistency and averages the two ranks; one model has no rank, so the mean of the two consistencies stands here
    (ours). Pairs, by a fixed shuffle: between classes the first of the list with the last, as in the authors' code;
    within a class each example with the next. A kind that has no pair counts 0, so that a model which predicts one
    class gains nothing by it. Cost: at most two forward passes over target validation.
    """
    labels = seen.target.logits.argmax(1)
    inputs = to_float(seen.target_inputs())
    order = torch.randperm(len(labels), generator=generator("mixval"))
    by_class = order[labels[order].argsort(stable=True)]
    within = _consistency(seen, inputs, labels, by_class[:-1], by_class[1:], same=True)
    between = _consistency(seen, inputs, labels, order, order.flip(0), same=False)
    return (within + between) / 2


def _consistency(seen: Evidence, inputs: Tensor, labels: Tensor, first: Tensor, second: Tensor, *, same: bool) -> float:
    """The share of the pairs of rows (P,), (P,), of one class or of two, whose mixture is predicted as the first."""
    kind = (labels[first] == labels[second]) == same
    if not kind.any():
        return 0.0
    first, second = first[kind], second[kind]
    found = [
        seen.predict(MIXING * inputs[a.to(inputs.device)] + (1 - MIXING) * inputs[b.to(inputs.device)]).logits.argmax(1)
        for a, b in zip(first.split(BATCH), second.split(BATCH), strict=True)
    ]
    return float((torch.cat(found).cpu() == labels[first]).double().mean())
