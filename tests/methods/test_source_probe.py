import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from by_hand import Rows, given_model, probabilities, regressed, same_state, z_scored
from torch import nn

import dafw
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.frozen import FrozenBackbone, FrozenNetwork
from dafw.methods.source_probe import SourceProbe
from dafw.pair import Data
from dafw.registry import METHODS
from dafw.setting import Setting

surroundings = whole.surroundings  # a fixture


def made_images(count=40):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    return Rows(images.to(torch.uint8), labels)


def probed(model, source, **values):
    method = SourceProbe(copy.deepcopy(model), **values).train()
    method.finish(Data(source, None, None, tuple("abc")[: model.classes], None, None))
    return method


@pytest.mark.parametrize("inverse_regularisation", [0.01, 1.0])
def test_answers_as_scikit_learn_does_on_the_backbone_s_own_features(inverse_regularisation, model):
    source = made_images()
    method = probed(model, source, inverse_regularisation=inverse_regularisation)
    features = model.backbone.eval()(source.inputs.float() / 255)
    rows = z_scored(features)
    wanted = regressed(rows, source.labels, inverse_regularisation, rows)
    got = method.predict(source.inputs)
    np.testing.assert_allclose(probabilities(got.logits), wanted, atol=1e-5)
    torch.testing.assert_close(got.features, features)


def test_the_bottleneck_is_left_out_and_the_backbone_stays(model):
    method = probed(model, made_images())
    assert isinstance(method.model.bottleneck, nn.Identity)
    assert method.model.head.weight.shape == (3, model.backbone.features)
    assert method.model.feature_dim == model.backbone.features != model.feature_dim
    assert same_state(method.model.backbone, model.backbone)
    assert not any(name.startswith("model.bottleneck") for name in method.state_dict())


def test_what_the_bottleneck_was_does_not_matter(model):
    other = copy.deepcopy(model)
    nn.init.normal_(other.bottleneck[0].weight)
    assert same_state(probed(model, made_images()).model, probed(other, made_images()).model)


def test_two_classes_on_a_network_without_bottleneck():
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(30) % 2
    rows = torch.randn((30, 4), generator=generator) + labels[:, None]
    rows[:, 2] = 0.3  # constant
    source = Rows(rows, labels)
    got = probabilities(probed(given_model(4, 2), source).predict(rows).logits)
    np.testing.assert_allclose(got, regressed(z_scored(rows), labels, 0.1, z_scored(rows)), atol=1e-5)


def test_a_frozen_backbone_answers_features_and_images_alike():
    torch.manual_seed(0)
    network = ConvNet(1, 4).eval()
    source = made_images()
    cached = network(source.inputs.float() / 255).detach()
    body = FrozenBackbone(FrozenNetwork.of(network), cached, network.features, tuple(source.inputs.shape[1:]))
    model = Classifier(body, 3, feature_dim=8)
    method = probed(model, Rows(cached, source.labels))
    assert method.model.head.in_features == network.features
    torch.testing.assert_close(method.predict(source.inputs).logits, method.predict(cached).logits)
    np.testing.assert_allclose(
        probabilities(method.predict(cached).logits),
        regressed(z_scored(cached / model.backbone.std), source.labels, 0.1, z_scored(cached / model.backbone.std)),
        atol=1e-5,
    )


def test_no_regularisation_is_refused(model):
    with pytest.raises(UsageError, match=r"method\.inverse_regularisation=0\.0"):
        SourceProbe(model, inverse_regularisation=0.0)


def test_is_a_closed_form_that_sees_the_source_alone():
    assert METHODS.get("source_probe") is SourceProbe
    assert (SourceProbe.setting, SourceProbe.start, SourceProbe.steps) == (Setting.SOURCE_ONLY, "init", 0)


BASELINES = ["coral", "subspace_alignment", "source_probe"]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", BASELINES)
def test_a_finished_run_answers_again_as_it_did(method: str, frozen: bool, tmp_path: Path) -> None:
    pair: dict[str, Any] = whole.made_pair(tmp_path, size=16)
    network = {"init": "random", "backbone.frozen": frozen, "backbone.feature_dim": 12}
    record = whole.measured(tmp_path / "runs", method=method, **pair, **network)
    loaded = dafw.load(record.folder)
    saved = np.load(record.folder / "predictions.npz")
    images = np.load(pair["tgt.path"])["test_images"][saved["index"]]
    inputs = torch.from_numpy(images)[:, None]
    np.testing.assert_allclose(
        loaded.predict(inputs).logits.softmax(1).numpy(), saved["probabilities"], atol=1e-4, rtol=1e-4
    )
    assert record.result["steps"] == 0
    starts = [Path(folder).parent.name for folder in record.result["depends_on"]]
    assert starts == ([] if method == "source_probe" else ["source_only"])
    assert loaded.model.bottleneck.__class__ is (nn.Identity if method == "source_probe" else nn.Sequential)
