import copy

import numpy as np
import pytest
import torch
from by_hand import Rows, probabilities, same_state
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dafw.methods.feature_extraction import FeatureExtraction
from dafw.pair import Data
from dafw.registry import METHODS
from dafw.setting import Setting


def made_data(count=30):
    """uint8 images of three classes that differ in brightness, and nothing else to see."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    return Data(None, None, Rows(images.to(torch.uint8), labels), ("a", "b", "c"), None, None)


def probed(model, **values):
    method = FeatureExtraction(copy.deepcopy(model), **values).train()
    data = made_data()
    method.finish(data)
    return method, data.shots


@pytest.mark.parametrize("inverse_regularisation", [0.01, 1.0])
def test_answers_as_scikit_learn_does_on_the_raw_features(inverse_regularisation, model):
    method, shots = probed(model, inverse_regularisation=inverse_regularisation)
    features = model.eval()(shots.inputs).features.detach().double().numpy()
    regression = LogisticRegression(C=inverse_regularisation, max_iter=1000, tol=1e-8)
    pipeline = make_pipeline(StandardScaler(), regression).fit(features, shots.labels.numpy())
    got = probabilities(method.predict(shots.inputs).logits)
    np.testing.assert_allclose(got, pipeline.predict_proba(features), atol=1e-5)


def test_only_the_head_changes_though_the_method_is_in_training_mode(model):
    method, _ = probed(model)
    assert same_state(method.model, model, but=lambda name: name.startswith("head."))
    assert not torch.equal(method.model.head.weight, model.head.weight)
    assert not torch.equal(method.model.head.bias, model.head.bias)


def test_the_features_are_computed_once(model):
    _, shots = probed(model)
    assert shots.asked == 1


def test_less_regularisation_makes_a_larger_head(model):
    norms = [probed(model, inverse_regularisation=c)[0].model.head.weight.norm() for c in (1e-3, 1e-2, 1e-1)]
    assert norms[0] < norms[1] < norms[2]


def test_is_a_closed_form():
    assert METHODS.get("feature_extraction") is FeatureExtraction
    assert (FeatureExtraction.setting, FeatureExtraction.start) == (Setting.TRANSFER, "init")
    assert FeatureExtraction.steps == 0
