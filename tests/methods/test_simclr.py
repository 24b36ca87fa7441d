"""SimCLR: what its loss compares, that it needs no label, and the classifier fitted at the end."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dafw.classifier import Classifier
from dafw.methods.simclr import SimCLR
from dafw.setting import Batch, Examples, Output, Progress


@pytest.fixture
def unlabelled(batch: Batch) -> Batch:
    """The batch of the setting: the source has no labels. It has fewer examples than the target here."""
    source = batch.source
    four = Examples(lambda view, n: source._draw(view, n)[:4], source.index[:4], source.domain[:4])
    return batch._replace(source=four, shots=None)  # type: ignore[arg-type]


@pytest.fixture
def method(model: Classifier) -> SimCLR:
    torch.manual_seed(1)
    return SimCLR(model, temperature=0.4, projection_dim=5)


def project(method: SimCLR, features: Tensor) -> list[list[float]]:
    layers = dict(method.projection.named_parameters())
    hidden = (features @ layers["0.weight"].T + layers["0.bias"]).clamp_min(0)
    return (hidden @ layers["2.weight"].T + layers["2.bias"]).tolist()


def test_the_loss_compares_two_views_of_source_and_target_in_one_batch(
    method: SimCLR, unlabelled: Batch, progress: Progress
) -> None:
    (source, target, _) = unlabelled
    views = [part._draw("ssl", number) for number in (1, 2) for part in (source, target)]
    z = project(method, method.model(torch.cat(views)).features)

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(z[i], z[j], strict=True)) / (math.hypot(*z[i]) * math.hypot(*z[j]))

    total = 0.0
    for i in range(20):
        positive = (i + 10) % 20
        others = sum(math.exp(similarity(i, k) / 0.4) for k in range(20) if k != i)
        total -= math.log(math.exp(similarity(i, positive) / 0.4) / others)
    terms = method.losses(unlabelled, progress)
    assert terms.keys() == {"contrastive"}
    assert terms["contrastive"].item() == pytest.approx(total / 20, abs=1e-5)


def test_each_step_draws_new_views(method: SimCLR, unlabelled: Batch, progress: Progress) -> None:
    method.eval()
    first, second = (method.losses(unlabelled, progress)["contrastive"] for _ in range(2))
    assert first != second


def test_steps_pull_the_views_of_an_example_together(method: SimCLR, unlabelled: Batch, progress: Progress) -> None:
    def separation() -> float:
        views = [torch.cat([unlabelled.source.view("ssl"), unlabelled.target.view("ssl")]) for _ in range(2)]
        a, b = (method.projection(method.predict(view).features) for view in views)
        cosine = torch.cosine_similarity(a[:, None], b[None], dim=2)
        return (cosine.diag().mean() - cosine[~torch.eye(10, dtype=torch.bool)].mean()).item()

    before = separation()
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        method.losses(unlabelled, progress)["contrastive"].backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
        optimizer.step()
    assert separation() > before + 0.1


def test_at_the_end_the_head_is_fitted_to_the_sources_features(method: SimCLR) -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand((60, 1, 8, 8), generator=generator)
    labels = torch.arange(60) % 3
    inputs[labels == 1] *= 0.5  # what tells the classes apart
    inputs[labels == 2] *= 0.1
    asked: list[Any] = []

    def outputs(asking: SimCLR) -> Output:
        asked.append(asking)
        return asking.predict(inputs)

    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.finish(SimpleNamespace(source=SimpleNamespace(outputs=outputs, labels=labels)))  # type: ignore[arg-type]
    assert asked == [method]
    after = method.state_dict()
    assert {n for n in after if not torch.equal(after[n], before[n])} == {"model.head.weight", "model.head.bias"}
    assert (method.predict(inputs).logits.argmax(1) == labels).float().mean() > 0.8


def test_more_regularisation_makes_a_smaller_head(model: Classifier) -> None:
    inputs, labels = torch.rand((30, 1, 8, 8), generator=torch.Generator().manual_seed(3)), torch.arange(30) % 3
    sizes = []
    for inverse_regularisation in (0.01, 1.0):
        method = SimCLR(model, inverse_regularisation=inverse_regularisation)
        split = SimpleNamespace(outputs=lambda asking: asking.predict(inputs), labels=labels)
        method.finish(SimpleNamespace(source=split))  # type: ignore[arg-type]
        sizes.append(method.model.head.weight.norm().item())
    assert sizes[0] < 0.5 * sizes[1]


def test_no_step_trains_the_head(method: SimCLR) -> None:
    trained = {id(p) for group in method.parameter_groups(0.1) for p in group["params"]}
    assert not any(id(p) in trained for p in method.model.head.parameters())
    assert all(id(p) in trained for p in method.projection.parameters())
