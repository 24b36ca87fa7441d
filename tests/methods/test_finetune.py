import numpy as np
import pytest
import torch
from by_hand import bias_gradient, cross_entropy, gradient

from dafw.methods.finetune import Finetune
from dafw.registry import METHODS
from dafw.setting import Setting


def test_is_the_cross_entropy_of_the_shots(model, batch, progress):
    loss = Finetune(model).losses(batch, progress)
    logits = model(batch.shots.inputs).logits
    assert loss["classification"].item() == pytest.approx(cross_entropy(logits, batch.shots.labels), abs=1e-5)
    assert list(loss) == ["classification"]


def test_sees_the_shots_alone(model, batch, progress):
    alone = Finetune(model).losses(batch._replace(source=None, target=None), progress)["classification"]
    assert torch.equal(alone, Finetune(model).losses(batch, progress)["classification"])


def test_the_gradient_is_probability_minus_label(model, batch, progress):
    loss = Finetune(model).losses(batch, progress)["classification"]
    by_hand = bias_gradient(model(batch.shots.inputs).logits, batch.shots.labels)
    np.testing.assert_allclose(gradient(loss, model.head.bias), by_hand, atol=1e-6)


def test_every_parameter_moves_the_loaded_ones_at_a_tenth_of_the_rate(model, batch, progress):
    model.pretrained = frozenset(name for name, _ in model.named_parameters() if not name.startswith("head."))
    method = Finetune(model)
    loaded, new = method.parameter_groups(0.1)
    assert (loaded["lr"], new["lr"]) == (pytest.approx(0.01), 0.1)
    assert {id(p) for p in new["params"]} == {id(model.head.weight), id(model.head.bias)}
    assert len(loaded["params"]) + len(new["params"]) == len(list(model.parameters()))
    method.losses(batch, progress)["classification"].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_is_registered():
    assert METHODS.get("finetune") is Finetune
    assert (Finetune.setting, Finetune.start, Finetune.steps) == (Setting.TRANSFER, "init", None)
