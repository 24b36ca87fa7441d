"""SHOT: pseudo-labels against a NumPy version of the authors' code, its terms, and what it leaves alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from dafw.classifier import Classifier
from dafw.methods.shot import SHOT, centroid_labels
from dafw.setting import Batch, Examples, Output, Progress


def slow_labels(output: Output, threshold: int = 0) -> np.ndarray:
    """The steps of the authors' code for objects (`obtain_label`), in double precision."""
    logits, features = output.logits.double().numpy(), output.features.double().numpy()
    membership = np.exp(logits - logits.max(1, keepdims=True))
    membership /= membership.sum(1, keepdims=True)
    predicted = membership.argmax(1)
    features = np.concatenate([features, np.ones((len(features), 1))], 1)
    features = (features.T / np.linalg.norm(features, axis=1)).T
    classes = membership.shape[1]
    for _ in range(2):
        centroids = membership.T.dot(features) / (1e-8 + membership.sum(0)[:, None])
        kept = np.where(np.eye(classes)[predicted].sum(0) > threshold)[0]
        predicted = kept[cdist(features, centroids[kept], "cosine").argmin(1)]
        membership = np.eye(classes)[predicted]
    return predicted


def clustered(seed: int, classes: int = 5, examples: int = 60) -> Output:
    """Features in clusters and logits that get many of them wrong, so that the labels have something to mend."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 8, generator=generator)
    truth = torch.arange(examples) % classes
    features = centres[truth] + 0.8 * torch.randn(examples, 8, generator=generator)
    logits = 2 * torch.nn.functional.one_hot(truth, classes) + 1.5 * torch.randn(examples, classes, generator=generator)
    return Output(features.relu(), logits)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0, 11])
def test_labels_equal_the_authors_code(seed: int, threshold: int) -> None:
    output = clustered(seed)
    labels = centroid_labels(output, threshold)
    assert labels.dtype == torch.long
    assert labels.tolist() == slow_labels(output, threshold).tolist()
    assert labels.tolist() != output.logits.argmax(1).tolist()


def test_labels_mend_the_predictions() -> None:
    output, truth = clustered(0), torch.arange(60) % 5
    predicted, labelled = output.logits.argmax(1), centroid_labels(output)
    assert (labelled == truth).float().mean() > (predicted == truth).float().mean() + 0.1


def test_the_second_round_matters() -> None:
    """Otherwise a version that stops after the weighted centroids would pass."""
    output = clustered(1)
    features = np.concatenate([output.features.numpy(), np.ones((60, 1))], 1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    once = cdist(features, output.logits.softmax(1).numpy().T @ features, "cosine").argmin(1)
    assert once.tolist() != centroid_labels(output).tolist()


def test_a_class_that_is_never_predicted_gets_no_label() -> None:
    output = clustered(2)
    output.logits[:, 3] = -50
    assert 3 not in centroid_labels(output)
    assert centroid_labels(output).tolist() == slow_labels(output).tolist()


def test_rare_classes_are_left_out_unless_none_would_stay() -> None:
    output = clustered(3)
    few = int(output.logits.argmax(1).bincount().min())
    assert len(centroid_labels(output, few).unique()) < 5
    most = output.logits.argmax(1).mode().values
    assert (centroid_labels(output, 1000) == most).all()


@pytest.mark.parametrize(
    "output",
    [
        Output(torch.rand(6, 4), torch.tensor([[9.0, 0.0, 0.0]]).repeat(6, 1)),
        Output(torch.rand(6, 4), torch.zeros(6, 3)),
        Output(torch.zeros(6, 4), torch.eye(3).repeat(2, 1)),
        Output(torch.rand(6, 4), 1e4 * torch.eye(3).repeat(2, 1) - 5e3),
        Output(torch.rand(1, 4), torch.rand(1, 3)),
    ],
    ids=["one class", "equal logits", "equal features", "extreme logits", "one example"],
)
def test_degenerate_targets_get_labels_of_predicted_classes(output: Output) -> None:
    labels = centroid_labels(output)
    assert set(labels.tolist()) <= set(output.logits.argmax(1).tolist())


def data_of(target: Tensor, asked: list[Any]) -> Any:
    """The whole target as a stand-in for the pair's: it answers as a method predicts, and notes who asked."""

    def outputs(method: SHOT) -> Output:
        asked.append(method)
        return method.predict(target)

    class Target:
        def __len__(self) -> int:
            return len(target)

    split = Target()
    split.outputs = outputs  # type: ignore[attr-defined]
    return SimpleNamespace(source=None, target=split)


@pytest.fixture
def method(model: Classifier) -> SHOT:
    return SHOT(model, entropy_weight=0.5, diversity_weight=2.0, pseudo_label_weight=0.3)


def test_terms_equal_numpy(method: SHOT, batch: Batch, progress: Progress) -> None:
    """The labels are those of the batch's rows, whose order is not the target's."""
    rows = torch.tensor([4, 1, 7, 0, 2, 9])
    target = batch.target
    batch = batch._replace(target=Examples(lambda _view, _number: target.inputs, rows, target.domain))
    whole = torch.rand((10, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    asked: list[Any] = []
    data = data_of(whole, asked)
    method.setup(data)
    method.prepare(data, progress)
    assert asked == [method]
    labels = slow_labels(method.predict(whole))
    assert method.pseudo_labels.tolist() == labels.tolist()
    method.pseudo_labels.copy_(torch.arange(10) % 3)  # labels that tell the rows apart

    p = method.model(target.inputs).logits.softmax(1).detach().double().numpy()
    terms = method.losses(batch, progress)
    assert terms["entropy"].item() == pytest.approx(-0.5 * (p * np.log(p)).sum(1).mean(), abs=1e-5)
    mean = p.mean(0)
    assert terms["diversity"].item() == pytest.approx(2.0 * (mean * np.log(mean)).sum(), abs=1e-5)
    cross_entropy = -np.mean([np.log(p[i, int(row) % 3]) for i, row in enumerate(rows)])
    assert terms["pseudo_label"].item() == pytest.approx(0.3 * cross_entropy, abs=1e-5)
    assert terms.keys() == {"entropy", "diversity", "pseudo_label"}


def test_each_term_moves_the_features_its_way(method: SHOT, batch: Batch, progress: Progress) -> None:
    method.setup(data_of(batch.target.inputs, []))
    parameters = [p for p in method.parameters() if p.requires_grad]
    state = {name: value.clone() for name, value in method.state_dict().items()}
    for term in ("entropy", "diversity", "pseudo_label"):
        method.load_state_dict(state)
        before = method.losses(batch, progress)[term]
        gradients = torch.autograd.grad(before, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.02 * gradient)
        assert method.losses(batch, progress)[term] < before - 1e-6, term


def test_the_head_stays_and_the_bottleneck_is_faster_than_the_backbone(method: SHOT) -> None:
    groups = method.parameter_groups(0.01)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert not any(id(p) in rates for p in method.model.head.parameters())
    assert not any(p.requires_grad for p in method.model.head.parameters())
    assert {rates[id(p)] for p in method.model.backbone.parameters()} == {0.1 * 0.01}
    assert {rates[id(p)] for p in method.model.bottleneck.parameters()} == {0.01}


def test_labels_are_saved_and_loaded(model: Classifier, batch: Batch) -> None:
    method, data = SHOT(model), data_of(batch.target.inputs, [])
    method.setup(data)
    method.pseudo_labels.fill_(2)
    again = SHOT(model)
    again.setup(data)
    again.load_state_dict(method.state_dict())
    assert again.pseudo_labels.tolist() == [2] * 6
