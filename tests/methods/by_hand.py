"""What the tests of the reference and transfer methods recompute by hand, and a stand-in for a split."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.classifier import Classifier
from dafw.method import Method
from dafw.pair import Data
from dafw.setting import Output


def probabilities(logits: Tensor) -> np.ndarray:
    """Softmax (B, classes) in NumPy."""
    exponentials = np.exp(logits.detach().double().numpy())
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log p(label), one example after the other."""
    terms = [-np.log(row[label]) for row, label in zip(probabilities(logits), labels.tolist(), strict=True)]
    return sum(terms) / len(terms)


def bias_gradient(logits: Tensor, labels: Tensor) -> np.ndarray:
    """The gradient (classes,) of the mean cross-entropy on the head's bias: the mean of p - onehot(label)."""
    return (probabilities(logits) - np.eye(logits.shape[1])[labels.numpy()]).mean(axis=0)


def gradient(loss: Tensor, parameter: nn.Parameter) -> np.ndarray:
    return torch.autograd.grad(loss, parameter, retain_graph=True)[0].numpy()


class Rows:
    """Inputs (N, ...) with or without labels (N,), as a method sees a split; counts how often it was asked."""

    def __init__(self, inputs: Tensor, labels: Tensor | None = None):
        self.inputs = inputs
        self.labels = labels
        self.asked = 0

    def __len__(self) -> int:
        return len(self.inputs)

    def outputs(self, method: Method) -> Output:
        self.asked += 1
        return method.predict(self.inputs)


def same_state(first: nn.Module, second: nn.Module, but: Callable[[str], bool] = lambda _: False) -> bool:
    """Whether two modules hold the same bits, but for the names that `but` excuses."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a if not but(name))


class Given(Backbone):
    """Features that are the inputs."""

    def __init__(self, width: int):
        super().__init__()
        self.features = width

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def given_model(width: int, classes: int) -> Classifier:
    """A head right on the inputs (B, width)."""
    torch.manual_seed(0)
    return Classifier(Given(width), classes, feature_dim=0)


def two_domains(classes: int = 3, width: int = 5, source: int = 60, target: int = 45) -> Data:
    """Gaussian classes, and the same classes mixed, scaled and moved; the last feature is constant on both."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn((width, width), generator=generator) + 2 * torch.eye(width)
    parts = []
    for count, mix, place in ((source, torch.eye(width), 0.0), (target, mixing, 3.0)):
        labels = torch.arange(count) % classes
        rows = torch.randn((count, width), generator=generator) + 2 * torch.eye(classes, width)[labels]
        rows = rows @ mix + place
        rows[:, -1] = 0.7
        parts.append(Rows(rows, labels))
    parts[1].labels = None
    return Data(parts[0], parts[1], None, tuple("abcdefgh"[:classes]), None, None)  # type: ignore[arg-type]


def z_scored(features: Tensor) -> np.ndarray:
    """Each feature less its mean and over its deviation (divisor N), float64; a constant one is 0."""
    x = features.detach().double().numpy()
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1.0)


def regressed(rows: np.ndarray, labels: Tensor, inverse_regularisation: float, asked: np.ndarray) -> np.ndarray:
    """Probabilities of the rows asked, by scikit-learn's logistic regression of labels on rows."""
    regression = LogisticRegression(C=inverse_regularisation, tol=1e-10, max_iter=10_000)
    return regression.fit(rows, labels.numpy()).predict_proba(asked)
