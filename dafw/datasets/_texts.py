"""Labelled texts: read from files, checked row by row, made a domain."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dafw.datasets._folders import Kind, listed_files
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.modalities.text import bytes_of
from dafw.place import Place

TEXTS = Kind("text", (".txt",))
FORMATS = "a .jsonl, .jsonl.gz or .csv file with text, label and perhaps split (train or test)"
SPLITS = ("train", "test")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MOST_BYTES = 16_384  # of one text, some 3,000 words: all texts of a table take as much memory as its longest


class Row(NamedTuple):
    """A labelled text, and where it stands, as "reviews.csv:7"; split: "train", "test", or None where none is said."""

    text: str
    label: str
    where: str
    split: str | None = None


def checked_row(text: Any, label: Any, where: str, split: Any = None) -> Row:
    """A row whose text holds words and whose label is a word or a whole number; UsageError for any other."""
    if not isinstance(text, str):
        raise UsageError(f'{where}: {_given("text", text)}; expected a text, as in text="It works."')
    if not text.strip():
        raise UsageError(f"{where}: the text is empty; write one or delete the row")
    if "\0" in text:
        raise _nul(where)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: the text holds {text[error.start]!r}, half a character; delete it") from error
    if isinstance(label, bool) or not isinstance(label, int | str) or not str(label).strip():
        raise UsageError(f"{where}: {_given('label', label)}; expected a word or a whole number, as in label=positive")
    if split not in (None, "", *SPLITS):
        raise UsageError(f"{where}: split={split!r}; expected train or test, or no split in the whole file")
    return Row(text, str(label).strip(), where, split or None)


def _given(key: str, value: Any) -> str:
    return f"no {key}" if value is None or value == "" else f"{key}={value!r}"


def text_domain(
    name: str, origin: str, train: Sequence[Row], test: Sequence[Row], classes: Sequence[str] = ()
) -> Domain:
    """The domain of checked rows; its classes are their labels, in the order of `classes` or sorted.

    origin: what its rows were read from, for errors. UsageError for a single class, and one that a split lacks.
    """
    found = {row.label for row in (*train, *test)}
    names = tuple(label for label in classes if label in found) or ordered(found)
    if len(names) < 2:
        raise UsageError(f"{origin} has one class, {', '.join(names)!r}; expected two or more different labels")
    for rows, others, part, other in ((train, test, "train", "test"), (test, train, "test", "train")):
        there = {row.label for row in others}
        alone = next((row for row in rows if row.label not in there), None)
        if alone is not None:
            raise UsageError(
                f"{alone.where}: the label {alone.label!r} stands in {part} alone; expected it in {other} too, "
                "or delete its rows"
            )
    cut = sum(len(row.text.encode()) > MOST_BYTES for row in (*train, *test))
    notes = (f"{name}: {cut} of {len(train) + len(test)} texts are longer than {MOST_BYTES} bytes: cut",) if cut else ()
    return Domain(name, names, _table(train, names), _table(test, names), modality="text", notes=notes)


def ordered(labels: set[str]) -> tuple[str, ...]:
    """Class names in alphabetical order, or from the smallest to the largest where all are whole numbers."""
    numbers = all(label.removeprefix("-").isdecimal() for label in labels)
    return tuple(sorted(labels, key=int if numbers else None))


def _table(rows: Sequence[Row], names: tuple[str, ...]) -> Table:
    number = {name: index for index, name in enumerate(names)}
    texts = [row.text.encode()[:MOST_BYTES].decode(errors="ignore") for row in rows]
    return Table(bytes_of(texts), torch.tensor([number[row.label] for row in rows], dtype=torch.long))


# ---- files


def read_file(path: Path) -> list[Row]:
    """The rows of a .jsonl or .csv file, gzipped or not; UsageError naming file and line for what is wrong in it."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in READERS:
        raise UsageError(f"{path}: expected {FORMATS}, or a folder of class folders of .txt files")
    rows = list(READERS[kind](path, decoded(path, _content(path))))
    if not rows:
        raise UsageError(f"{path} holds no rows; expected {FORMATS}")
    parted = next((row for row in rows if (row.split is None) != (rows[0].split is None)), None)
    if parted is not None:
        raise UsageError(f"{parted.where}: some rows have a split and some have none; expected it in all or in none")
    return rows


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({error}); expected {FORMATS}") from error


def decoded(path: Path, content: bytes) -> str:
    """The characters of a file in UTF-8; UsageError naming the line and the byte of one in another encoding."""
    nul = content.find(b"\0")
    if nul >= 0 and content[:2] not in UTF16_MARKS:
        raise _nul(_line(path, content, nul))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if content[:2] in UTF16_MARKS else "CP1252"
        raise UsageError(
            f"{_line(path, content, error.start)}: the byte 0x{content[error.start]:02x} is not UTF-8; "
            f"type iconv -f {guess} -t UTF-8 {path.name} > new{path.suffix} if it is {guess}"
        ) from error


def _line(path: Path, content: bytes, position: int) -> str:
    number = content.count(b"\n", 0, position) + 1
    return f"{path}:{number}"


def _nul(where: str) -> UsageError:
    return UsageError(f"{where}: the text holds a NUL, the byte 0; expected words in UTF-8: delete it")


def _json_rows(path: Path, content: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f'{where}: not JSON ({error}); expected {{"text": "...", "label": "..."}} a line'
            ) from error
        if not isinstance(values, dict):
            raise UsageError(f'{where}: {type(values).__name__}; expected {{"text": "...", "label": "..."}} a line')
        yield checked_row(values.get("text"), values.get("label"), where, values.get("split"))


def _csv_rows(path: Path, content: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    lacking = [key for key in ("text", "label") if key not in (reader.fieldnames or ())]
    if lacking:
        raise UsageError(f"{path}:1: no column {lacking[0]!r}; expected a first line such as: text,label")
    try:
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if None in values:
                raise UsageError(f"{where}: more fields than the first line has; put a text with a comma in quotes")
            yield checked_row(values["text"], values["label"], where, values.get("split"))
    except csv.Error as error:
        where = f"{path}:{reader.line_num + 1}"  # line_num is the end of the last whole row
        raise UsageError(f"{where}: not CSV ({error}); put quotes around a text, and double its own") from error


READERS = {".jsonl": _json_rows, ".csv": _csv_rows}


def parted_rows(rows: Sequence[Row], place: Place, test_fraction: float) -> tuple[list[Row], list[Row]]:
    """Train and test rows: as the file says, else by the split seed, stratified."""
    if rows[0].split is not None:
        train, test = ([row for row in rows if row.split == split] for split in SPLITS)
        return train, test
    names = ordered({row.label for row in rows})
    counted = {name: [row for row in rows if row.label == name] for name in names}
    single = next((found[0] for found in counted.values() if len(found) == 1), None)
    if single is not None:
        raise UsageError(f"{single.where}: the only text of {single.label!r}; expected two or more of a label to split")
    chosen = place.split(torch.tensor([names.index(row.label) for row in rows]), test_fraction)
    train, test = ([rows[index] for index in part] for part in chosen)
    return train, test


def read_folder(folder: Path, place: Place, test_fraction: float) -> tuple[list[Row], list[Row]]:
    """Train and test rows of class folders of .txt files, a text a file."""
    listed = listed_files(folder, TEXTS, place, test_fraction)
    rows = []
    for file, label in zip(listed.files, listed.labels.tolist(), strict=True):
        text = decoded(file, _content(file))
        if not text.strip():
            raise UsageError(f"{file}: the file is empty; write a text into it or delete it")
        rows.append(checked_row(text, listed.classes[label], str(file)))
    return rows[: listed.count], rows[listed.count :]
