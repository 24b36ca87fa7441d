"""A frozen backbone: its features become the pair's inputs, computed once, kept in the data cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafw import cache
from dafw.backbone import Backbone
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.pair import View
from dafw.split import generator, to_float


class FrozenNetwork:
    """A network that stands still, known by a hash and made only where it is asked.

    weights: its `fingerprint`
    """

    def __init__(self, weights: str, make: Callable[[], nn.Module]):
        self.weights = weights
        self._make = make

    @classmethod
    def of(cls, network: nn.Module) -> FrozenNetwork:
        """One that is made already."""
        known = cls(fingerprint(network), lambda: network)
        known.network = network
        return known

    @cached_property
    def network(self) -> nn.Module:
        """UsageError where it is made now, and is not the one that the hash was of."""
        made = self._make()
        if fingerprint(made) != self.weights:
            raise UsageError(
                "the files of the frozen network changed and kept their sizes and times of writing, by which they are "
                f"known; type rm -r {cache.folder('networks')} and repeat the command"
            )
        return made


class FrozenBackbone(Backbone):
    """Standardises cached features (B, D) by the mean and standard deviation of the source's training features.

    Inputs of the network's own `shape` pass through it first, so that a finished run also answers to images. The
    network is no submodule: it is never trained, nor saved with the run (its published weights are).
    """

    def __init__(self, network: FrozenNetwork, features: Tensor | None, width: int, shape: tuple[int, ...]):
        nn.Module.__init__(self)
        mean, std = (torch.zeros(width), torch.ones(width)) if features is None else _moments(features)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.features = width
        self.shape = shape
        self._frozen = network

    def forward(self, inputs: Tensor) -> Tensor:
        if tuple(inputs.shape[1:]) == self.shape:
            inputs = encode(self.network, inputs)
        return (inputs - self.mean) / self.std

    @property
    def network(self) -> nn.Module:
        return self._frozen.network


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, the latter at least a tenth of their root mean square.

    A feature that is silent on the source may speak on the target: divided by next to nothing it would drown the rest.
    """
    std = features.std(0)
    return features.mean(0), std.clamp_min(max(0.1 * float(std.square().mean().sqrt()), 1e-6))


@torch.no_grad()
def encode(network: nn.Module, inputs: Tensor) -> Tensor:
    """Features (B, D) of inputs (B, ...) in eval mode, on the network's device."""
    network.eval()
    device = next(network.parameters()).device
    inputs = to_float(inputs.to(device))
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return network(inputs).float()


def fingerprint(network: nn.Module) -> str:
    """A hash of all weights and buffers, saved or not, and of the layers with their strides and sizes."""
    digest = hashlib.blake2b(repr(network).encode(), digest_size=16)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(name.encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return digest.hexdigest()


def features_of(
    table: Table, frozen: FrozenNetwork, views: int, weak: View, flip: bool, note: Callable[[str], None]
) -> Table:
    """The features (N, views, D) of a table, computed now or found in the cache.

    View 0 is the example as it is, the others are weak views. The key is the weights, the data (its size included),
    the number of views and whether they flip.
    """
    key = hashlib.blake2b(repr((frozen.weights, table.fingerprint, views, flip and views > 1)).encode(), digest_size=16)
    path = cache.folder("features") / f"{key.hexdigest()}.npy"
    if not path.exists():
        note(f"features of {len(table)} examples, computed once: {path}")
        network = frozen.network
        device = next(network.parameters()).device
        parts = []
        for rows in torch.arange(len(table)).split(64):
            seeded = generator("features", int(rows[0]))
            drawn = [weak(table.inputs, rows, seeded, flip, device) for _ in range(views - 1)]
            parts.append(torch.stack([encode(network, view) for view in (table.inputs[rows], *drawn)], dim=1).cpu())
        with cache.written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, torch.cat(parts).numpy(), allow_pickle=False)
    # copy-on-write: torch warns about memory that it may not write
    mapped: Any = np.load(path, mmap_mode="c", allow_pickle=False)
    return Table(torch.from_numpy(mapped), table.labels)


def encoded(domain: Domain, convert: Callable[[Table], Table]) -> Domain:
    """The domain with features in place of its inputs."""
    assert domain.train is not None
    assert domain.test is not None
    return Domain(domain.name, domain.classes, convert(domain.train), convert(domain.test), "features", domain.flip)
