"""A simple framework for contrastive learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from dafw.classifier import Classifier
from dafw.losses.contrastive import nt_xent
from dafw.method import Method
from dafw.probe import check_regularisation, fit_linear
from dafw.registry import Range, register_method
from dafw.setting import Batch, Progress, Setting

if TYPE_CHECKING:
    from dafw.pair import Data


@register_method
class SimCLR(Method):
    """Two views of an image agree, those of different images do not (Chen et al. 2020, ICML, arXiv 2002.05709, eq. 1).

    Source and target together make the batch, without labels; the loss sits on a projection of the features. At the
    end a logistic regression on the source's features becomes the head.
    """

    setting = Setting.SELF_SUPERVISED

    def __init__(
        self,
        model: Classifier,
        *,
        temperature: Annotated[float, Range(0.1, 1.0, log=True)] = 0.5,
        projection_dim: int = 128,
        inverse_regularisation: float = 0.1,
    ):
        check_regularisation(inverse_regularisation)
        super().__init__(model)
        self.temperature = temperature
        self.inverse_regularisation = inverse_regularisation
        self.projection = nn.Sequential(
            nn.Linear(model.feature_dim, model.feature_dim), nn.ReLU(), nn.Linear(model.feature_dim, projection_dim)
        )
        self.model.head.requires_grad_(False)  # no step trains it: it is fitted at the end

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        views = [part.view("ssl") for _ in range(2) for part in (batch.source, batch.target)]
        first, second = self.projection(self.model(torch.cat(views)).features).chunk(2)
        return {"contrastive": nt_xent(first, second, self.temperature)}

    def finish(self, data: Data) -> None:
        features = data.source.outputs(self).features
        fit_linear(features, data.source.labels, self.model.head, self.inverse_regularisation)
