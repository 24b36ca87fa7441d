import numpy as np
import pytest
import torch
from by_hand import bias_gradient, cross_entropy, gradient

from dafw.methods.joint_supervised import JointSupervised
from dafw.registry import METHODS
from dafw.setting import Setting


def test_every_label_weighs_the_same(model, batch, progress):
    loss = JointSupervised(model).losses(batch, progress)
    source, shots = model.together(batch.source.inputs, batch.shots.inputs)
    of_source = cross_entropy(source.logits, batch.source.labels)
    of_shots = cross_entropy(shots.logits, batch.shots.labels)
    assert loss["classification"].item() == pytest.approx((6 * of_source + 3 * of_shots) / 9, abs=1e-5)
    assert abs(of_source - of_shots) > 1e-3  # or the weighting would not show
    assert list(loss) == ["classification"]


def test_batch_norm_sees_the_mixture(model, batch, progress):
    loss = JointSupervised(model).losses(batch, progress)["classification"].item()
    of_source = cross_entropy(model(batch.source.inputs).logits, batch.source.labels)
    of_shots = cross_entropy(model(batch.shots.inputs).logits, batch.shots.labels)
    assert abs(loss - (6 * of_source + 3 * of_shots) / 9) > 1e-4


def test_the_gradient_is_that_of_both_domains(model, batch, progress):
    loss = JointSupervised(model).losses(batch, progress)["classification"]
    logits = model(torch.cat([batch.source.inputs, batch.shots.inputs])).logits
    by_hand = bias_gradient(logits, torch.cat([batch.source.labels, batch.shots.labels]))
    np.testing.assert_allclose(gradient(loss, model.head.bias), by_hand, atol=1e-6)


@pytest.mark.parametrize("part", ["source", "shots"])
def test_the_labels_of_each_domain_matter(part, model, batch, progress):
    ordinary = JointSupervised(model).losses(batch, progress)["classification"]
    labelled = getattr(batch, part)
    labelled.labels = (labelled.labels + 1) % 3
    assert JointSupervised(model).losses(batch, progress)["classification"] != ordinary


def test_needs_no_unlabelled_target(model, batch, progress):
    alone = JointSupervised(model).losses(batch._replace(target=None), progress)["classification"]
    assert torch.equal(alone, JointSupervised(model).losses(batch, progress)["classification"])


def test_is_registered_as_the_upper_reference():
    assert METHODS.get("joint_supervised") is JointSupervised
    assert JointSupervised.setting is Setting.JOINT_SUPERVISED
    assert (JointSupervised.start, JointSupervised.steps) == ("init", None)
