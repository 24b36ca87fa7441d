"""MCD: its three kinds of step, what each moves and which way."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.classifier import Classifier
from dafw.methods.mcd import MCD
from dafw.setting import Batch, Progress, Step

HEADS = ("model.head", "second_head")
FEATURES = ("model.backbone", "model.bottleneck")


@pytest.fixture
def method(model: Classifier) -> MCD:
    torch.manual_seed(1)
    return MCD(model, weight=0.8, generator_steps=2)


def take(method: MCD, step: Step, lr: float) -> set[str]:
    """One gradient step as the loop takes it; the names of the parameters that moved."""
    chosen = {
        name: p
        for name, p in method.named_parameters()
        if not step.only or any(name.startswith(f"{part}.") for part in step.only)
    }
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    total = torch.stack(list(step.losses.values())).sum()
    gradients = torch.autograd.grad(total, list(chosen.values()))
    with torch.no_grad():
        for parameter, gradient in zip(chosen.values(), gradients, strict=True):
            parameter.sub_(lr * gradient)
    return {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}


def named(method: MCD, *parts: str) -> set[str]:
    return {name for name, _ in method.named_parameters() if name.startswith(parts)}


def test_a_batch_is_one_step_of_all_one_of_the_heads_then_the_features(
    method: MCD, batch: Batch, progress: Progress
) -> None:
    steps = list(method.update(batch, progress))
    assert [step.only for step in steps] == [(), HEADS, FEATURES, FEATURES]
    assert [set(step.losses) for step in steps] == [
        {"classification"},
        {"classification", "disagreement"},
        {"discrepancy"},
        {"discrepancy"},
    ]
    moved = [take(method, step, 0.01) for step in method.update(batch, progress)]
    assert moved[0] == named(method, "model.", "second_head.")
    assert moved[1] == named(method, "model.head.", "second_head.")
    assert moved[2] == moved[3] == named(method, "model.backbone.", "model.bottleneck.")


def test_terms_equal_numpy(method: MCD, batch: Batch, progress: Progress) -> None:
    def both(inputs: Tensor) -> list[np.ndarray]:
        features = method.model(inputs).features.detach().double().numpy()
        heads = (method.model.head, method.second_head)
        scores = [features @ h.weight.detach().double().numpy().T + h.bias.detach().double().numpy() for h in heads]
        return [np.exp(s) / np.exp(s).sum(1, keepdims=True) for s in scores]

    labels = batch.source.labels.tolist()
    classification = sum(-math.log(p[i, y]) / 6 for p in both(batch.source.inputs) for i, y in enumerate(labels))
    first, second = both(batch.target.inputs)
    discrepancy = sum(abs(first[i, k] - second[i, k]) for i in range(6) for k in range(3)) / 18

    step_a, step_b, step_c, _ = method.update(batch, progress)  # nothing moves between them here
    assert step_a.losses["classification"].item() == pytest.approx(classification, abs=1e-5)
    assert step_b.losses["classification"].item() == pytest.approx(classification, abs=1e-5)
    assert step_b.losses["disagreement"].item() == pytest.approx(-0.8 * discrepancy, abs=1e-6)
    assert step_c.losses["discrepancy"].item() == pytest.approx(0.8 * discrepancy, abs=1e-6)


def test_each_step_goes_its_way(method: MCD, batch: Batch, progress: Progress) -> None:
    """A lowers the source's cross-entropy, B raises the discrepancy on the target, each C lowers it."""

    def measures() -> tuple[float, float]:
        return method.classification(batch).item(), method.discrepancy(batch).item()

    values = [measures()]
    for step in method.update(batch, progress):
        take(method, step, 0.01)
        values.append(measures())
    start, after_a, after_b, after_c, after_last = values
    assert after_a[0] < start[0] - 1e-4
    assert after_b[1] > after_a[1] + 1e-4
    assert after_c[1] < after_b[1] - 1e-5
    assert after_last[1] < after_c[1] - 1e-5


def test_without_weight_the_heads_learn_the_classification_alone(
    model: Classifier, batch: Batch, progress: Progress
) -> None:
    method = MCD(model, weight=0.0)
    step_b = list(method.update(batch, progress))[1]
    heads = [*method.model.head.parameters(), *method.second_head.parameters()]
    both = torch.autograd.grad(torch.stack(list(step_b.losses.values())).sum(), heads, retain_graph=True)
    one = torch.autograd.grad(step_b.losses["classification"], heads)
    assert all(torch.equal(a, b) for a, b in zip(both, one, strict=True))


def test_heads_are_drawn_apart_and_answer_together(method: MCD, batch: Batch) -> None:
    assert not torch.equal(method.second_head.weight, method.model.head.weight)
    assert method.training
    output = method.predict(batch.target.inputs)
    assert method.training
    method.eval()
    features = method.model(batch.target.inputs).features
    torch.testing.assert_close(output.features, features)
    mean = (method.model.head(features) + method.second_head(features)) / 2
    torch.testing.assert_close(output.logits, mean)
    assert not output.logits.requires_grad
    torch.testing.assert_close(method.predict(batch.target.inputs[:1]).logits, output.logits[:1])
