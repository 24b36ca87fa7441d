"""DANN: its terms against NumPy, and which way its gradients point."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dafw.classifier import Classifier
from dafw.methods.dann import DANN
from dafw.setting import Batch, Progress


@pytest.fixture
def method(model: Classifier) -> DANN:
    torch.manual_seed(1)
    return DANN(model, weight=0.7, hidden=5)


def at(fraction: float) -> Progress:
    return Progress(step=int(10 * fraction), steps=10, fraction=fraction, epoch=0)


class Seen(list[Tensor]):
    """The features of source and target, each from a forward pass of its own."""

    @property
    def values(self) -> Tensor:
        return torch.cat([part.detach() for part in self])

    @property
    def grad(self) -> Tensor:
        return torch.cat([torch.zeros_like(part) if part.grad is None else part.grad for part in self])


def run(method: DANN, batch: Batch, fraction: float) -> tuple[dict[str, Tensor], Seen]:
    """The terms, and the features that they were computed from, which keep their gradient."""
    seen = Seen()
    method.discriminator.eval()  # no unit is dropped: see the test of the layer

    def keep(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    hook = method.model.bottleneck.register_forward_hook(keep)
    terms = method.losses(batch, at(fraction))
    hook.remove()
    assert [len(part) for part in seen] == [6, 6]  # batch norm sees one domain at a time
    return terms, seen


def domain_loss(method: DANN, features: Tensor) -> Tensor:
    is_source = torch.tensor([1.0] * 6 + [0.0] * 6)
    return method.weight * functional.binary_cross_entropy_with_logits(method.discriminator(features), is_source)


def test_terms_equal_numpy(method: DANN, batch: Batch) -> None:
    terms, features = run(method, batch, 0.5)
    f = features.values.double().numpy()

    parameters = {name: p.detach().double().numpy() for name, p in method.named_parameters()}

    def layer(x: np.ndarray, name: str) -> np.ndarray:
        return x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]

    logits = layer(f[:6], "model.head")
    labels = batch.source.labels.tolist()
    cross_entropy = [math.log(sum(math.exp(x) for x in row)) - row[y] for row, y in zip(logits, labels, strict=True)]
    assert terms["classification"].item() == pytest.approx(np.mean(cross_entropy), abs=1e-5)

    hidden = np.maximum(layer(f, "discriminator.0"), 0)
    hidden = np.maximum(layer(hidden, "discriminator.3"), 0)
    p = 1 / (1 + np.exp(-layer(hidden, "discriminator.6")[:, 0]))
    expected = -0.7 * (np.log(p[:6]).sum() + np.log(1 - p[6:]).sum()) / 12
    assert terms["domain"].item() == pytest.approx(expected, abs=1e-5)
    assert terms.keys() == {"classification", "domain"}
    accuracy = (np.sum(p[:6] > 0.5) + np.sum(p[6:] <= 0.5)) / 12
    assert method.pop_logged()["discriminator_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_features_get_minus_lambda_times_the_discriminators_gradient(
    method: DANN, batch: Batch, fraction: float
) -> None:
    terms, features = run(method, batch, fraction)
    terms["domain"].backward()
    leaf = features.values.requires_grad_()
    domain_loss(method, leaf).backward()
    strength = 2 / (1 + math.exp(-10 * fraction)) - 1
    assert leaf.grad is not None
    assert leaf.grad.abs().max() > 1e-4
    torch.testing.assert_close(features.grad, -strength * leaf.grad, atol=1e-8, rtol=1e-5)


def test_at_the_start_only_the_discriminator_learns(method: DANN, batch: Batch) -> None:
    terms, features = run(method, batch, 0.0)
    terms["domain"].backward()
    assert (features.grad == 0).all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.discriminator.parameters())


def test_the_two_sides_oppose_each_other(method: DANN, batch: Batch) -> None:
    terms, features = run(method, batch, 0.5)
    terms["domain"].backward()
    with torch.no_grad():
        assert domain_loss(method, features.values - 10 * features.grad) > terms["domain"] + 1e-4
        for parameter in method.discriminator.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)
        assert domain_loss(method, features.values) < terms["domain"] - 1e-4


def test_both_domains_move_the_features(method: DANN, batch: Batch) -> None:
    terms, features = run(method, batch, 0.5)
    terms["domain"].backward()
    assert (features.grad.abs().amax(1) > 0).all()


def test_the_head_learns_from_the_classification_alone(method: DANN, batch: Batch) -> None:
    terms, _ = run(method, batch, 0.5)
    (of_domain,) = torch.autograd.grad(terms["domain"], method.model.head.weight, retain_graph=True, allow_unused=True)
    (of_class,) = torch.autograd.grad(terms["classification"], method.model.head.weight)
    assert of_domain is None
    assert of_class.abs().max() > 0
