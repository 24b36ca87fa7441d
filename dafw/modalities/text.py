"""Text: UTF-8 bytes (N, bytes), made int64 (N, 2, tokens) by the backbone's tokeniser: ids and their mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dafw import cache
from dafw.cache import remembered
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.modalities import Fitted
from dafw.sources import reading_hash


class Tokens(NamedTuple):
    """Texts as a backbone's tokeniser makes them: ids and mask, int64 (N, 2, tokens); how many were cut."""

    inputs: Tensor
    cut: int

    @classmethod
    def read(cls, file: Path) -> Tokens:
        with np.load(file, allow_pickle=False) as saved:
            return cls(torch.from_numpy(saved["inputs"]), int(saved["cut"]))

    def write(self, file: Path) -> None:
        with cache.written_whole(file) as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, inputs=self.inputs.numpy(), cut=self.cut)


_tokenised: dict[Any, Tokens] = {}


def fitted(
    domains: Sequence[Domain],
    image_size: int | None,
    network: Callable[..., Any],
    options: Mapping[str, Any],
    notes: list[str],
) -> Fitted:
    """Every domain as tokens, all as many as the longest that the backbone's tokeniser makes of any of them.

    The registered backbone's `tokens(texts, **options)` gives (ids and mask, how many texts were cut).
    """
    if image_size is not None:
        raise UsageError(
            f"image_size={image_size}: these domains hold text; leave it out, or say how many tokens are read, "
            "as in backbone.length=64"
        )
    reading = reading_hash(network, options)
    made: list[tuple[Domain, list[Tokens]]] = []
    for domain in domains:
        tables = [table for table in (domain.train, domain.test) if table is not None]
        made.append((domain, [_tokens(table, network, options, reading) for table in tables]))
    longest = max(part.inputs.shape[2] for _, parts in made for part in parts)
    return Fitted(None, (2, longest), [_with_tokens(domain, parts, longest, notes) for domain, parts in made])


def said(shape: tuple[int, ...]) -> dict[str, str]:
    return {"input": f"{shape[1]} tokens"}


def _tokens(table: Table, network: Callable[..., Any], options: Mapping[str, Any], reading: str | None) -> Tokens:
    """reading: the `reading_hash` of the backbone; without one nothing is kept between processes."""
    tokens: Callable[..., Any] = network.tokens  # type: ignore[attr-defined]
    file = None if reading is None else cache.folder("tokens") / f"{reading}-{table.fingerprint}.npz"

    def made() -> Tokens:
        if file is not None and file.exists():
            return Tokens.read(file)
        found = Tokens(*tokens(texts_of(table.inputs), **options))
        if file is not None:
            found.write(file)
        return found

    key = (table.fingerprint, network, reading, repr(sorted(options.items())))
    return remembered(_tokenised, key, made, most=12)


def _with_tokens(domain: Domain, parts: Sequence[Tokens], longest: int, notes: list[str]) -> Domain:
    if domain.train is None or domain.test is None:
        return domain
    cut = sum(part.cut for part in parts)
    if cut:
        count = sum(len(part.inputs) for part in parts)
        notes.append(f"{domain.name}: {cut} of {count} texts are longer than {longest} tokens: cut at their end")
    padded = [F.pad(part.inputs, (0, longest - part.inputs.shape[2])) for part in parts]
    train, test = (
        replace(table, inputs=inputs, originals=table.inputs)
        for table, inputs in zip((domain.train, domain.test), padded, strict=True)
    )
    return domain.with_tables(train, test)


# ---- a text as a row of bytes


def bytes_of(texts: Sequence[str]) -> Tensor:
    """uint8 (N, bytes of the longest): the texts in UTF-8, filled up with 0, which no text may hold."""
    encoded = [text.encode() for text in texts]
    rows = np.zeros((len(encoded), max(map(len, encoded), default=0)), dtype=np.uint8)
    for row, text in zip(rows, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return torch.from_numpy(rows)


def texts_of(rows: Tensor) -> list[str]:
    """The texts of `bytes_of`. UsageError for a row that it did not make."""
    texts = []
    for number, row in enumerate(rows.numpy()):
        try:
            texts.append(row.tobytes().rstrip(b"\0").decode())
        except UnicodeDecodeError as error:
            raise UsageError(
                f"row {number} of a table of texts is not UTF-8 ({error.reason}, byte {error.start}); "
                "expected rows as dafw.modalities.text.bytes_of(texts) makes them"
            ) from error
    return texts
