"""Alignment of the subspaces that two domains span."""

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


def principal_basis(rows: Tensor) -> Tensor:
    """The principal directions (D, R) of centred rows (N, D), strongest first; R is the rank."""
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[values > 1e-6 * values[:1]].T  # below that, float32 features show their rounding


@register_method
class SubspaceAlignment(Method):
    """The source's principal subspace turned into the target's, and a classifier there (Fernando et al. 2013, ICCV).

    With bases P of the features, each domain standardised by its own mean and deviation (as in the authors' code), the
    source is seen as X_S P_S P_S^T P_T and the target as X_T P_T (eq. 1-4). `dimension` directions are kept, 0 for as
    many as there are classes, and at most what the smaller of the two domains spans; `notes` says where that binds.

    The paper bounds the dimension by a theorem whose constants are free, and cross-validates below it. Here im and bnm
    on unlabelled target validation preferred 10 of 5, 10, 20, 40, 80 and 128 directions for the ten classes of
    synth→digits and mnist→usps. The paper's support vector machine is a logistic regression, as in all closed forms.
    Head, P_T and the target's standardisation become one layer; nothing else changes.
    """

    setting = Setting.UNSUPERVISED
    start = "source_only"
    steps = 0

    def __init__(
        self,
        model: Classifier,
        *,
        dimension: int = 0,
        inverse_regularisation: Annotated[float, Range(0.001, 1.0, log=True)] = 0.1,
    ):
        if dimension < 0:
            raise UsageError(
                f"method.dimension={dimension}; expected a number of directions, or 0 for as many as there are "
                "classes, as in method.dimension=20"
            )
        check_regularisation(inverse_regularisation)
        super().__init__(model)
        self.dimension = dimension or model.classes
        self.inverse_regularisation = inverse_regularisation
        self.notes: list[str] = []

    def finish(self, data: Data) -> None:
        source = standardised(data.source.outputs(self).features)
        target = standardised(data.target.outputs(self).features)
        source_basis, target_basis = principal_basis(source.rows), principal_basis(target.rows)
        dimension = self._spanned(source_basis.shape[1], target_basis.shape[1])
        source_basis, target_basis = source_basis[:, :dimension], target_basis[:, :dimension]
        aligned = source.rows @ source_basis @ (source_basis.T @ target_basis)
        classes = self.model.classes
        weight, bias = logistic_regression(aligned, data.source.labels, classes, self.inverse_regularisation)
        set_head(self.model.head, weight @ target_basis.T, bias, target)

    def _spanned(self, source: int, target: int) -> int:
        """The dimension of both subspaces, given the rank of the features of either domain."""
        if min(source, target) == 0:
            raise UsageError(
                f"subspace_alignment: the features span {source} directions on the source and {target} on the target; "
                "expected at least two different examples of each"
            )
        if min(source, target) < self.dimension:
            self.notes.append(
                f"{min(source, target)} directions instead of {self.dimension}: the features span {source} on the "
                f"source and {target} on the target"
            )
        return min(self.dimension, source, target)
