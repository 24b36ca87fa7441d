"""The linear probe: multinomial logistic regression on fixed features, written into a linear layer."""

from __future__ import annotations

import numpy as np
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


def fit_linear(features: Tensor, labels: Tensor, head: nn.Linear, inverse_regularisation: float) -> None:
    """Set `head` to the l2-regularised logistic regression of labels (N,) on features (N, head.in_features).

    Minimises C sum_i cross_entropy_i + 1/2 ||W||^2 over features standardised by their own mean and deviation, where C
    is `inverse_regularisation` (the bias is free). The standardisation is folded into the layer, which takes raw
    features. With two classes W is the difference of their weights, as in scikit-learn.

    Raises UsageError where a class has no example or C is not positive.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and needed at the end of a run only

    check_regularisation(inverse_regularisation)
    counts = torch.bincount(labels.cpu(), minlength=head.out_features)
    if not counts.all():
        raise UsageError(
            f"a linear classifier of {head.out_features} classes was given labels of {int(counts.count_nonzero())}; "
            "expected at least one example of each class"
        )
    x = features.detach().cpu().double().numpy()
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # what varies by less than float32 resolves is constant: scaled up, rounding would look like a feature
    scale = np.where(deviation > 1e-6 * np.abs(x).max(axis=0), deviation, 1.0)
    regression = LogisticRegression(C=inverse_regularisation, tol=1e-6, max_iter=ITERATIONS)
    regression.fit((x - mean) / scale, labels.cpu().numpy())
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # two classes: one logit, whose halves stand on either side
        weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    weight = weight / scale
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias - weight @ mean))
