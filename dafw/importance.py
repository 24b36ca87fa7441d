"""How much likelier each source example is in the target, told by a cross-fitted classifier of the two domains."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

Array = NDArray[Any]

FOLDS = 5


@lru_cache(maxsize=1)  # two validators ask for the same weights, one after the other
def importance_weights(source: Tensor, target: Tensor) -> Tensor:
    """The density ratio p_target(f) / p_source(f) at every source example: features (M, D), (N, D) → (M,) float64.

    w = (Ns / Nt) P(target | f) / P(source | f), with P from a classifier of Ns source and Nt target examples (You et
    al. 2019, ICML; Bickel et al. 2007, ICML). Theirs is a perceptron chosen on held-out examples. Ours is a logistic
    regression on standardised features with the penalty D / 2 ||w||^2, which lets the log ratio vary by about one
    before the data speak, whatever D is. It is cross-fitted: a source example is weighted by the one of five
    regressions that did not learn from it, as one that did would call it source and all weights would shrink. No
    weight exceeds M, since their mean is 1 where the ratio is right. One source example alone weighs 1.
    """
    count = len(source)
    folds = min(FOLDS, count)
    if folds < 2:
        return torch.ones(count, dtype=torch.float64)
    fold = np.random.default_rng(0).permutation(count) % folds  # shuffled, as rows may come in an order of classes
    held_out = fold[:, None] == np.arange(folds)
    features = torch.cat([source, target]).double().numpy()
    is_target = np.arange(len(features)) >= count
    learns = np.concatenate([~held_out, np.ones((len(target), folds), dtype=bool)])
    with threadpool_limits(1, user_api="blas"):  # NumPy's own threads wait busily, and so slow the next steps of torch
        log_odds = fit_log_odds(features, is_target, learns)[:count][held_out]  # row order: one fold holds each row out
    log_prior = np.log((~held_out).sum(0) / len(target))[fold]
    return torch.from_numpy(np.exp(np.minimum(log_odds + log_prior, np.log(count))))


def fit_log_odds(features: Array, is_target: Array, learns: Array) -> Array:
    """log P(target | f) / P(source | f) of every row under each of F logistic regressions: (n, D), (n,) → (n, F).

    `learns` (n, F) marks the rows that each regression learns from; features are standardised over all rows. Each
    minimises sum_i log(1 + exp(-+ log odds)) + D / 2 ||w||^2 with a free intercept. The F problems share no parameter,
    so L-BFGS solves them as one: it then passes over the rows once a step and not F times. It works in coordinates in
    which the curvature at w = 0 is about the identity, and takes a third of the steps there.
    """
    from scipy.optimize import minimize  # slow to import

    width, folds = features.shape[1], learns.shape[1]
    deviation = features.std(0)
    # what varies by less than float32 resolves is constant: scaled up, rounding would look like a feature
    varies = deviation > 1e-6 * np.abs(features).max(0)
    features = (features - features.mean(0)) * (varies / np.where(varies, deviation, 1))
    learns = learns.astype(float)
    positive = learns * is_target[:, None]
    spread = is_target.mean() * (1 - is_target.mean())  # the variance of the label, at w = 0
    curvature = spread * features.T @ features + width * np.eye(width)
    basis = np.linalg.inv(np.linalg.cholesky(curvature)).T
    intercept_basis = (spread * len(features)) ** -0.5

    def coefficients(flat: Array) -> tuple[Array, Array]:
        return basis @ flat[:-folds].reshape(width, folds), intercept_basis * flat[-folds:]

    def objective(flat: Array) -> tuple[float, Array]:
        weight, intercept = coefficients(flat)
        log_odds = features @ weight + intercept
        softplus = np.logaddexp(0, log_odds)
        residual = learns * np.exp(log_odds - softplus) - positive
        gradient = basis.T @ (features.T @ residual + width * weight)
        loss = (learns * softplus - positive * log_odds).sum() + width / 2 * (weight**2).sum()
        return loss, np.concatenate([gradient.ravel(), intercept_basis * residual.sum(0)])

    targets, rows = positive.sum(0), learns.sum(0)
    start = np.concatenate([np.zeros(width * folds), np.log(targets / (rows - targets)) / intercept_basis])
    tolerances = {"gtol": 1e-8, "ftol": 1e-15, "maxiter": 1000}
    weight, intercept = coefficients(minimize(objective, start, jac=True, method="L-BFGS-B", options=tolerances).x)
    return np.asarray(features @ weight + intercept)
