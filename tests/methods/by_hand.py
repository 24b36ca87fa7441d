"""What the tests of the reference and transfer methods recompute by hand, and a stand-in for a split."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dafw.method import Method
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
