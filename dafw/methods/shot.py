"""Source hypothesis transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.classifier import Classifier
from dafw.losses.entropy import entropy, marginal_entropy
from dafw.method import Method
from dafw.registry import Range, register_method
from dafw.setting import Batch, Output, Progress, Setting

if TYPE_CHECKING:
    from dafw.pair import Data


def centroid_labels(output: Output, threshold: int = 0) -> Tensor:
    """The class whose centroid each example is nearest to: (N,) int64 (Liang et al. 2020, ICML, eq. 4-6).

    Features, with a 1 appended, are compared by the cosine. Centroids are means weighted by the softmax at first and
    by the labels so found then. Classes that at most `threshold` examples are predicted as take no part in a round,
    as in the authors' code, unless that would leave none.
    """
    features = F.normalize(F.pad(output.features, (0, 1), value=1.0), dim=1)
    classes = output.logits.shape[1]
    membership = output.logits.softmax(1)
    labels = output.logits.argmax(1)
    for _ in range(2):
        centroids = F.normalize(membership.T @ features, dim=1)  # the cosine does not see the length of a mean
        counts = labels.bincount(minlength=classes)
        rare = counts <= min(threshold, int(counts.max()) - 1)
        labels = (features @ centroids.T).masked_fill(rare, -torch.inf).argmax(1)
        membership = F.one_hot(labels, classes).to(features.dtype)
    return labels


@register_method
class SHOT(Method):
    """Features of the target that a fixed source classifier is sure of (Liang et al. 2020, ICML, arXiv 2002.08546).

    The mean entropy falls, the entropy of the mean rises (eq. 3), and labels from centroids of the whole target,
    found anew before each pass over it, are learnt (eq. 4-7). The head stays as the source left it.
    """

    setting = Setting.SOURCE_FREE
    exempt = {
        "check_hyperparameters:threshold": "one more drops no class where each is predicted often; its tests count"
    }
    start = "source_only"

    pseudo_labels: Tensor

    def __init__(
        self,
        model: Classifier,
        *,
        entropy_weight: float = 1.0,
        diversity_weight: float = 1.0,
        pseudo_label_weight: Annotated[float, Range(0.03, 1.0, log=True)] = 0.3,
        threshold: int = 0,
    ):
        super().__init__(model)
        self.entropy_weight = entropy_weight
        self.diversity_weight = diversity_weight
        self.pseudo_label_weight = pseudo_label_weight
        self.threshold = threshold
        self.model.head.requires_grad_(False)

    def setup(self, data: Data) -> None:
        labels = torch.zeros(len(data.target), dtype=torch.long, device=self.model.head.weight.device)
        self.register_buffer("pseudo_labels", labels)

    def prepare(self, data: Data, progress: Progress) -> None:
        self.pseudo_labels.copy_(centroid_labels(data.target.outputs(self), self.threshold))

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = self.model(batch.target.inputs).logits
        labels = self.pseudo_labels[batch.target.index]
        return {
            "entropy": self.entropy_weight * entropy(logits).mean(),
            "diversity": -self.diversity_weight * marginal_entropy(logits),
            "pseudo_label": self.pseudo_label_weight * F.cross_entropy(logits, labels),
        }

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The backbone at 0.1 x lr, the bottleneck at lr, though the source model brings both (the authors' code)."""
        groups = [
            {"params": [*self.model.backbone.parameters()], "lr": 0.1 * lr},
            {"params": [*self.model.bottleneck.parameters()], "lr": lr},
        ]
        return [group for group in groups if group["params"]]
