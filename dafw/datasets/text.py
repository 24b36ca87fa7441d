"""Texts of one's own: a file of labelled rows, or a folder of class folders."""

from __future__ import annotations

from pathlib import Path

from dafw.datasets._texts import FORMATS, TEXTS, parted_rows, read_file, read_folder, text_domain
from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.place import Place, called, called_by
from dafw.registry import register_dataset


@register_dataset
def text(place: Place, *, path: Path, test_fraction: float = 0.3) -> Domain:
    """A .jsonl, .jsonl.gz or .csv file of rows with text, label and perhaps split, or class folders of .txt files.

    path: the file or the folder; without a split in it, test_fraction of each class is drawn for the test by split_seed
    """
    given = Path(path).expanduser()
    if given.is_dir():
        train, test = read_folder(given, place, test_fraction)
    elif given.is_file():
        train, test = parted_rows(read_file(given), place, test_fraction)
    else:
        raise UsageError(f"path={path}: no such file; expected {FORMATS}, or {TEXTS.layout}")
    return text_domain(called(given), str(path), train, test)


text.backbone = "minilm"
text.recipe = {"backbone.frozen": True}
text.called = called_by("path")
