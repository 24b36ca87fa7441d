"""`python -m dafw.study NAME`: pairs x methods x seeds by one command."""

import re
from pathlib import Path
from typing import Any

import pytest
import whole
import yaml
from whole import TINY, made_npz, made_pair

from dafw.store import compose, experiments_folder
from dafw.study import COLUMNS, label, main, read, runs_of

surroundings = whole.surroundings  # a fixture

KEYS = {**TINY, "train.steps": 3, "references": "true"}


def written(folder: Path, **parts: Any) -> str:
    """A study of two methods and two seeds on a made pair; `parts` go first."""
    made = made_pair(folder)
    pair = [{"name": "npz", "path": str(made["src.path"])}, {"name": "npz", "path": str(made["tgt.path"])}]
    study = {"pairs": [pair], "methods": ["source_only", "mcc"], "seeds": [0, 1], "keys": KEYS, **parts}
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(study))
    return str(file)


def cells(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]


def test_a_study_is_a_table_of_every_pair_and_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path, pairs=[["synth", "digits"]])
    out = tmp_path / "runs"
    assert main([study, f"out={out}"]) == 0
    told, err = capsys.readouterr()
    assert err == ""
    lines = told.splitlines()
    each = [line for line in lines if re.match(r"synth→digits \w+ seed \d: 0\.\d{3}", line)]
    assert [line.split(":")[0] for line in each] == [
        f"synth→digits {method} seed {seed}" for seed in (0, 1) for method in ("source_only", "mcc")
    ]
    table = cells((out / "studies" / "small.md").read_text())
    assert table[0] == COLUMNS
    assert table[1] == ["---"] * len(COLUMNS)
    source_only, mcc = table[2:]
    assert source_only[:2] == ["synth→digits", "source_only"]
    assert mcc[:2] == ["synth→digits", "mcc"]
    by_seed = {tuple(line.split(":")[0].split()[1::2]): line.split()[4] for line in each}
    for row, method in ((source_only, "source_only"), (mcc, "mcc")):
        accuracies = [100 * float(by_seed[method, seed]) for seed in ("0", "1")]
        assert [float(value) for value in row[4].split()] == pytest.approx(accuracies, abs=0.06)
        mean, spread = map(float, row[2].split(" ± "))
        assert mean == pytest.approx(sum(accuracies) / 2, abs=0.11)
        assert spread == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5, abs=0.11)
        half = 12.706 * spread / 2**0.5  # Student's t at one degree of freedom
        low, high = map(float, row[3].strip("[]").split(", "))
        assert low == pytest.approx(mean - half, abs=1.1)
        assert high == pytest.approx(mean + half, abs=1.1)
    assert mcc[6] == "undecided"  # two seeds decide nothing
    assert source_only[6] == "–"
    assert float(mcc[5].split()[0]) == pytest.approx(
        float(mcc[2].split()[0]) - float(source_only[2].split()[0]), abs=0.2
    )
    assert mcc[1] in told
    assert f"table: {out / 'studies' / 'small.md'}" in lines[-1]


def test_a_study_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path)
    assert main([study, f"out={tmp_path / 'runs'}", "references=false"]) == 0
    assert "found again" not in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("checkpoint.pt")}
    assert main([study, f"out={tmp_path / 'runs'}", "references=false"]) == 0
    assert capsys.readouterr().out.count("found again") == len(before) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_run_that_cannot_be_done_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [{"name": "npz", "path": str(tmp_path / name)} for name in ("dark.npz", "bright.npz")]
    made_npz(tmp_path / "other.npz", ("x", "y"))
    bad = [good[0], {"name": "npz", "path": str(tmp_path / "other.npz")}]
    study = written(tmp_path, pairs=[bad, good], seeds=[0])
    assert main([study, f"out={tmp_path / 'runs'}", "references=false"]) == 2
    told, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: dark→other source_only: dark and other share 0 classes")
    assert lines[1].startswith("error: dark→other mcc: ")
    assert "Traceback" not in told
    table = cells((tmp_path / "runs" / "studies" / "small.md").read_text())
    assert [row[:2] for row in table[2:]] == [["dark→bright", "source_only"], ["dark→bright", "mcc"]]


def test_a_run_that_fails_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path, methods=["mcc"], seeds=[0], keys={**KEYS, "method.temperature": 0})
    assert main([study, f"out={tmp_path / 'runs'}", "references=false"]) == 1
    assert "error: dark→bright mcc: the loss 'class_confusion' became nan" in capsys.readouterr().err


def test_a_wrong_key_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path, methods=["mcc"], seeds=[0], keys={**KEYS, "train.step": 3})
    assert main([study, f"out={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "train.steps" in line


def test_what_is_typed_goes_before_the_study(tmp_path: Path) -> None:
    study = read(written(tmp_path))
    (*_, typed), *others = runs_of(study, ["train.steps=7", "seed=5"])
    assert len(others) == 3
    config = compose(typed)
    assert (config.train.steps, config.seed, config.train.batch_size) == (7, 5, 16)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ofice31", "no study 'ofice31'; did you mean office31?"),
        ("nowhere.yaml", "no study 'nowhere.yaml'"),
        ("partial.yaml", "no seeds; expected pairs, methods, seeds"),
    ],
)
def test_a_study_that_is_none(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "partial.yaml").write_text("pairs: []\nmethods: []\n")
    assert main([name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_labels_of_a_pair() -> None:
    assert label("office31/amazon") == "office31/amazon"
    assert label({"name": "npz", "path": "/data/mnistm.npz"}) == "mnistm"
    assert label({"name": "digits", "validation": 0}) == "digits"


STUDIES = sorted((experiments_folder() / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_of_ours_can_be_composed(file: Path) -> None:
    study = read(file.stem)
    assert study["name"] == file.stem
    typed = [run[-1] for run in runs_of(study, [])]
    assert len(typed) == len(study["pairs"]) * len(study["methods"]) * len(study["seeds"])
    first = typed[: len(study["pairs"]) * len(study["methods"])]  # a seed is enough
    for words in {*map(tuple, first[: len(study["methods"])]), *map(tuple, first[:: len(study["methods"])])}:
        assert compose(words).method["name"] in study["methods"]
    head = file.read_text().split("pairs:")[0]
    assert f"python -m dafw.study {file.stem}" in head  # its command, cost and expected figures
    assert "expected" in head.lower()
