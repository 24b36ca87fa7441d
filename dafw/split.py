"""Rows of a table, and the seeds of every random draw."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dafw.errors import UsageError
from dafw.setting import Output


def mixed_seed(*parts: Any) -> int:
    """One 63-bit seed from several numbers and words, so that no two uses of the run's seed share a stream."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: Any) -> torch.Generator:
    return torch.Generator().manual_seed(mixed_seed(*parts))


def to_float(inputs: Tensor) -> Tensor:
    """uint8 images become floats in [0, 1], int16 sound floats in [-1, 1); anything else passes."""
    if inputs.dtype == torch.uint8:
        return inputs.float().div_(255)
    return inputs.float().div_(2**15) if inputs.dtype == torch.int16 else inputs


class Split:
    """Rows of a table: what a method may see of a domain as a whole.

    views: whether the table holds several views of an example, (N, views, D), of which the first is the clean one
    originals: what the table was made of, in the same rows, where a person cannot read the table
    """

    def __init__(
        self,
        table: Tensor,
        rows: Tensor,
        labels: Tensor,
        domains: Tensor,
        device: torch.device,
        name: str = "",
        views: bool = False,
        originals: Tensor | None = None,
    ):
        self.table = table
        self.rows = rows
        self.domains = domains
        self.name = name
        self.device = device
        self.views = views
        self.originals = originals
        self._labels: Tensor | None = labels

    def __len__(self) -> int:
        return len(self.rows)

    def clean(self, rows: Tensor) -> Tensor:
        """The inputs of these rows of the split, (B, ...), without augmentation, on the device."""
        inputs = self.table[self.rows[rows].to(self.table.device)].to(self.device)
        return inputs[:, 0] if self.views else inputs

    def shown(self, rows: Tensor) -> Tensor:
        """What a person looks at of these rows, on the CPU: the originals where there are some, else the inputs."""
        return (self.table if self.originals is None else self.originals)[self.rows[rows]].cpu()

    @property
    def inputs(self) -> Tensor:
        """All inputs (N, ...) in row order, as they are held: uint8 images, float features."""
        return self.clean(torch.arange(len(self)))

    @property
    def labels(self) -> Tensor:
        """Labels (N,) int64, where the setting allows them; UsageError where it does not."""
        if self._labels is None:
            raise UsageError(f"this setting does not see the labels of {self.name}; declare another `setting`")
        return self._labels

    @labels.setter
    def labels(self, labels: Tensor) -> None:
        self._labels = labels

    def take(self, positions: Tensor, name: str) -> Split:
        return self._with(
            rows=self.rows[positions], _labels=self.labels[positions], domains=self.domains[positions], name=name
        )

    def without_labels(self) -> Split:
        """The same rows with the labels gone, not merely hidden."""
        return self._with(_labels=None)

    def _with(self, **changes: Any) -> Split:
        split = copy.copy(self)
        split.__dict__.update(changes)
        return split

    def outputs(self, method: Any, batch_size: int = 512) -> Output:
        """`method.predict` on every row in order, not augmented: features (N, feature_dim), logits (N, C)."""
        parts = [
            method.predict(self.clean(rows), int(number))
            for number in self.domains.unique_consecutive()  # the sources of a joined split stand one after the other
            for rows in (self.domains == number).nonzero().squeeze(1).split(batch_size)
        ]
        return Output(torch.cat([p.features for p in parts]), torch.cat([p.logits for p in parts]))


def set_aside(split: Split, fraction: float, seed: tuple[Any, ...], name: str) -> tuple[Split, Split | None]:
    """A part drawn at random, without looking at labels, and the rest."""
    if not 0 <= fraction < 1:
        raise UsageError(f"validation={fraction}: expected a fraction from 0 to less than 1, as in tgt.validation=0.1")
    count = round(fraction * len(split))
    if count == 0:
        return split, None
    order = torch.randperm(len(split), generator=generator(*seed))
    rest, aside = order[count:].sort().values, order[:count].sort().values
    return split.take(rest, name), split.take(aside, name.replace("train", "validation"))


def join(splits: Sequence[Split]) -> Split:
    """Several sources as one split; one source stays as it is."""
    if len(splits) == 1:
        return splits[0]
    offsets = torch.tensor([0, *[len(s.table) for s in splits[:-1]]]).cumsum(0)
    return Split(
        torch.cat([s.table for s in splits]),
        torch.cat([s.rows + offset for s, offset in zip(splits, offsets, strict=True)]),
        torch.cat([s.labels for s in splits]),
        torch.cat([s.domains for s in splits]),
        splits[0].device,
        "+".join(s.name for s in splits),
        splits[0].views,
    )
