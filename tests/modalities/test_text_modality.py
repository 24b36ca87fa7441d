"""Texts as rows of bytes, rows that are none, and tokens that are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.modalities import Fitted, text
from dafw.modalities.text import bytes_of, texts_of

Asked = Callable[..., tuple[Fitted, list[str]]]


def test_texts_come_back_from_their_bytes() -> None:
    texts = ["plain", "", "é and 漢"]
    assert texts_of(bytes_of(texts)) == texts


def test_a_row_that_is_no_text_is_named() -> None:
    rows = torch.cat([bytes_of(["ab"]), torch.tensor([[97, 0xFF]], dtype=torch.uint8)])
    with pytest.raises(
        UsageError, match=r"^row 1 of a table of texts is not UTF-8 \(.*byte 1\); expected rows as dafw"
    ):
        texts_of(rows)


# ---- tokens


def cut_to(length: int) -> Any:
    """A backbone whose tokens are the bytes of a text, from 1, and how often it was asked."""

    def backbone() -> None:
        pass

    def tokens(texts: list[str], **_: object) -> tuple[Tensor, int]:
        backbone.asked.append(len(texts))
        inputs = torch.zeros((len(texts), 2, length), dtype=torch.long)
        for row, read in zip(inputs, texts, strict=True):
            ids = torch.tensor(list(read.encode()))[:length]
            row[:, : len(ids)] = torch.stack([ids + 1, torch.ones_like(ids)])
        return inputs, sum(len(text) > length for text in texts)

    backbone.asked, backbone.tokens = [], tokens
    return backbone


@pytest.fixture
def asked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Texts brought to a backbone, as by another process each time; and what was noted."""
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))
    parts = [Table(bytes_of(texts), torch.tensor([0, 1])) for texts in (["ab", "abcdef"], ["c", "dé"])]
    domain = Domain("plain", ("x", "y"), *parts, modality="text")

    def ask(backbone: Any, **options: object) -> tuple[Fitted, list[str]]:
        monkeypatch.setattr(text, "_tokenised", {})
        notes: list[str] = []
        return text.fitted([domain], None, backbone, options, notes), notes

    return ask


def test_tokens_of_named_files_are_made_once_and_found_on_disk(asked_in: Asked, tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.txt"
    file.write_text("words")
    backbone = cut_to(4)
    backbone.files = lambda **_: [file]
    first, notes = asked_in(backbone)
    assert backbone.asked == [2, 2]
    again, noted = asked_in(backbone)
    assert backbone.asked == [2, 2]
    assert noted == notes == ["plain: 1 of 4 texts are longer than 4 tokens: cut at their end"]
    assert again.shape == first.shape == (2, 4)
    for part in ("train", "test"):
        before, after = getattr(first.domains[0], part), getattr(again.domains[0], part)
        assert torch.equal(after.inputs, before.inputs)
        assert after.inputs.dtype == torch.int64
        assert torch.equal(after.originals, before.originals)
    file.write_text("more words")
    asked_in(backbone)
    assert backbone.asked == [2, 2, 2, 2]
    asked_in(backbone, length=4)
    assert backbone.asked == [2] * 6


def test_tokens_of_a_backbone_that_names_no_files_are_made_in_every_process(asked_in: Asked, tmp_path: Path) -> None:
    backbone = cut_to(4)
    for count in (2, 4):
        asked_in(backbone)
        assert len(backbone.asked) == count
    assert not (tmp_path / "cache" / "tokens").exists()
