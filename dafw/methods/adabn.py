"""Batch norm with the target's statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dafw.classifier import Classifier
from dafw.method import Method, evaluating
from dafw.registry import register_method
from dafw.setting import Setting

if TYPE_CHECKING:
    from dafw.pair import Data

BATCH = 256  # examples; large, for each batch is normalised by its own statistics on its way to the deeper layers


class Moments:
    """Mean and variance (channels,) of the inputs of one batch norm, over the examples and positions of all batches."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.variance = torch.zeros((), dtype=torch.float64)

    def add(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Merge one batch (the paper's online update), as a forward pre-hook."""
        activations: Tensor = inputs[0].detach().transpose(0, 1).flatten(1).float()  # (channels, examples x positions)
        variance, mean = (moment.cpu().double() for moment in torch.var_mean(activations, dim=1, correction=0))
        old, new = self.count, activations.shape[1]
        self.count = old + new
        difference = mean - self.mean
        self.mean = self.mean + difference * new / self.count
        between = difference.square() * old * new / self.count
        self.variance = (old * self.variance + new * variance + between) / self.count

    @property
    def unbiased(self) -> Tensor:
        """The variance with the divisor that batch norm keeps it with."""
        return self.variance * self.count / (self.count - 1)


@register_method
class AdaBN(Method):
    """The source model with every batch norm's statistics taken from the target (Li et al. 2018, Pattern Recognition
    80, algorithm 1; arXiv 1603.04779).

    One pass over the target's training inputs, in an order that does not depend on the run's seed: batch norm
    normalises by the batch, everything else is in eval, and each layer's running mean and variance become those of its
    inputs over the whole pass. No weight moves. A network without batch norm stays as it is, and `notes` says so.
    """

    setting = Setting.UNSUPERVISED
    start = "source_only"
    steps = 0
    exempt = {"check_inputs_used": "the source is seen by the run it starts from; it looks at the target alone"}

    def __init__(self, model: Classifier):
        super().__init__(model)
        self.notes: list[str] = []

    def finish(self, data: Data) -> None:
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if not norms:
            self.notes.append("no batch norm in this network: its statistics cannot be adapted, nothing changed")
            return
        moments = [Moments() for _ in norms]
        hooks = [norm.register_forward_pre_hook(m.add) for norm, m in zip(norms, moments, strict=True)]
        self._pass_over(data.target.inputs, norms)
        for norm, hook, m in zip(norms, hooks, moments, strict=True):
            hook.remove()
            norm.get_buffer("running_mean").copy_(m.mean)
            norm.get_buffer("running_var").copy_(m.unbiased)

    @torch.no_grad()
    def _pass_over(self, inputs: Tensor, norms: list[_BatchNorm]) -> None:
        """One forward pass in equal batches of shuffled rows, as folders come sorted by class."""
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
        with evaluating(self):
            for norm in norms:
                norm.train()
            for rows in order.tensor_split(math.ceil(len(inputs) / BATCH)):
                self.model(inputs[rows])
