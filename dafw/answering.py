"""What of a finished run answers raw inputs, alone: what it costs to ask, and what is exported."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dafw.record as records
from dafw import assembly, checkpoint
from dafw.config import Config, backbone, config_of
from dafw.errors import UsageError
from dafw.frozen import FrozenBackbone
from dafw.method import Method
from dafw.record import Record
from dafw.split import generator


class Answering(nn.Module):
    """All of a finished run that answers raw inputs (B, ...): `predict` of its method, to logits (B, classes).

    The network of a frozen backbone is a part of it. What no answer reads (a discriminator, a bank of features) is
    gone: `example` (1, ...) shows what is read.
    """

    def __init__(self, method: Method, example: Tensor):
        super().__init__()
        self.method = copy.deepcopy(method)  # its frozen network may be shared with other runs of the process
        body = self.method.model.backbone
        if isinstance(body, FrozenBackbone):
            self.frozen = body.network
        self.eval().requires_grad_(False)
        drop_unread(self, example)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.method.predict(inputs).logits

    def made_plain(self) -> Answering:
        """Every weight that is computed from others, such as a pruned one by its mask, becomes what it comes to."""
        for module in list(self.modules()):
            if parametrize.is_parametrized(module):
                weights = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
                # not by remove_parametrizations: it mends the class, which the module shares with what it is a copy of
                module.__class__ = parametrize.type_before_parametrizations(module)
                del module.parametrizations
                for name, weight in weights.items():
                    module.register_parameter(name, nn.Parameter(weight))
        return self.requires_grad_(False)


class _Read(TorchDispatchMode):
    """Where the tensors lie that any operation is given."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self.places.add(value.untyped_storage().data_ptr())
        return operation(*args, **(kwargs or {}))


def drop_unread(network: nn.Module, example: Tensor) -> None:
    """Parameters and buffers that the answer to `example` does not read become None."""
    with _Read() as read:
        network(example)
    for module in network.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.untyped_storage().data_ptr() not in read.places:
                setattr(module, name, None)


class Finished(NamedTuple):
    """A finished run, to be asked.

    shape: of one input, (C, S, S) images, (2, tokens) ids and mask, (samples,) sound
    """

    record: Record
    config: Config
    method: Method
    classes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def modality(self) -> str:
        return getattr(backbone(self.config.backbone["name"]), "modality", "image")

    def example(self, count: int) -> Tensor:
        """Inputs (count, *shape) as the network takes them, drawn at random, the same at each call."""
        seeded = generator("example", self.shape)
        if self.modality == "text":
            ids = torch.randint(self._vocabulary(), (count, self.shape[1]), generator=seeded)
            return torch.stack([ids, torch.ones_like(ids)], dim=1)
        drawn = torch.rand((count, *self.shape), generator=seeded)
        return 2 * drawn - 1 if self.modality == "audio" else drawn

    def _vocabulary(self) -> int:
        """How many ids there are: the largest table of embeddings is that of the words."""
        body = self.method.model.backbone
        network = body.network if isinstance(body, FrozenBackbone) else body
        return max((m.num_embeddings for m in network.modules() if isinstance(m, nn.Embedding)), default=2)

    def answering(self) -> Answering:
        return Answering(self.method, self.example(1))


def finished(folder: str | Path) -> Finished:
    """The finished run in a folder. UsageError where there is none, or where it has not ended well."""
    record = records.read(Path(folder))
    if record is None:
        raise UsageError(
            f"{folder}: no finished run, it has no result.json; expected the folder that a run names last, "
            "as in runs/a-b/dann/..."
        )
    if record.result["status"] != "done":
        reason = record.result.get("reason", record.result["status"])
        raise UsageError(f"{folder}: this run did not end ({reason}); expected a finished one: repeat its command")
    method = assembly.load(folder)
    saved = checkpoint.load(Path(folder) / "checkpoint.pt")
    return Finished(record, config_of(saved["config"]), method, tuple(saved["classes"]), tuple(saved["input_shape"]))
