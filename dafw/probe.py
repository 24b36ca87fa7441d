"""The linear probe: multinomial logistic regression on fixed features, written into a linear layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dafw.errors import UsageError

ITERATIONS = 10_000  # far more than L-BFGS needs on standardised features, so that it ends by its tolerance


def check_regularisation(inverse_regularisation: float) -> None:
    """UsageError where it is not positive; for constructors, so that it is told before anything is trained."""
    if not inverse_regularisation > 0:
        raise UsageError(
            f"method.inverse_regularisation={inverse_regularisation}; expected a number above 0, as in "
            "method.inverse_regularisation=0.1"
        )


class Standardised(NamedTuple):
    """Features less their mean (D,), over their scale (D,): rows (N, D), all in float64 on the CPU."""

    rows: Tensor
    mean: Tensor
    scale: Tensor


def standardised(features: Tensor) -> Standardised:
    """Features (N, D) by their own mean and deviation (divisor N); what is constant only loses its mean."""
    x = features.detach().cpu().double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    # what varies by less than float32 resolves is constant: scaled up, rounding would look like a feature
    scale = torch.where(deviation > 1e-6 * x.abs().amax(0), deviation, 1.0)
    return Standardised((x - mean) / scale, mean, scale)


def fit_linear(features: Tensor, labels: Tensor, head: nn.Linear, inverse_regularisation: float) -> None:
    """Set `head` to the l2-regularised logistic regression of labels (N,) on features (N, head.in_features).

    The features are standardised by their own mean and deviation, which is folded into the layer: it takes raw
    features. Otherwise as `logistic_regression`.
    """
    seen = standardised(features)
    set_head(head, *logistic_regression(seen.rows, labels, head.out_features, inverse_regularisation), seen)


def logistic_regression(
    rows: Tensor, labels: Tensor, classes: int, inverse_regularisation: float
) -> tuple[Tensor, Tensor]:
    """Weight (classes, D) and bias (classes,) in float64 that minimise C sum_i cross_entropy_i + 1/2 ||W||^2.

    Rows (N, D) are taken as they are; C is `inverse_regularisation`, the bias is free. With two classes W is the
    difference of their weights, as in scikit-learn.

    Raises UsageError where a class has no example or C is not positive.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and needed at the end of a run only

    check_regularisation(inverse_regularisation)
    counts = torch.bincount(labels.cpu(), minlength=classes)
    if not counts.all():
        raise UsageError(
            f"a linear classifier of {classes} classes was given labels of {int(counts.count_nonzero())}; "
            "expected at least one example of each class"
        )
    regression = LogisticRegression(C=inverse_regularisation, tol=1e-6, max_iter=ITERATIONS)
    regression.fit(rows.numpy(), labels.cpu().numpy())
    weight, bias = torch.from_numpy(regression.coef_), torch.from_numpy(regression.intercept_)
    if len(weight) == 1:  # two classes: one logit, whose halves stand on either side
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight, bias


def set_head(head: nn.Linear, weight: Tensor, bias: Tensor, space: Standardised) -> None:
    """Set `head` to the classifier (classes, D), (classes,) of features standardised as `space`; it takes raw ones."""
    with torch.no_grad():
        head.weight.copy_(weight / space.scale)
        head.bias.copy_(bias - weight / space.scale @ space.mean)
