"""The base class of every method."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dafw.classifier import Classifier
from dafw.setting import Batch, Output, Progress, Setting, Step

if TYPE_CHECKING:
    from dafw.pair import Data


class Method(nn.Module):
    """One published idea: the losses of one step, and, where it needs them, the hooks around the loop.

    **Keyword-only arguments of `__init__` are the hyper-parameters**: they need a type, and appear by themselves on
    the command line, in the saved config, in W&B and in `python -m dafw.list methods`.

    A float hyper-parameter `weight` scales every term but `classification`, `<term>_weight` that term.
    All that a method remembers is a parameter, a buffer or in `get_extra_state`.

    setting: what it may see
    start: "init", or the name of the method whose run it starts from
    steps: 0 for closed forms (everything happens in `finish`); None: as many as the config says
    runs: the hyper-parameters that name finished runs, ("teacher",): this one then depends on them, and `setup` asks
        them by `data.teacher(path).answer(batch.target)`, whatever network they have
    recipe: published `train.*` values, {"train.lr": 0.01}; the config shows them and the command line overrides them
    """

    setting: Setting
    start: str = "init"
    steps: int | None = None
    runs: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model
        self._logged: dict[str, float | Tensor] = {}

    def losses(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms of one step; the trainer minimises their sum and logs each. Pure but for the RNG."""
        raise NotImplementedError(f"{type(self).__name__} defines neither losses nor update")

    def update(self, batch: Batch, progress: Progress) -> Generator[Step, None, Output | None]:
        """The optimiser steps of one batch; what stands after a `yield` runs after that step.

        What it returns is recorded as the answer to the batch by test-time methods, and ignored for others.
        """
        yield Step(self.losses(batch, progress))
        return None

    def setup(self, data: Data) -> None:
        """Once, before training and before a checkpoint loads: buffers whose size is the data's, frozen copies."""

    def prepare(self, data: Data, progress: Progress) -> None:
        """Before each pass over the target (the source where there is none): whole-set work such as pseudo-labels."""

    def finish(self, data: Data) -> None:
        """Once, at the end: fit a linear classifier, re-estimate batch norm."""

    def predict(self, inputs: Tensor, domain: int = -1) -> Output:
        """The answer to inputs (B, ...): floats in [0, 1] or uint8 of the pair's shape. Pure; rows are independent."""
        with evaluating(self), torch.no_grad():
            return self.model(inputs)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups: pretrained parameters at 0.1 x lr, new ones at lr (the convention of the field)."""
        old = {f"model.{name}" for name in self.model.pretrained}
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for name, p in named if name in old], "lr": 0.1 * lr},
            {"params": [p for name, p in named if name not in old], "lr": lr},
        ]
        return [group for group in groups if group["params"]]

    def log(self, **values: float | Tensor) -> None:
        """Record numbers that are not minimised, such as a discriminator's accuracy; tensors are detached."""
        for name, value in values.items():
            self._logged[name] = value.detach() if isinstance(value, Tensor) else value

    def pop_logged(self) -> dict[str, float | Tensor]:
        """What was logged since the last call (for the trainer)."""
        logged, self._logged = self._logged, {}
        return logged


@contextmanager
def evaluating(module: nn.Module) -> Generator[None, None, None]:
    """Everything in `module` in eval mode, and afterwards as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
