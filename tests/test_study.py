"""`python -m dafw.study NAME`: pairs x methods x seeds by one command."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import whole
import yaml
from whole import TINY, made_npz, made_pair

from dafw.store import compose, experiments_folder
from dafw.study import label, main, methods_of, read, runs_of

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


def leaderboard(out: Path) -> list[dict[str, str]]:
    """The rows of the study's leaderboard."""
    with (out / "studies" / "small-leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_is_a_page_with_a_row_of_every_pair_and_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path, pairs=[["synth", "digits"]])
    out = tmp_path / "runs"
    assert main([study, "--jobs", "1", f"out={out}"]) == 0
    told, err = capsys.readouterr()
    assert err == ""
    lines = told.splitlines()
    each = [line for line in lines if re.match(r"synth→digits \w+ seed \d: 0\.\d{3}", line)]
    assert [line.split(":")[0] for line in each] == [
        f"synth→digits {method} seed {seed}" for method in ("source_only", "mcc") for seed in (0, 1)
    ]
    rows = {row["method"]: row for row in leaderboard(out)}
    assert set(rows) == {"source_only", "mcc"}  # the references are runs of their own
    by_seed = {tuple(line.split(":")[0].split()[1::2]): float(line.split()[4]) for line in each}
    for method, row in rows.items():
        accuracies = [by_seed[method, seed] for seed in ("0", "1")]
        assert float(row["accuracy/mean"]) == pytest.approx(sum(accuracies) / 2, abs=6e-4)
        half = 12.706 * abs(accuracies[0] - accuracies[1]) / 2  # Student's t at one degree of freedom
        assert float(row["accuracy/high"]) - float(row["accuracy/mean"]) == pytest.approx(half, abs=0.015)
    assert rows["mcc"]["versus_lower/verdict"] == "undecided"  # two seeds decide nothing
    gain = float(rows["mcc"]["accuracy/mean"]) - float(rows["source_only"]["accuracy/mean"])
    assert float(rows["mcc"]["versus_lower/difference/mean"]) == pytest.approx(gain, abs=2e-3)
    page = out / "studies" / "small.html"
    assert f"page and tables: {page}" in lines[-1]
    assert "mcc" in page.read_text()
    assert (out / "studies" / "small.md").exists()


@pytest.mark.slow
def test_runs_are_packed_onto_the_cores_with_the_same_results(tmp_path: Path) -> None:
    study = written(tmp_path)
    for jobs in ("1", "2"):
        assert main([study, "--jobs", jobs, f"out={tmp_path / jobs}"]) == 0
    alone, packed = leaderboard(tmp_path / "1"), leaderboard(tmp_path / "2")
    assert [row["accuracy/mean"] for row in alone] == [row["accuracy/mean"] for row in packed]
    assert main([study, "--jobs", "0"]) == 2


def test_a_pair_may_have_keys_and_methods_of_its_own(tmp_path: Path) -> None:
    pairs = [
        ["synth", "digits"],
        {"src": "synth", "tgt": "digits", "methods": ["dann"], "keys": {"train.steps": 7, "tgt.fraction": 0.5}},
    ]
    runs = runs_of(read(written(tmp_path, pairs=pairs)), [])
    assert [(run.method, run.seed) for run in runs] == [
        *(("source_only", 0), ("source_only", 1), ("mcc", 0), ("mcc", 1)),
        *(("dann", 0), ("dann", 1)),
    ]
    config = compose(runs[-1].words)
    assert (config.train.steps, config.tgt["fraction"]) == (7, 0.5)
    assert compose(runs[0].words).train.steps == 3


def test_tuning_runs_the_same_number_of_trials_and_the_choice_beside_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = {"trials": 3, "validator": "source_loss", "seed": 0}
    study = written(tmp_path, methods=["dann", "mcc"], tuning=tuning, keys={**KEYS, "references": "false"})
    out = tmp_path / "runs"
    assert main([study, "--jobs", "1", f"out={out}"]) == 0
    told = capsys.readouterr().out
    assert "tuning: 3 trials a method by source_loss, seed 0" in told
    tables = (out / "studies" / "small.md").read_text()
    assert re.search(r"\| dann \| 4 \| oracle", tables)  # three trials and the defaults
    rows = leaderboard(out)
    assert [(row["method"], bool(row["hyperparameters"])) for row in rows].count(("dann", False)) == 1
    for method in ("dann", "mcc"):
        tuned = [row for row in rows if row["method"] == method and row["hyperparameters"]]
        assert len(tuned) == 1
        assert tuned[0]["seeds"] == "2"
        words = tuned[0]["hyperparameters"].split()
        trials = [read_result(path) for path in out.glob(f"*/{method}/*/result.json")]
        swept = [r for r in trials if r["seed"] == 0 and r["hyperparameters"]]
        assert len(swept) == 3
        best = min(swept, key=lambda r: r["validators"]["source_loss"])
        assert sorted(best["hyperparameters"]) == sorted(words)


@pytest.mark.parametrize("tuning", [{"trials": 3}, {"trials": 3, "validator": "imm", "seed": 0}])
def test_a_tuning_that_is_none_is_one_line(
    tuning: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(tmp_path, tuning=tuning)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "expected trials, validator and seed" in line or "did you mean im" in line


def read_result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_a_study_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path)
    assert main([study, "--jobs", "1", f"out={tmp_path / 'runs'}", "references=false"]) == 0
    assert "found again" not in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("checkpoint.pt")}
    assert main([study, "--jobs", "1", f"out={tmp_path / 'runs'}", "references=false"]) == 0
    assert capsys.readouterr().out.count("found again") == len(before) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_run_that_cannot_be_done_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [{"name": "npz", "path": str(tmp_path / name)} for name in ("dark.npz", "bright.npz")]
    made_npz(tmp_path / "other.npz", ("x", "y"))
    bad = [good[0], {"name": "npz", "path": str(tmp_path / "other.npz")}]
    study = written(tmp_path, pairs=[bad, good], seeds=[0])
    assert main([study, "--jobs", "1", f"out={tmp_path / 'runs'}", "references=false"]) == 2
    told, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: dark→other source_only: dark and other share 0 classes")
    assert lines[1].startswith("error: dark→other mcc: ")
    assert "Traceback" not in told
    rows = leaderboard(tmp_path / "runs")
    assert {(row["src"], row["tgt"], row["method"]) for row in rows} == {
        ("dark", "bright", "source_only"),
        ("dark", "bright", "mcc"),
    }


def test_a_run_that_fails_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path, methods=["mcc"], seeds=[0], keys={**KEYS, "method.temperature": 0})
    assert main([study, "--jobs", "1", f"out={tmp_path / 'runs'}", "references=false"]) == 1
    assert "error: dark→bright mcc: the loss 'class_confusion' became nan" in capsys.readouterr().err


def test_a_wrong_key_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path, methods=["mcc"], seeds=[0], keys={**KEYS, "train.step": 3})
    assert main([study, "--jobs", "1", f"out={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "train.steps" in line


def test_what_is_typed_goes_before_the_study(tmp_path: Path) -> None:
    study = read(written(tmp_path))
    first, *others = runs_of(study, ["train.steps=7", "seed=5"])
    assert len(others) == 3
    config = compose(first.words)
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
    assert label({"name": "text", "path": "/data/reviews.jsonl.gz"}) == "reviews"
    assert label({"name": "hf", "path": "/data/books/*.csv"}) == "books"
    assert label({"name": "audio", "root": "/data/voices"}) == "voices"
    assert label({"name": "folder", "root": None}) == "folder"
    assert label({"name": "spoken_digits", "speakers": ["jackson", "theo"]}) == "spoken_digits-jackson-theo"
    assert label({"name": "spoken_digits", "root": "/data/recordings"}) == "spoken_digits"
    assert label({"name": "digits", "validation": 0}) == "digits"
    assert label({"name": "mnist", "corruption": "contrast", "severity": 2}) == "mnist-contrast2"


STUDIES = sorted((experiments_folder() / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_of_ours_can_be_composed(file: Path) -> None:
    study = read(file.stem)
    assert study["name"] == file.stem
    runs = runs_of(study, [])
    methods = [method for pair in study["pairs"] for method in methods_of(study, pair)]
    assert len(runs) == len(methods) * len(study["seeds"])
    one_of_each = {(run.src, run.tgt): run for run in runs} | {run.method: run for run in runs}
    for run in one_of_each.values():
        assert compose(run.words).method["name"] == run.method
    head = file.read_text().split("\npairs:")[0]
    assert f"python -m dafw.study {file.stem}" in head  # its command, cost and expected figures
    assert "expected" in head.lower()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds None; expected pairs, methods, seeds"),
        ("pairs: [", "is no YAML"),
        (
            "{pairs: [[a, b]], methods: [mcc], seeds: [0], key: {train.steps: 9}}",
            "unknown key 'key'; did you mean keys",
        ),
        ("{pairs: [[a, b]], methods: [mcc], seeds: 0}", "seeds is 0; expected a list, as in seeds: [0, 1, 2]"),
        ("{pairs: [[a, b]], methods: mcc, seeds: [0]}", "methods is 'mcc'; expected a list"),
        ("{pairs: [], methods: [mcc], seeds: [0]}", "pairs is []; expected a list"),
        ("{pairs: [[a]], methods: [mcc], seeds: [0]}", "pair ['a']; expected [source, target]"),
        ("{pairs: [{src: a}], methods: [mcc], seeds: [0]}", "no tgt; expected src, tgt"),
        ("{pairs: [{src: a, tgt: b, key: {}}], methods: [mcc], seeds: [0]}", "unknown key 'key'"),
        ("{pairs: [{src: a, tgt: {corruption: jpeg}}], methods: [mcc], seeds: [0]}", "a mapping with a name"),
        (
            "{pairs: [[a, b]], methods: [mcc], seeds: [0], keys: [plots=false]}",
            "keys is ['plots=false']; expected a mapp",
        ),
        ("{pairs: [[a, b]], methods: [mcc], seeds: [0, 0]}", "expected each once"),
        ("{pairs: [[a, b]], methods: [mcc], seeds: [0], tuning: 8}", "tuning has 8; expected trials"),
        (
            "{pairs: [[a, b]], methods: [mcc], seeds: [0], tuning: {trials: 0, validator: im, seed: 0}}",
            "trials 0; expected a whole number, at least 1",
        ),
    ],
)
def test_a_study_with_a_mistake_is_one_line_before_any_run(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    assert main([str(tmp_path / "wrong.yaml"), f"out={tmp_path / 'runs'}"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=0"], "seed=0: a study varies seed itself"),
        (["method=mcc"], "method=mcc: a study varies method itself"),
        (["foo"], "'foo' is not key=value"),
        (["--jobs", "x"], "invalid int value"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_words_that_a_study_cannot_take_are_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(tmp_path), *words, f"out={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
