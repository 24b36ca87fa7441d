"""A linear classifier on frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from dafw.classifier import Classifier
from dafw.method import Method
from dafw.probe import check_regularisation, fit_linear
from dafw.registry import Range, register_method
from dafw.setting import Setting

if TYPE_CHECKING:
    from dafw.pair import Data


@register_method
class FeatureExtraction(Method):
    """Multinomial logistic regression on the frozen network's features (Kornblith et al. 2019, CVPR).

    The shots' features, batch norm in eval and without augmentation, are computed once and standardised;
    `inverse_regularisation` is scikit-learn's C, the weight of the summed cross-entropy against 1/2 ||W||^2. The
    default was within 1.5 points of the best of 0.001, 0.01, 0.1 and 1 on held-out training examples of CIFAR-10
    (published features; 1, 5, 10, 50 and 135 labels a class), synth→digits and mnist→usps (the source model's
    features; 1, 5 and 10 labels a class).
    """

    setting = Setting.TRANSFER
    steps = 0

    def __init__(
        self, model: Classifier, *, inverse_regularisation: Annotated[float, Range(0.001, 1.0, log=True)] = 0.1
    ):
        check_regularisation(inverse_regularisation)
        super().__init__(model)
        self.inverse_regularisation = inverse_regularisation

    def finish(self, data: Data) -> None:
        features = data.shots.outputs(self).features
        fit_linear(features, data.shots.labels, self.model.head, self.inverse_regularisation)
