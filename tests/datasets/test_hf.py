"""Data sets of Hugging Face, from local files: columns, classes, splits, and no word of its own."""

import json
import warnings
from pathlib import Path

import pytest

from dafw.datasets import hf as module
from dafw.datasets.hf import hf
from dafw.domain import Table
from dafw.errors import UsageError
from dafw.modalities.text import texts_of
from dafw.place import Place

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", reason='no datasets: pip install "dafw[text]"')


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's own cache is a test's own, and nothing is asked of a server."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    monkeypatch.setattr(module, "reachable", lambda _: False)


def read(table: Table) -> list[tuple[str, int]]:
    return list(zip(texts_of(table.inputs), table.labels.tolist(), strict=True))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "train.csv").write_text('id,body,stars\n1,good film,10\n2,"bad, film",2\n3,fine,10\n')
    (folder / "test.csv").write_text("id,body,stars\n1,good,10\n2,bad,2\n")
    return folder


def test_a_folder_of_files_with_columns_of_any_name(reviews: Path, capfd) -> None:
    before = datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled(), datasets.config.HF_HUB_OFFLINE
    domain = hf(Place(), path=str(reviews), text="body", label="stars")
    assert (domain.name, domain.classes, domain.modality) == ("reviews", ("2", "10"), "text")
    assert read(domain.train) == [("good film", 1), ("bad, film", 0), ("fine", 1)]
    assert read(domain.test) == [("good", 1), ("bad", 0)]
    assert capfd.readouterr() == ("", "")
    after = datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled(), datasets.config.HF_HUB_OFFLINE
    assert after == before


def test_files_by_a_pattern_and_slices_of_a_split(tmp_path: Path) -> None:
    for number, words in enumerate(("ab", "cd")):
        rows = [{"text": word, "label": "xy"[i]} for i, word in enumerate(words)]
        (tmp_path / f"part{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    domain = hf(Place(), path=str(tmp_path / "*.jsonl"), train_split="train[:50%]", test_split="train[50%:]")
    assert domain.name == tmp_path.name
    assert read(domain.train) == [("a", 0), ("b", 1)]
    assert read(domain.test) == [("c", 0), ("d", 1)]


class Part:
    """A split as `load_dataset` gives it."""

    def __init__(self, names, **columns):
        self.column_names = list(columns)
        self.features = {
            "text": datasets.Value("string"),
            "label": datasets.Value("int64") if names is None else datasets.ClassLabel(names=names),
        }
        self._columns = columns

    def __getitem__(self, column):
        return self._columns[column]


def test_the_names_of_a_class_label_are_the_classes_in_their_order() -> None:
    rows, names = module.rows_of(
        Part(["pos", "neg", "none"], text=["a", "b"], label=[1, 0]), "p", "train", "text", "label"
    )
    assert [(row.text, row.label) for row in rows] == [("a", "neg"), ("b", "pos")]
    domain = module.text_domain("p", "p", rows, rows, names)
    assert domain.classes == ("pos", "neg")  # the one that none has is left out
    assert domain.train.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("label", "text", "expected"),
    [
        (-1, "b", "p test[1]: no label; expected"),
        (None, "b", "p test[1]: no label; expected"),
        (0, None, "p test[1]: no text; expected"),
        (0, "", "p test[1]: the text is empty"),
    ],
)
def test_a_label_that_is_withheld_is_named(label, text, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        module.rows_of(Part(["x", "y"], text=["a", text], label=[0, label]), "p", "test", "text", "label")
    assert str(error.value).startswith(expected)


def message(path: str, place: Place | None = None, **options) -> str:
    with pytest.raises(UsageError) as error:
        hf(place or Place(), path=path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_there_is_told(reviews: Path) -> None:
    assert "has no column 'text'; expected one of id, body, stars, as in src.text=id" in message(str(reviews))
    told = message(str(reviews), text="body", label="stars", test_split="dev")
    assert told.startswith(f"path={reviews}: the split 'dev' cannot be loaded (")
    assert "src.download=true" not in told
    told = message("someone/something", Place(download=False), config="en")
    assert told.startswith("path=someone/something config=en: the split 'train' cannot be loaded (")
    assert told.endswith("or type src.download=true; without a network: a local folder")


def test_it_reads_but_one_row_of_a_label_is_refused(reviews: Path) -> None:
    (reviews / "test.csv").write_text("id,body,stars\n1,good,10\n2,bad,3\n")
    assert message(str(reviews), text="body", label="stars").startswith(
        f"{reviews} train[1]: the label '2' stands in train alone"
    )
