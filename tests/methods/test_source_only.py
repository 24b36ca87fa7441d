import numpy as np
import pytest
import torch
from by_hand import bias_gradient, cross_entropy, gradient

from dafw.methods.source_only import SourceOnly
from dafw.registry import METHODS
from dafw.setting import Setting


def test_is_the_cross_entropy_of_the_source(model, batch, progress):
    loss = SourceOnly(model).losses(batch, progress)
    logits = model(batch.source.inputs).logits
    assert loss["classification"].item() == pytest.approx(cross_entropy(logits, batch.source.labels), abs=1e-5)
    assert list(loss) == ["classification"]


def test_never_looks_at_the_target(model, batch, progress):
    alone = SourceOnly(model).losses(batch._replace(target=None, shots=None), progress)["classification"]
    assert torch.equal(alone, SourceOnly(model).losses(batch, progress)["classification"])


def test_the_gradient_is_probability_minus_label(model, batch, progress):
    loss = SourceOnly(model).losses(batch, progress)["classification"]
    by_hand = bias_gradient(model(batch.source.inputs).logits, batch.source.labels)
    np.testing.assert_allclose(gradient(loss, model.head.bias), by_hand, atol=1e-6)


def test_one_step_lowers_the_loss(model, batch, progress):
    method = SourceOnly(model)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    before = method.losses(batch, progress)["classification"]
    before.backward()
    optimizer.step()
    assert method.losses(batch, progress)["classification"] < before


def test_is_registered_as_the_lower_reference():
    assert METHODS.get("source_only") is SourceOnly
    assert (SourceOnly.setting, SourceOnly.start, SourceOnly.steps) == (Setting.SOURCE_ONLY, "init", None)
