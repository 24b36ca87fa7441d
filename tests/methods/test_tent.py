"""Tent: what it answers, what it moves, and all that it must leave alone."""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from dafw.backbone import Backbone
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.method import evaluating
from dafw.methods.tent import Tent
from dafw.setting import Batch, Output, Progress, Step

AFFINE = {
    f"model.{layer}.{kind}"
    for layer in (*(f"backbone.layers.{number}" for number in (1, 4, 8, 11, 15)), "bottleneck.1")
    for kind in ("weight", "bias")
}


@pytest.fixture
def method(model: Classifier) -> Tent:
    for module in model.modules():  # statistics unlike those of any batch, as a source leaves them
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(1, 2)
    method = Tent(model)
    method.train()
    return method


def stepped(method: Tent, batch: Batch, progress: Progress, lr: float = 1e-2) -> tuple[Output, float]:
    """One batch of the stream as the loop takes it: the answer and the entropy before the step."""
    optimizer = torch.optim.AdamW(method.parameter_groups(lr), weight_decay=0.0)
    update: Generator[Step, None, Output | None] = method.update(batch, progress)
    step = next(update)
    assert step.only == ()
    loss = step.losses["entropy"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(StopIteration) as stop:
        next(update)
    return stop.value.value, loss.item()


def test_everything_but_scales_and_shifts_stays_bit_for_bit(method: Tent, batch: Batch, progress: Progress) -> None:
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for _ in range(3):
        stepped(method, batch, progress)
    after = method.state_dict()
    assert after.keys() == before.keys()
    assert {name for name in after if not torch.equal(after[name], before[name])} == AFFINE
    assert {name for name in before if "running" in name or "tracked" in name}  # they are there to be kept


def test_only_scales_and_shifts_are_trained_at_the_rate_itself(method: Tent) -> None:
    method.model.pretrained = frozenset(name for name, _ in method.model.named_parameters())
    (group,) = method.parameter_groups(0.1)
    names = {id(p): name for name, p in method.named_parameters()}
    assert {names[id(p)] for p in group["params"]} == AFFINE
    assert {name for name, p in method.named_parameters() if p.requires_grad} == AFFINE
    assert group["lr"] == 0.1


def test_the_answer_is_that_of_the_batchs_statistics_before_the_step(
    method: Tent, batch: Batch, progress: Progress
) -> None:
    bottleneck, head = method.model.bottleneck, method.model.head
    assert isinstance(bottleneck, nn.Sequential)
    with torch.no_grad():
        hidden = bottleneck[0](method.model.backbone(batch.target.inputs)).numpy()
    normalised = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    features = np.maximum(normalised, 0)  # scale 1, shift 0 at the start
    logits = features @ head.weight.numpy().T + head.bias.numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    answer, entropy = stepped(method, batch, progress, lr=1.0)
    np.testing.assert_allclose(answer.features.numpy(), features, atol=1e-5)
    np.testing.assert_allclose(answer.logits.numpy(), logits, atol=1e-5)
    assert not answer.logits.requires_grad
    assert entropy == pytest.approx(-(p * np.log(p)).sum(1).mean(), abs=1e-5)


def test_the_next_answer_has_learnt_from_this_step(method: Tent, batch: Batch, progress: Progress) -> None:
    answers, entropies = zip(*(stepped(method, batch, progress) for _ in range(5)), strict=True)
    assert not torch.equal(answers[0].logits, answers[1].logits)
    assert all(later < earlier - 1e-4 for earlier, later in pairwise(entropies))


def test_dropout_is_off_while_batch_norm_trains(batch: Batch, progress: Progress, model: Classifier) -> None:
    model = Classifier(model.backbone, 3, feature_dim=8, dropout=0.5)
    method = Tent(model)
    method.train()
    modes = {type(m).__name__: m.training for m in model.bottleneck.modules()}
    assert modes["Dropout"] is False
    assert modes["BatchNorm1d"] is True
    first, second = (next(method.update(batch, progress)).losses["entropy"] for _ in range(2))
    assert first == second


def test_prediction_uses_the_sources_statistics_and_leaves_the_modes(method: Tent, batch: Batch) -> None:
    output = method.predict(batch.target.inputs)
    torch.testing.assert_close(method.predict(batch.target.inputs[:1]).logits, output.logits[:1])
    modes = {m.training for m in method.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert modes == {True}
    with evaluating(method):
        torch.testing.assert_close(method.model(batch.target.inputs).logits, output.logits)


def test_state_goes_through_a_file(method: Tent, batch: Batch, progress: Progress, model: Classifier) -> None:
    stepped(method, batch, progress)
    torch.manual_seed(9)
    other = Tent(Classifier(type(model.backbone)(1, 2), 3, feature_dim=8))  # type: ignore[arg-type]
    other.load_state_dict(method.state_dict())
    torch.testing.assert_close(other.predict(batch.target.inputs).logits, method.predict(batch.target.inputs).logits)


class Flat(Backbone):
    """A network without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.features = 64

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)


def test_a_network_without_batch_norm_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"batch norm.*type backbone=convnet") as error:
        Tent(Classifier(Flat(), 3, feature_dim=0))
    assert "\n" not in str(error.value)
    Tent(Classifier(Flat(), 3, feature_dim=8))  # the bottleneck's will do


def test_the_recipe_is_adam() -> None:
    assert Tent.recipe["train.optimizer"] == "adamw"
    assert Tent.recipe["train.weight_decay"] == 0.0
