import numpy as np
import pytest
import torch
from by_hand import bias_gradient, cross_entropy, gradient

from dafw.methods.target_supervised import TargetSupervised
from dafw.registry import METHODS
from dafw.setting import Setting


def test_is_the_cross_entropy_of_the_labelled_target(model, batch, progress):
    loss = TargetSupervised(model).losses(batch, progress)
    logits = model(batch.shots.inputs).logits
    assert loss["classification"].item() == pytest.approx(cross_entropy(logits, batch.shots.labels), abs=1e-5)
    assert list(loss) == ["classification"]


def test_never_looks_at_the_source(model, batch, progress):
    alone = TargetSupervised(model).losses(batch._replace(source=None, target=None), progress)["classification"]
    assert torch.equal(alone, TargetSupervised(model).losses(batch, progress)["classification"])


def test_the_gradient_is_probability_minus_label(model, batch, progress):
    loss = TargetSupervised(model).losses(batch, progress)["classification"]
    by_hand = bias_gradient(model(batch.shots.inputs).logits, batch.shots.labels)
    np.testing.assert_allclose(gradient(loss, model.head.bias), by_hand, atol=1e-6)


def test_is_registered():
    assert METHODS.get("target_supervised") is TargetSupervised
    assert TargetSupervised.setting is Setting.TARGET_SUPERVISED
    assert (TargetSupervised.start, TargetSupervised.steps) == ("init", None)
