"""MixVal and reverse validation: those that run the model, or a fresh one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from made_evidence import Flat, evidence, fresh_classifier, logits_of, three_models
from torch import Tensor

from dafw.evidence import Evidence
from dafw.setting import Output
from dafw.split import generator
from dafw.validators import mixval as mixval_module
from dafw.validators.mixval import mixval
from dafw.validators.reverse import _train, reverse


def slow_mixval(seen: Evidence) -> float:
    """Hu et al. 2023 one pair at a time: mixtures of 0.55 and 0.45, the label that of the larger part."""
    labels, inputs = seen.target.logits.argmax(1).tolist(), seen.target_inputs().double()
    order = torch.randperm(len(labels), generator=generator("mixval")).tolist()
    between = [(a, b) for a, b in zip(order, reversed(order), strict=True) if labels[a] != labels[b]]
    within: list[tuple[int, int]] = []
    for c in set(labels):
        members = [i for i in order if labels[i] == c]
        within += itertools.pairwise(members)

    def share(pairs: list[tuple[int, int]]) -> float:
        hits = [
            int(seen.predict((0.55 * inputs[a] + 0.45 * inputs[b])[None].float()).logits.argmax(1)) == labels[a]
            for a, b in pairs
        ]
        return sum(hits) / len(hits) if hits else 0.0

    return (share(within) + share(between)) / 2


def of_predict(predict: Callable[[Tensor], Output], inputs: Tensor) -> Evidence:
    output = predict(inputs)
    return evidence(output, output.logits.argmax(1), output, inputs=(inputs, inputs), predict=predict)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mixval_equals_the_loops_over_pairs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(seed)
    first, second = torch.randn(5, 16, generator=draws), torch.randn(16, 4, generator=draws)

    def network(x: Tensor) -> Output:
        hidden = torch.sin(3 * x @ first)
        return Output(hidden, hidden @ second)

    seen = of_predict(network, torch.randn(41, 5, generator=draws))
    expected = slow_mixval(seen)
    assert 0.2 < expected < 0.95
    assert mixval(seen) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(mixval_module, "BATCH", 7)
    assert mixval(seen) == pytest.approx(expected, abs=1e-6)


def test_mixval_turns_images_into_floats_before_it_mixes() -> None:
    images = torch.randint(0, 256, (30, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    given: list[Tensor] = []

    def network(x: Tensor) -> Output:
        given.append(x)
        flat = x.float().flatten(1) / (255 if x.dtype == torch.uint8 else 1)
        return Output(flat, flat)

    seen = evidence(None, None, network(images), predict=network, inputs=(torch.zeros(1, 4), images.flatten(1)))
    given.clear()
    value = mixval(seen)
    assert 0 < value < 1
    assert all(x.is_floating_point() and x.max() <= 1 for x in given)


def test_mixval_of_a_collapsed_or_a_lone_model_gains_nothing() -> None:
    models = three_models()
    assert mixval(models["collapsed"]) == 0.5  # all of one class is consistent within it, and there is no other
    lone = evidence(None, None, Output(torch.ones(1, 2), torch.ones(1, 2)))
    assert mixval(lone) == 0
    assert mixval(models["right"]) > 0.85
    assert max(models, key=lambda name: mixval(models[name])) == "right"


def test_mixval_between_classes_sees_a_boundary_that_is_off() -> None:
    """Two clusters on a line: only a boundary midway puts both kinds of mixtures on their side."""
    x = torch.cat([torch.full((20, 1), -1.0), torch.full((20, 1), 1.0)])

    def at(boundary: float) -> Callable[[Tensor], Output]:
        return lambda inputs: Output(inputs, torch.cat([boundary - inputs, inputs - boundary], 1))

    assert mixval(of_predict(at(0.0), x)) == 1
    assert mixval(of_predict(at(0.5), x)) == 0.75  # the right cluster's mixtures fall on the wrong side


def two_gaussians(count: int, seed: int, shift: float) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return 3 * torch.eye(3, 5)[labels] + 0.7 * torch.randn(count, 5, generator=draws) + shift, labels


def reversed_evidence(predicted: Tensor) -> Evidence:
    inputs, labels = two_gaussians(60, 1, 0.0)
    target, _ = two_gaussians(48, 2, 0.3)
    source = Output(inputs, torch.zeros(60, 3))
    return evidence(source, labels, Output(target, logits_of(predicted, 3, 1.0)), inputs=(inputs, target))


def test_reverse_prefers_right_labels_to_wrong_ones_and_to_one_class() -> None:
    labels = torch.arange(48) % 3
    right = reverse(reversed_evidence(labels))
    unrelated = reverse(reversed_evidence((labels + torch.arange(48) // 3) % 3))  # each class gets all labels alike
    collapsed = reverse(reversed_evidence(torch.zeros(48, dtype=torch.long)))
    assert right > 0.85
    assert unrelated < 0.7
    assert collapsed < 0.7
    assert reverse(reversed_evidence((labels + 1) % 3)) < 0.3  # consistently wrong labels teach wrong answers


def test_reverse_equals_the_steps_written_out() -> None:
    """Adam by its equations (Kingma and Ba 2015, algorithm 1), on a fresh classifier without dropout."""
    seen = reversed_evidence(torch.arange(48) % 3)
    fresh = fresh_classifier(5, 3)
    fresh.bottleneck.get_submodule("3").p = 0.0  # type: ignore[assignment]
    model = fresh_classifier(5, 3)
    model.load_state_dict(fresh.state_dict())
    model.bottleneck.get_submodule("3").p = 0.0  # type: ignore[assignment]
    model.train().requires_grad_(True)
    parameters = list(model.parameters())
    first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
    draws, inputs, labels = generator("reverse"), seen.target_inputs(), torch.arange(48) % 3
    for step in range(1, 101):
        rows = torch.randint(48, (32,), generator=draws)
        log_p = model(inputs[rows]).logits.log_softmax(1)
        gradients = torch.autograd.grad(-log_p[torch.arange(32), labels[rows]].mean(), parameters)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p.sub_(1e-3 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    found = copy.deepcopy(fresh)
    _train(found, inputs, labels)
    for a, b in zip(found.parameters(), parameters, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    model.eval()
    expected = (model(seen.source_inputs()).logits.argmax(1) == seen.source_labels).double().mean()
    object.__setattr__(seen, "fresh_model", lambda: fresh)
    assert 1 / 3 < float(expected) <= 1
    assert reverse(seen) == pytest.approx(float(expected), abs=1e-6)


def test_reverse_leaves_the_fresh_model_as_it_was() -> None:
    seen = reversed_evidence(torch.arange(48) % 3)
    fresh = fresh_classifier(5, 3)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    object.__setattr__(seen, "fresh_model", lambda: fresh)
    with torch.no_grad():  # as an evaluation may call it
        reverse(seen)
    assert all(torch.equal(before[k], v) for k, v in fresh.state_dict().items())
    assert not fresh.training
    assert not any(p.requires_grad for p in fresh.parameters())
    assert isinstance(fresh.backbone, Flat)
