"""VADER's domains as they are read, and the script that prepares them."""

import gzip
import hashlib
import importlib.util
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dafw.config import dataset_names
from dafw.datasets.vader import vader
from dafw.errors import UsageError
from dafw.modalities.text import texts_of
from dafw.place import Place


def write(folder: Path, domain: str, rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{domain}.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))


ROWS = [
    {"id": f"{i}", "text": f"text {i}", "label": i % 2, "rating": 2.0 * (i % 2) - 1, "split": split}
    for i, split in enumerate(["train"] * 4 + ["test"] * 2)
]


@pytest.mark.parametrize("place", ["data", "root"])
def test_a_domain_is_its_file(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "vader"
    write(folder, "movies", ROWS)
    domain = vader(Place(**{place: tmp_path if place == "data" else folder}, domain="movies"))
    assert (domain.name, domain.classes, domain.modality) == ("vader/movies", ("negative", "positive"), "text")
    assert texts_of(domain.train.inputs) == ["text 0", "text 1", "text 2", "text 3"]
    assert domain.train.labels.tolist() == [0, 1, 0, 1]
    assert texts_of(domain.test.inputs) == ["text 4", "text 5"]
    assert domain.test.labels.tolist() == [0, 1]


def test_what_is_missing_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        vader(Place(data=tmp_path, domain="nyt"))
    told = str(error.value)
    assert "\n" not in told
    assert told.startswith(f"vader/nyt: not found in {tmp_path}/vader or ")
    assert f"put nyt.jsonl.gz into {tmp_path}/vader (python scripts/prepare_vader.py {tmp_path}/vader" in told


def test_all_four_can_be_typed() -> None:
    assert {f"vader/{domain}" for domain in ("tweets", "amazon", "movies", "nyt")} <= set(dataset_names())
    assert (vader.backbone, vader.recipe) == ("minilm", {"backbone.frozen": True})


def test_the_real_domains_are_balanced(tmp_path: Path, real_data: Path) -> None:
    (tmp_path / "vader").mkdir()
    for domain, train, test in (("tweets", 644, 310), ("amazon", 772, 400), ("movies", 800, 400)):
        (tmp_path / "vader" / f"{domain}.jsonl.gz").symlink_to(real_data / f"text_{domain}.jsonl.gz")
        found = vader(Place(data=tmp_path, domain=domain))
        assert found.train.labels.bincount().tolist() == [train, train]
        assert found.test.labels.bincount().tolist() == [test, test]
        assert not set(texts_of(found.train.inputs)) & set(texts_of(found.test.inputs))


# ---- the script


@pytest.fixture(scope="session")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "prepare_vader.py"
    if not path.is_file():
        pytest.skip(f"no {path}: these tests need the checkout")
    spec = importlib.util.spec_from_file_location("prepare_vader", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sdist_of(script: ModuleType, texts: dict[str, str]) -> bytes:
    """A source archive as PyPI has it, with these ground truths."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for domain, name in script.FILES.items():
            content = ("\ufeff" + texts.get(domain, "")).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr(script.ARCHIVE, inner.getvalue())
    return outer.getvalue()


def test_sentences_are_clear_and_long_enough(script: ModuleType) -> None:
    lines = [
        "1\t0.51\tLess &lt; more  than   this",
        "2\t0.5\tnot clear enough at all",
        "3\t-0.6\tit's\tbad.",
        "4\t-2\t@anonymous so bad! http://url_removed",
        "5\t3\t@anonymous oh so good",
    ]
    found = [tuple(sentence) for sentence in script.sentences("\r\n".join(lines))]
    assert found == [
        ("1", "Less < more than this", 0.51),
        ("3", "it's bad.", -0.6),  # three words: it, s, bad
        ("5", "@anonymous oh so good", 3.0),
    ]
    assert script.words("@Ann: See http://a.b/c it's 2 GOOD_ones") == ["see", "it", "s", "2", "good_ones"]


def jaccard(first: str, second: str) -> float:
    threes = [{tuple(t.split()[i : i + 3]) for i in range(len(t.split()) - 2)} for t in (first, second)]
    return len(threes[0] & threes[1]) / len(threes[0] | threes[1])


def test_near_duplicates_are_dropped_across_domains(script: ModuleType) -> None:
    """Against a slow loop over all that was kept before."""
    random = np.random.default_rng(0)
    vocabulary = ["a", "b", "c"]
    texts = [" ".join(random.choice(vocabulary, random.integers(3, 9))) for _ in range(120)]
    domains = {
        "tweets": [script.Sentence(str(i), text, 1.0) for i, text in enumerate(texts[:60])],
        "amazon": [script.Sentence(str(i), text, 1.0) for i, text in enumerate(texts[60:])],
    }
    expected: list[str] = []
    for text in texts:
        if all(jaccard(text, other) < script.SIMILARITY for other in expected):
            expected.append(text)
    kept = script.without_near_duplicates(domains)
    assert [s.text for part in kept.values() for s in part] == expected
    assert 20 < len(expected) < 110


def test_what_was_written_together_stays_together_and_classes_are_balanced(script: ModuleType) -> None:
    kept = [script.Sentence(f"{i // 5}_{i}", f"text {i}", 1.0 if i % 3 else -1.0) for i in range(600)]
    rows = script.divided("nyt", kept)
    counted = Counter((row["split"], row["label"]) for row in rows)
    assert counted["train", 0] == counted["train", 1]
    assert counted["test", 0] == counted["test", 1]
    assert 50 <= counted["test", 0] <= 85  # a third of 120 articles, 200 negative sentences in all
    splits: dict[str, set[object]] = {}
    for row in rows:
        splits.setdefault(str(row["id"]).partition("_")[0], set()).add(row["split"])
        assert row["label"] == int(row["rating"] > 0)
    assert all(len(found) == 1 for found in splits.values())
    drawn = repr([(row["id"], row["split"]) for row in rows])
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "e1892d1f35ee7f35"  # whatever Python's version
    rows = script.divided("movies", [s._replace(id=str(i)) for i, s in enumerate(kept * 8)])
    counted = Counter((row["split"], row["label"]) for row in rows)
    assert counted == {("train", 0): 800, ("train", 1): 800, ("test", 0): 400, ("test", 1): 400}


def test_the_whole_script_writes_what_the_data_set_reads(script, tmp_path: Path, monkeypatch, capsys) -> None:
    texts = {
        domain: "\n".join(f"{i}\t{(-1) ** i}\t{domain} says number {i} again" for i in range(30))
        for domain in script.FILES
    }
    sdist = sdist_of(script, texts)
    file = tmp_path / "vader.zip"
    file.write_bytes(sdist)
    with pytest.raises(SystemExit, match=r"the archive has sha256 .*; expected 5d97c37f3ef6e24e"):
        script.main([str(tmp_path / "vader"), "--sdist", str(file)])
    assert not (tmp_path / "vader").exists()
    monkeypatch.setattr(script, "SHA256", hashlib.sha256(sdist).hexdigest())
    script.main([str(tmp_path / "vader"), "--sdist", str(file)])
    assert "tweets: 30 clear sentences" in capsys.readouterr().out
    first = (tmp_path / "vader" / "nyt.jsonl.gz").read_bytes()
    for domain in script.FILES:
        found = vader(Place(data=tmp_path, domain=domain))
        assert set(texts_of(found.train.inputs)) | set(texts_of(found.test.inputs)) <= {
            line.split("\t")[2] for line in texts[domain].splitlines()
        }
        assert len(found.test) >= 4
    script.main([str(tmp_path / "vader"), "--sdist", str(file)])
    assert (tmp_path / "vader" / "nyt.jsonl.gz").read_bytes() == first
