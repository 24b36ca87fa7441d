"""Texts as rows of bytes, and rows that are none."""

import pytest
import torch

from dafw.errors import UsageError
from dafw.modalities.text import bytes_of, texts_of


def test_texts_come_back_from_their_bytes() -> None:
    texts = ["plain", "", "é and 漢"]
    assert texts_of(bytes_of(texts)) == texts


def test_a_row_that_is_no_text_is_named() -> None:
    rows = torch.cat([bytes_of(["ab"]), torch.tensor([[97, 0xFF]], dtype=torch.uint8)])
    with pytest.raises(
        UsageError, match=r"^row 1 of a table of texts is not UTF-8 \(.*byte 1\); expected rows as dafw"
    ):
        texts_of(rows)
