"""A linear classifier on the features that a network has before any training here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from torch import nn

from dafw.classifier import Classifier
from dafw.method import Method
from dafw.probe import check_regularisation, fit_linear
from dafw.registry import Range, register_method
from dafw.setting import Setting

if TYPE_CHECKING:
    from dafw.pair import Data


@register_method
class SourceProbe(Method):
    """Multinomial logistic regression of the source's labels on the start network (Kornblith et al. 2019, CVPR).

    The lower bound that trains nothing, meant for published weights. The head sits on the backbone's own features: a
    bottleneck is left out, for in a start network it is drawn at random. `inverse_regularisation` is as in
    feature_extraction.
    """

    setting = Setting.SOURCE_ONLY
    steps = 0

    def __init__(
        self, model: Classifier, *, inverse_regularisation: Annotated[float, Range(0.001, 1.0, log=True)] = 0.1
    ):
        check_regularisation(inverse_regularisation)
        model.bottleneck = nn.Identity()
        model.feature_dim = int(model.backbone.features)  # type: ignore[arg-type]
        model.head = model.new_head()
        super().__init__(model)
        self.inverse_regularisation = inverse_regularisation

    def finish(self, data: Data) -> None:
        features = data.source.outputs(self).features
        fit_linear(features, data.source.labels, self.model.head, self.inverse_regularisation)
