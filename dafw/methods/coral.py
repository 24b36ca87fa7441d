"""Correlation alignment of fixed features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.method import Method
from dafw.probe import check_regularisation, logistic_regression, set_head, standardised
from dafw.registry import Range, register_method
from dafw.setting import Setting

if TYPE_CHECKING:
    from dafw.pair import Data


def recolouring(source: Tensor, target: Tensor, regularisation: float) -> Tensor:
    """C_S^(-1/2) C_T^(1/2) (D, D), where C is the covariance of centred rows (N, D) plus `regularisation` x identity.

    Rows of the source times this have the target's covariance, up to the regularisation (Sun et al. 2016, AAAI,
    algorithm 1).
    """
    return _power(source, -0.5, regularisation) @ _power(target, 0.5, regularisation)


def _power(rows: Tensor, power: float, regularisation: float) -> Tensor:
    """A power of the regularised covariance (D, D) of centred rows (N, D)."""
    values, vectors = torch.linalg.eigh(rows.T @ rows / max(len(rows) - 1, 1))
    return (vectors * (values.clamp_min(0) + regularisation).pow(power)) @ vectors.T


@register_method
class CORAL(Method):
    """The source's features with the target's correlations, and a classifier on them (Sun et al. 2016, AAAI, alg. 1).

    Each domain's features are standardised by their own mean and deviation, as in the authors' code: so means and
    variances are aligned before, and correlations by, C_S^(-1/2) C_T^(1/2). `covariance_regularisation` is the
    paper's lambda, 1, in units of a feature's variance. The authors' support vector machine is a logistic regression
    here, as in all closed forms. Head and standardisation by the target become one layer; nothing else changes.
    """

    setting = Setting.UNSUPERVISED
    start = "source_only"
    steps = 0

    def __init__(
        self,
        model: Classifier,
        *,
        covariance_regularisation: Annotated[float, Range(0.01, 10.0, log=True)] = 1.0,
        inverse_regularisation: Annotated[float, Range(0.001, 1.0, log=True)] = 0.1,
    ):
        if not covariance_regularisation > 0:
            raise UsageError(
                f"method.covariance_regularisation={covariance_regularisation}; expected a number above 0, as in "
                "method.covariance_regularisation=1.0"
            )
        check_regularisation(inverse_regularisation)
        super().__init__(model)
        self.covariance_regularisation = covariance_regularisation
        self.inverse_regularisation = inverse_regularisation

    def finish(self, data: Data) -> None:
        source = standardised(data.source.outputs(self).features)
        target = standardised(data.target.outputs(self).features)
        recoloured = source.rows @ recolouring(source.rows, target.rows, self.covariance_regularisation)
        classes = self.model.classes
        weight, bias = logistic_regression(recoloured, data.source.labels, classes, self.inverse_regularisation)
        set_head(self.model.head, weight, bias, target)
