"""A domain: one labelled data set drawn from one distribution, with a train and a test split.

A registered data set is a function `name(place, *, options) -> Domain`. What it declares are the function's attributes:

    backbone: the one it is used with where none is typed
    recipe: the values it is published or best used with, as dotted keys
    domains: the names of a family's domains, as in office31/amazon
    called(options): what a domain of these options is called, in folders and tables: else the data set's name
    licence: whose terms hold for it, told with an exported network
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.errors import UsageError
from dafw.registry import nearest


@dataclass(frozen=True)
class Table:
    """Examples held once in memory: inputs (N, ...) of one shape and labels (N,) int64.

    Images are uint8 (N, C, H, W). A text is its UTF-8 bytes, uint8 (N, bytes), 0 at its end, until a backbone's
    tokeniser makes int64 (N, 2, tokens) of it, ids and mask. Speech is int16 (N, samples).
    originals: what the inputs were made of, where a person cannot read them (the bytes of a text): (N, ...)
    """

    inputs: Tensor
    labels: Tensor
    originals: Tensor | None = None

    def __post_init__(self) -> None:
        for name, given, hint in (
            ("inputs", self.inputs, "torch.from_numpy(array), or of texts dafw.modalities.text.bytes_of(texts)"),
            ("labels", self.labels, "torch.tensor([0, 1])"),
        ):
            if not isinstance(given, Tensor):
                raise UsageError(f"a Table's {name} are {type(given).__name__}; expected a tensor, as {hint}")
        if len(self.inputs) != len(self.labels):
            raise UsageError(f"{len(self.inputs)} inputs but {len(self.labels)} labels; expected one label an input")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Tensor) -> Table:
        return Table(self.inputs[index], self.labels[index], None if self.originals is None else self.originals[index])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the bytes of inputs and labels."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.inputs, self.labels):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy()))  # type: ignore[arg-type]
        return digest.hexdigest()


@dataclass(frozen=True)
class Domain:
    """A labelled data set.

    name: what stands in tables and folder names
    classes: the class names, in the order of the labels; domains are matched by them, never by index
    train, test: its examples; None for a domain known only through published weights (ImageNet)
    modality: what one example is: "image", "text", "audio" or, of a frozen backbone, "features"
    flip: whether a mirrored input keeps its label (true for objects, false for digits)
    recipe: the values it is published with, as dotted keys: {"image_size": 128, "train.steps": 2000}
    rate: samples a second, of audio
    notes: what is to be said wherever it is used: "12 of 960 clips are longer than 1 s: cut"
    """

    name: str
    classes: tuple[str, ...]
    train: Table | None
    test: Table | None
    modality: str = "image"
    flip: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)
    rate: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one example, (C, H, W) for images; None without examples."""
        return None if self.train is None else tuple(self.train.inputs.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all examples and class names."""
        tables = [t.fingerprint for t in (self.train, self.test) if t is not None]
        return hashlib.blake2b(repr((self.classes, tables)).encode(), digest_size=16).hexdigest()

    def with_tables(self, train: Table, test: Table) -> Domain:
        return replace(self, train=train, test=test)


# of a data set's inputs: their type, their dimensions, and both in words
MADE: dict[str, tuple[torch.dtype, int, str]] = {
    "image": (torch.uint8, 4, "uint8 (N, C, H, W), from 0 to 255"),
    "text": (torch.uint8, 2, "uint8 (N, bytes), as dafw.modalities.text.bytes_of(texts) makes them"),
    "audio": (torch.int16, 2, "int16 (N, samples), full scale being 32768"),
}


def check_made(domain: Domain) -> None:
    """UsageError where a data set did not make a domain of one of the modalities in `MADE`.

    A part without examples, and a domain of features, are as they are.
    """
    if not isinstance(domain, Domain):
        raise UsageError(
            f"a data set returned {type(domain).__name__}; expected return Domain(name, classes, train, test)"
        )
    name, modality = domain.name, domain.modality
    if not isinstance(name, str):
        raise UsageError(f"a data set returned a Domain of name={name!r}; expected a text, as in Domain('mine', ...)")
    if modality not in (*MADE, "features"):
        raise UsageError(f"{name}: modality={modality!r}; {nearest(str(modality), MADE)}")
    if not isinstance(domain.classes, (tuple, list)) or not all(isinstance(word, str) for word in domain.classes):
        raise UsageError(f"{name}: classes={domain.classes!r}; expected their names, as in ('cat', 'dog')")
    if modality == "audio":
        rate_of(domain)
    for part, table in (("train", domain.train), ("test", domain.test)):
        if table is None and domain.train is domain.test:
            continue  # it is known by published weights
        if not isinstance(table, Table):
            raise UsageError(f"{name}: {part} is {type(table).__name__}; expected a Table(inputs, labels)")
        if modality in MADE:
            dtype, dimensions, expected = MADE[modality]
            if table.inputs.dtype != dtype or table.inputs.ndim != dimensions:
                raise UsageError(f"{name}: the inputs of {part} are {_said(table.inputs)}; expected {expected}")
        _check_labels(table.labels, len(domain.classes), f"{name}: the labels of {part}")


def rate_of(domain: Domain) -> int:
    """The sample rate of a domain of audio; UsageError where it has none."""
    if not isinstance(domain.rate, int):
        raise UsageError(f"{domain.name} gives no sample rate; expected a Domain(..., modality='audio', rate=16000)")
    return domain.rate


def _check_labels(labels: Tensor, classes: int, what: str) -> None:
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise UsageError(f"{what} are {_said(labels)}; expected int64 (N,), as in torch.tensor([0, 1])")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UsageError(
            f"{what} go from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}, places in classes"
        )


def _said(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def resize(images: Tensor, size: int, channels: int) -> Tensor:
    """uint8 images (N, C, H, W) → uint8 (N, channels, size, size): area averaging down, bilinear up.

    Grey becomes colour by repetition, colour grey by the ITU-R 601 luma that PIL uses.
    """
    if images.shape[1] == channels and tuple(images.shape[2:]) == (size, size):
        return images
    resized = torch.empty((len(images), channels, size, size), dtype=torch.uint8)
    for start in range(0, len(images), 1024):  # in parts: floats of a whole data set would not fit
        part = images[start : start + 1024].float()
        if part.shape[1] == 3 and channels == 1:
            part = (part * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if max(part.shape[2:]) > size:
            part = F.interpolate(part, size=(size, size), mode="area")
        elif tuple(part.shape[2:]) != (size, size):
            part = F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False)
        resized[start : start + 1024] = part.round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1)
    return resized
