import numpy as np
import pytest
import torch
from torch import nn

from dafw.errors import UsageError
from dafw.probe import fit_linear


def made_features(count=40, classes=3, width=5):
    """Overlapping classes, in features of very different scale and place."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    features = torch.randn((count, width), generator=generator) + torch.eye(classes, width)[labels]
    return features * torch.logspace(-2, 2, width) + torch.linspace(-3, 3, width), labels


def fitted(features, labels, classes=3, inverse_regularisation=0.1):
    head = nn.Linear(features.shape[1], classes)
    fit_linear(features, labels, head, inverse_regularisation)
    return head


def test_the_gradient_of_the_objective_is_zero():
    features, labels = made_features()
    head = fitted(features, labels, inverse_regularisation=0.3)
    x = features.double().numpy()
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    standardised = (x - mean) / deviation
    weight = head.weight.detach().double().numpy() * deviation  # in terms of standardised features
    bias = head.bias.detach().double().numpy() + head.weight.detach().double().numpy() @ mean
    logits = standardised @ weight.T + bias
    wrong = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(3)[labels.numpy()]
    np.testing.assert_allclose(weight + 0.3 * wrong.T @ standardised, 0, atol=2e-4)
    np.testing.assert_allclose(wrong.sum(axis=0), 0, atol=2e-4)
    assert np.abs(weight).max() > 0.1


def test_the_scale_and_place_of_a_feature_do_not_matter():
    features, labels = made_features()
    other = features * torch.tensor([1.0, 10.0, 0.1, 3.0, 2.0]) + torch.tensor([0.0, 5.0, 1.0, -2.0, 0.5])
    logits = fitted(features, labels)(features)
    torch.testing.assert_close(fitted(other, labels)(other), logits, atol=1e-4, rtol=1e-4)


def test_two_classes_answer_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    features, labels = made_features(classes=2)
    x = features.double().numpy()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    wanted = LogisticRegression(C=0.1, tol=1e-8).fit(x, labels.numpy()).predict_proba(x)
    head = fitted(features, labels, classes=2)
    np.testing.assert_allclose(head(features).softmax(1).detach().numpy(), wanted, atol=1e-5)


def test_rounding_errors_of_a_constant_feature_are_not_features():
    features, labels = made_features()
    noise = 1e-7 * torch.randn(len(features), generator=torch.Generator().manual_seed(1))
    widened = torch.cat([features, (0.37 + noise)[:, None], torch.zeros(len(features), 1)], dim=1)
    head = fitted(widened, labels)
    assert head.weight[:, -2:].abs().max() < 1e-5
    torch.testing.assert_close(head(widened), fitted(features, labels)(features), atol=1e-4, rtol=1e-4)


def test_separable_features_end_without_a_warning():
    features = torch.eye(3).repeat(4, 1)
    head = fitted(features, torch.arange(12) % 3, inverse_regularisation=1e6)
    assert head(features).argmax(1).tolist() == [0, 1, 2] * 4


def test_a_head_of_another_precision_keeps_it():
    features, labels = made_features()
    head = nn.Linear(5, 3).to(torch.bfloat16)
    fit_linear(features, labels, head, 0.1)
    assert head.weight.dtype is torch.bfloat16
    torch.testing.assert_close(head.weight.float(), fitted(features, labels).weight, atol=0.5, rtol=1e-2)


def test_a_class_without_an_example_is_an_error():
    features, labels = made_features(classes=2)
    with pytest.raises(UsageError, match="3 classes was given labels of 2"):
        fitted(features, labels, classes=3)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_regularisation_that_is_no_positive_number_is_an_error(value):
    features, labels = made_features()
    with pytest.raises(UsageError, match="above 0"):
        fitted(features, labels, inverse_regularisation=value)
