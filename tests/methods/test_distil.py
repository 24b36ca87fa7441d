"""Distillation: its terms against loops, what the student is shown, and a teacher that is neither trained nor saved."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import by_hand
import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.methods.distil import Distil, soft_label_divergence
from dafw.setting import Batch, Examples, Progress, Teacher
from dafw.trainer import Training, make_optimizer, run_updates

TRAINING = Training(8, 6, "sgd", 0.05, "constant", 0.0, "fp32")


def slow_divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T^2 times the mean of sum_k q_k (log q_k - log p_k), one example and one class after the other."""
    p, q = (by_hand.probabilities(logits / temperature) for logits in (student, teacher))
    total = 0.0
    for i in range(len(p)):
        for k in range(p.shape[1]):
            total += q[i, k] * (np.log(q[i, k]) - np.log(p[i, k]))
    return temperature**2 * total / len(p)


@pytest.fixture
def teacher() -> Classifier:
    """Another network than the student's, whose features are as wide; its running statistics are not the batch's."""
    return made_teacher(8)


def made_teacher(feature_dim: int) -> Classifier:
    torch.manual_seed(7)
    network = Classifier(ConvNet(1, 3), 3, feature_dim=feature_dim)
    network.train()
    network(torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(8)))
    return network.eval().requires_grad_(False)


def set_up(model: Classifier, teacher: Classifier, **values: Any) -> Distil:
    """The method with a stand-in for a run in the folder "runs/it"."""

    def of_run(path: Path) -> Teacher:
        assert path == Path("runs/it")
        return Teacher(lambda examples: teacher(examples.inputs), teacher.feature_dim)

    method = Distil(model, teacher=Path("runs/it"), **values)
    method.setup(SimpleNamespace(teacher=of_run))  # type: ignore[arg-type]
    return method


@pytest.fixture
def unlabelled(batch: Batch) -> Any:
    """What the setting shows: no source, no shots."""
    return batch._replace(source=None, shots=None)  # type: ignore[arg-type]


# ---- the mathematics


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_equals_a_slow_one(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn((5, 4), generator=generator) for _ in range(2))
    found = soft_label_divergence(student, teacher, temperature)
    assert found.shape == ()
    assert found.item() == pytest.approx(slow_divergence(student, teacher, temperature), rel=1e-5)
    assert found.item() != pytest.approx(slow_divergence(teacher, student, temperature), rel=1e-2)  # it has a direction
    assert soft_label_divergence(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


def test_its_gradient_is_that_of_the_cross_entropy_with_soft_labels() -> None:
    """Hinton et al. 2015, eq. 2 times T^2: T (p - q) for each example."""
    generator = torch.Generator().manual_seed(2)
    student, teacher = (3 * torch.randn((5, 4), generator=generator) for _ in range(2))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_label_divergence(student, teacher, 3.0), student)
    p, q = (by_hand.probabilities(logits / 3) for logits in (student, teacher))
    np.testing.assert_allclose(gradient.numpy(), 3 * (p - q) / 5, atol=1e-6)


def test_hot_logits_of_mean_zero_are_matched_themselves() -> None:
    """Hinton et al. 2015, eq. 4 times T^2: (z - v) / classes, whatever the temperature, once it is high."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn((5, 4), generator=generator) for _ in range(2))
    student, teacher = (logits - logits.mean(1, keepdim=True) for logits in (student, teacher))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_label_divergence(student, teacher, 500.0), student)
    np.testing.assert_allclose(gradient.numpy(), (student.detach() - teacher).numpy() / 4 / 5, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_none(model: Classifier, temperature: float) -> None:
    with pytest.raises(UsageError, match=rf"method.temperature={temperature:g}: expected a positive number"):
        Distil(model, teacher=Path("runs/it"), temperature=temperature)


# ---- the terms


@pytest.mark.parametrize("feature_dim", [8, 5])
def test_terms_equal_loops(model: Classifier, unlabelled: Batch, progress: Progress, feature_dim: int) -> None:
    teacher = made_teacher(feature_dim)
    method = set_up(model, teacher, temperature=2.0, logits_weight=0.5, features_weight=3.0)
    method.train()
    inputs = unlabelled.target.inputs
    theirs = teacher(inputs)
    ours = copy.deepcopy(model).train()(inputs)  # by the batch's statistics, as a student is trained
    terms = method.losses(unlabelled, progress)
    assert terms.keys() == {"logits", "features"}
    assert terms["logits"].item() == pytest.approx(0.5 * slow_divergence(ours.logits, theirs.logits, 2.0), rel=1e-4)
    features = ours.features.detach().double().numpy()
    if feature_dim != 8:
        weight, bias = (p.detach().double().numpy() for p in method.regressor.parameters())
        features = features @ weight.T + bias
    squares = [(features[i, j] - theirs.features[i, j].item()) ** 2 for i in range(6) for j in range(feature_dim)]
    assert len(squares) == 6 * feature_dim
    assert terms["features"].item() == pytest.approx(3 * sum(squares) / len(squares), rel=1e-4)
    agreed = (ours.logits.argmax(1) == theirs.logits.argmax(1)).float().mean().item()
    assert float(method.pop_logged()["agreement"]) == pytest.approx(agreed)


def test_a_regressor_stands_only_between_features_of_different_widths(model: Classifier, teacher: Classifier) -> None:
    assert not list(set_up(model, teacher).regressor.parameters())
    regressor = set_up(model, made_teacher(5)).regressor
    assert {name: tuple(p.shape) for name, p in regressor.named_parameters()} == {"weight": (5, 8), "bias": (5,)}


def test_both_are_shown_the_same_view_of_the_target(
    model: Classifier, teacher: Classifier, unlabelled: Batch, progress: Progress
) -> None:
    seen: list[Tensor] = []
    for network in (model, teacher):
        network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    asked: list[str] = []
    target = unlabelled.target

    def draw(view: str, number: int) -> Tensor:
        asked.append(view)
        return target._draw(view, number)

    examples = Examples(draw, target.index, target.domain)
    set_up(model, teacher).losses(unlabelled._replace(target=examples), progress)  # type: ignore[arg-type]
    assert asked == ["weak"]
    assert len(seen) == 2
    assert seen[0] is seen[1]


# ---- the teacher


def test_the_teacher_is_neither_trained_nor_saved(
    model: Classifier, teacher: Classifier, unlabelled: Batch, progress: Progress
) -> None:
    method = set_up(model, teacher)
    own = {name for name, _ in model.named_parameters()}
    assert {name.removeprefix("model.") for name, _ in method.named_parameters()} == own
    assert {name.removeprefix("model.") for name in method.state_dict()} == model.state_dict().keys()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(method, TRAINING)
    method.train()
    for _ in range(3):
        run_updates(method, method.update(unlabelled, progress), optimizer)
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(torch.equal(value, student[name]) for name, value in model.state_dict().items())


def test_each_term_brings_the_student_nearer(unlabelled: Batch, progress: Progress) -> None:
    for term in ("logits", "features"):
        torch.manual_seed(0)
        other = {"logits": "features_weight", "features": "logits_weight"}[term]
        method = set_up(Classifier(ConvNet(1, 2), 3, feature_dim=8), made_teacher(5), **{other: 0.0})
        optimizer = make_optimizer(method, TRAINING)
        method.train()
        found = [run_updates(method, method.update(unlabelled, progress), optimizer)[0][term].item() for _ in range(60)]
        assert found[-1] < 0.3 * found[0], term


def test_a_state_goes_into_another_student(model: Classifier, unlabelled: Batch, progress: Progress) -> None:
    """The regressor is part of it: training goes on where it stopped."""
    first = set_up(copy.deepcopy(model), made_teacher(5))
    optimizer = make_optimizer(first, TRAINING)
    run_updates(first, first.update(unlabelled, progress), optimizer)
    torch.manual_seed(99)
    second = set_up(model, made_teacher(5))
    second.load_state_dict(first.state_dict())
    for method in (first, second):
        method.train()
    one, other = (method.losses(unlabelled, progress) for method in (first, second))
    assert {name: loss.item() for name, loss in one.items()} == {name: loss.item() for name, loss in other.items()}
