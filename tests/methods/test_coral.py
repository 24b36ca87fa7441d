import copy

import numpy as np
import pytest
import torch
from by_hand import Rows, given_model, probabilities, regressed, same_state, two_domains, z_scored
from scipy.linalg import fractional_matrix_power, sqrtm

from dafw.errors import UsageError
from dafw.methods.coral import CORAL, recolouring
from dafw.pair import Data
from dafw.probe import fit_linear
from dafw.registry import METHODS
from dafw.setting import Setting


def adapted(data, model=None, **values):
    model = model or given_model(data.source.inputs.shape[1], len(data.classes))
    method = CORAL(copy.deepcopy(model), **values).train()
    method.finish(data)
    return method


def transcribed(source, target, regularisation=1.0):
    """Algorithm 1 on z-scored features: the source's rows, recoloured."""
    size = np.eye(source.shape[1])
    c_s = np.cov(source, rowvar=False) + regularisation * size
    c_t = np.cov(target, rowvar=False) + regularisation * size
    return source @ fractional_matrix_power(c_s, -0.5) @ sqrtm(c_t)


@pytest.mark.parametrize("regularisation", [0.01, 1.0])
@pytest.mark.parametrize(("classes", "width", "target"), [(3, 5, 45), (2, 5, 45), (3, 12, 4)])
def test_answers_the_target_as_the_paper_does(regularisation, classes, width, target):
    data = two_domains(classes, width, target=target)
    method = adapted(data, covariance_regularisation=regularisation, inverse_regularisation=0.3)
    source, seen = z_scored(data.source.inputs), z_scored(data.target.inputs)
    wanted = regressed(transcribed(source, seen, regularisation), data.source.labels, 0.3, seen)
    np.testing.assert_allclose(probabilities(method.predict(data.target.inputs).logits), wanted, atol=1e-5)


def test_works_on_the_features_of_the_source_model_in_eval(model):
    images = torch.randint(0, 256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    labels = torch.arange(30) % 3
    data = Data(Rows(images[:30], labels), Rows(images[30:]), None, ("a", "b", "c"), None, None)
    method = adapted(data, model)
    source, target = (z_scored(model.eval()(images[rows]).features) for rows in (slice(30), slice(30, 50)))
    wanted = regressed(transcribed(source, target), labels, 0.1, target)
    np.testing.assert_allclose(probabilities(method.predict(images[30:]).logits), wanted, atol=1e-5)
    assert same_state(method.model, model, but=lambda name: name.startswith("head."))
    assert (data.source.asked, data.target.asked) == (1, 1)


@pytest.mark.parametrize("regularisation", [1e-9, 0.1, 1.0])
def test_the_recoloured_source_has_the_target_s_covariance_up_to_the_regulariser(regularisation):
    generator = torch.Generator().manual_seed(2)
    source, target = (torch.randn((count, 4), generator=generator).double() for count in (50, 30))
    source, target = source - source.mean(0), target - target.mean(0)
    target[:, 1] += target[:, 0]
    matrix = recolouring(source, target, regularisation)
    got = torch.cov((source @ matrix).T) + regularisation * matrix.T @ matrix
    torch.testing.assert_close(got, torch.cov(target.T) + regularisation * torch.eye(4))
    assert (got - torch.cov(source.T)).abs().max() > 0.5


def test_undoes_a_symmetric_mixing():
    """Isotropic rows stretched along the diagonal: equal variances, so standardising alone is blind to it."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn((200, 2), generator=generator).double()
    rows = (rows - rows.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(rows.T)).T)
    stretched = rows @ torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
    torch.testing.assert_close(rows @ recolouring(rows, stretched, 1e-12), stretched)
    labels = (rows[:, 0] > 0).long()
    data = Data(Rows(rows.float(), labels), Rows(stretched.float()), None, ("a", "b"), None, None)

    def accuracy(**values):
        method = adapted(data, inverse_regularisation=10.0, **values)
        return (method.predict(data.target.inputs).logits.argmax(1) == labels).float().mean()

    assert accuracy(covariance_regularisation=1e-6) > 0.97
    assert accuracy(covariance_regularisation=1e6) < 0.9  # so large that nothing is recoloured


def test_identical_domains_give_the_plain_probe():
    data = two_domains()
    data.target.inputs = data.source.inputs
    model = given_model(5, 3)
    fit_linear(data.source.inputs, data.source.labels, model.head, 0.1)
    wanted = model(data.source.inputs).logits
    torch.testing.assert_close(adapted(data).predict(data.source.inputs).logits, wanted, atol=1e-4, rtol=1e-4)


def test_scale_and_place_of_the_target_do_not_matter():
    data = two_domains()
    wanted = adapted(data).predict(data.target.inputs).logits
    data.target.inputs = data.target.inputs * torch.tensor([1.0, 10.0, 0.1, 3.0, 2.0]) - 4
    torch.testing.assert_close(adapted(data).predict(data.target.inputs).logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("part", ["source", "target"])
def test_a_feature_that_is_constant_on_one_side_only(part):
    data = two_domains()
    getattr(data, part).inputs[:, 0] = 0.2
    source, target = z_scored(data.source.inputs), z_scored(data.target.inputs)
    wanted = regressed(transcribed(source, target), data.source.labels, 0.1, target)
    got = probabilities(adapted(data).predict(data.target.inputs).logits)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_one_target_example_is_no_failure():
    data = two_domains(target=1)
    assert torch.isfinite(adapted(data).predict(data.target.inputs).logits).all()


@pytest.mark.parametrize("name", ["covariance_regularisation", "inverse_regularisation"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_regularisation_that_is_not_positive_is_refused(name, value, model):
    with pytest.raises(UsageError, match=rf"method\.{name}=.*above 0"):
        CORAL(model, **{name: value})


def test_is_a_closed_form_that_starts_from_the_source_model():
    assert METHODS.get("coral") is CORAL
    assert (CORAL.setting, CORAL.start, CORAL.steps) == (Setting.UNSUPERVISED, "source_only", 0)
