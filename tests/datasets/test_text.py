"""Labelled texts of one's own: files and folders, the split, and what is wrong with a row."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from dafw.datasets import _texts
from dafw.datasets.text import text
from dafw.domain import Table
from dafw.errors import UsageError
from dafw.modalities.text import bytes_of, texts_of
from dafw.place import Place
from dafw.registry import DATASETS

ROWS = [(f"It was {word}.", label) for label, words in (("good", "abcdef"), ("bad", "uvwxyz")) for word in words]


def json_lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(table: Table) -> list[tuple[str, int]]:
    return list(zip(texts_of(table.inputs), table.labels.tolist(), strict=True))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_text(json_lines({"text": words, "label": label} for words, label in ROWS))
    return path


def test_texts_are_rows_of_bytes() -> None:
    words = ["naïve 日本 🙂", "", "two\nlines"]
    rows = bytes_of(words)
    assert rows.dtype == torch.uint8
    assert rows.shape == (3, len(words[0].encode()))
    assert bytes(rows[2, :9].tolist()) == b"two\nlines"
    assert rows[2, 9:].sum() == 0
    assert texts_of(rows) == words


def test_rows_without_a_split_are_split_stratified_by_the_split_seed(reviews: Path) -> None:
    domain = text(Place(split_seed=1), path=reviews)
    assert (domain.name, domain.classes, domain.modality) == ("reviews", ("bad", "good"), "text")
    assert domain.train.labels.bincount().tolist() == [4, 4]
    assert domain.test.labels.bincount().tolist() == [2, 2]
    expected = sorted((words, int(label == "good")) for words, label in ROWS)
    assert sorted(read(domain.train) + read(domain.test)) == expected
    assert text(Place(split_seed=1), path=reviews).fingerprint == domain.fingerprint
    assert read(text(Place(split_seed=2), path=reviews).test) != read(domain.test)
    assert len(text(Place(), path=reviews, test_fraction=0.5).test) == 6


def test_a_split_in_the_file_is_kept_and_other_keys_are_passed_over(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "text": "b\u2028b", "label": 10, "split": "test"},
        {"text": "a", "label": 2, "split": "train"},
        {"text": " c ", "label": 10, "split": "train", "rating": None},
        {"text": "d", "label": 2, "split": "test"},
    ]
    (tmp_path / "x.y.jsonl.gz").write_bytes(gzip.compress(("\n" + json_lines(rows)).encode("utf-8-sig")))
    domain = text(Place(), path=tmp_path / "x.y.jsonl.gz")
    assert (domain.name, domain.classes) == ("x.y", ("2", "10"))  # numbers in their own order
    assert read(domain.train) == [("a", 0), (" c ", 1)]
    assert read(domain.test) == [("b\u2028b", 1), ("d", 0)]


def test_csv_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(
        'label,text,split\r\ngood,"yes, ""very""\nmuch",train\r\nbad,no,train\r\ngood, ok ,test\r\nbad,n,test\r\n',
        newline="",
    )
    domain = text(Place(), path=path)
    assert domain.classes == ("bad", "good")
    assert read(domain.train) == [('yes, "very"\nmuch', 1), ("no", 0)]
    assert read(domain.test) == [(" ok ", 1), ("n", 0)]


def test_class_folders_hold_a_text_a_file(tmp_path: Path) -> None:
    for part, numbers in (("train", "012"), ("test", "3")):
        for label in ("neg", "pos"):
            folder = tmp_path / "films" / part / label
            folder.mkdir(parents=True)
            for number in numbers:
                (folder / f"{number}.txt").write_text(f"{label} {number}\n", encoding="utf-8")
            (folder / ".DS_Store").touch()
    domain = text(Place(), path=tmp_path / "films")
    assert (domain.name, domain.classes) == ("films", ("neg", "pos"))
    assert read(domain.train) == [(f"{label} {n}\n", i) for i, label in enumerate(("neg", "pos")) for n in "012"]
    assert read(domain.test) == [("neg 3\n", 0), ("pos 3\n", 1)]
    single = text(Place(), path=tmp_path / "films" / "train", test_fraction=0.4)
    assert (len(single.train), len(single.test), single.classes) == (4, 2, ("neg", "pos"))


def test_a_text_beyond_all_measure_is_cut_between_characters_and_said_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_texts, "MOST_BYTES", 9)
    path = tmp_path / "long.jsonl"
    words = ["1234567é9", "12345678é", "123456789", "short"]
    path.write_text(
        json_lines({"text": w, "label": i % 2, "split": s} for s in ("train", "test") for i, w in enumerate(words))
    )
    domain = text(Place(), path=path)
    assert texts_of(domain.train.inputs) == ["1234567é", "12345678", "123456789", "short"]
    assert domain.notes == ("long: 4 of 8 texts are longer than 9 bytes: cut",)


def test_it_is_registered_with_its_defaults() -> None:
    assert DATASETS.get("text") is text
    assert (text.backbone, text.recipe) == ("minilm", {"backbone.frozen": True})


# ---- what is wrong


def message(path: Path, **options) -> str:
    with pytest.raises(UsageError) as error:
        text(Place(), path=path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


GOOD = '{"text": "fine", "label": "good"}\n{"text": "fine too", "label": "good"}\n'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": " ", "label": "bad"}', ":3: the text is empty"),
        ('{"label": "bad"}', ":3: no text; expected a text"),
        ('{"text": 5, "label": "bad"}', ":3: text=5; expected a text"),
        ('{"text": "x"}', ":3: no label; expected a word or a whole number"),
        ('{"text": "x", "label": null}', ":3: no label; expected"),
        ('{"text": "x", "label": ""}', ":3: no label; expected"),
        ('{"text": "x", "label": 0.5}', ":3: label=0.5; expected a word or a whole number"),
        ('{"text": "x", "label": true}', ":3: label=True; expected a word or a whole number"),
        ('{"text": "x", "label": "bad", "split": "dev"}', ":3: split='dev'; expected train or test"),
        ('{"text": "x", "label": "bad", "split": "test"}', ":3: some rows have a split and some have none"),
        ('{"text": "x\\u0000y", "label": "bad"}', ":3: the text holds a NUL"),
        ('{"text": "x\\ud800", "label": "bad"}', ":3: the text holds '\\ud800', half a character"),
        ('{"text": "x", "label": "bad"', ":3: not JSON (Expecting"),
        ("[1]", ':3: list; expected {"text": "...", "label": "..."} a line'),
        ('{"text": "x", "label": "bad"}', ":3: the only text of 'bad'; expected two or more"),
        ("", " has one class, 'good'; expected two or more"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_line(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(GOOD + line)
    assert message(path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("words,label\nx,good\n", ":1: no column 'text'; expected a first line such as: text,label"),
        ("", ":1: no column 'text'"),
        ("text,label\nx,good\ny\n", ":3: no label"),
        ("text,label\nx,good\n,bad\n", ":3: the text is empty"),
        ("text,label\nx,good\ny,z,bad\n", ":3: more fields than the first line has"),
        ('text,label\nx,good\n"y,bad\n', ":3: not CSV ("),
        ('text,label\n"x\ny",good\n"y"z,bad\n', ":4: not CSV ("),
        ("text,label\n", " holds no rows"),
    ],
)
def test_wrong_csv_is_named_with_its_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    assert message(path).startswith(f"{path}{expected}")


def test_another_encoding_is_named_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nfine,good\ncafé,bad\n".encode("latin-1"))
    assert message(path).startswith(f"{path}:3: the byte 0xe9 is not UTF-8; type iconv -f CP1252 -t UTF-8 rows.csv")
    path.write_bytes("text,label\n".encode("utf-16"))
    assert "the byte 0xff is not UTF-8; type iconv -f UTF-16" in message(path)
    path.write_bytes("text,label\n".encode("utf-16-le"))
    assert message(path).startswith(f"{path}:1: the text holds a NUL")
    folder = tmp_path / "films" / "a"
    folder.mkdir(parents=True)
    (folder / "0.txt").write_bytes(b"fine\n\xfe")
    (folder / "1.txt").write_bytes(b"fine\n")
    assert message(folder.parent).startswith(f"{folder}/0.txt:2: the byte 0xfe is not UTF-8")


@pytest.mark.parametrize(("alone", "other"), [("train", "test"), ("test", "train")])
def test_a_label_of_one_split_alone_is_named(tmp_path: Path, alone: str, other: str) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [("a", "x", "train"), ("b", "x", "test"), ("c", "y", "train"), ("d", "y", "test"), ("e", "z", alone)]
    path.write_text(json_lines({"text": t, "label": label, "split": s} for t, label, s in rows))
    assert message(path).startswith(f"{path}:5: the label 'z' stands in {alone} alone; expected it in {other} too")


def test_files_that_are_not_there_or_not_whole_are_named(tmp_path: Path, reviews: Path) -> None:
    assert message(tmp_path / "none.csv").startswith(f"path={tmp_path}/none.csv: no such file; expected a .jsonl")
    other = tmp_path / "reviews.xlsx"
    other.touch()
    assert message(other).startswith(f"{other}: expected a .jsonl, .jsonl.gz or .csv file")
    packed = tmp_path / "reviews.jsonl.gz"
    for content in (gzip.compress(reviews.read_bytes())[:-9], b"plain"):
        packed.write_bytes(content)
        assert message(packed).startswith(f"{packed} cannot be read (")
    assert "test_fraction=1.0: expected a number between 0 and 1" in message(reviews, test_fraction=1.0)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    films = tmp_path / "films"
    for name, content in (("a/0.txt", "x"), ("a/1.txt", "y")):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        (films / name).write_text(content)
    assert message(films).startswith(f"{films} has one class, 'a'; expected two or more")
    (films / "b").mkdir()
    assert message(films).startswith(f"the class folder {films}/b is empty")
    (films / "b" / "0.txt").write_text("  \n")
    assert message(films).startswith(f"{films}/b: one text; expected two or more of 'b'")
    (films / "b" / "1.txt").write_text("z")
    assert message(films) == f"{films}/b/0.txt: the file is empty; write a text into it or delete it"
    (films / "b" / "2.pdf").touch()
    assert message(films).startswith(f"{films}/b/2.pdf is not a whole text (by its name); expected .txt")
