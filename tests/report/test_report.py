"""`python -m dafw.report`: files, what is printed, and what is refused."""

import json
from pathlib import Path

import pytest
import whole
from reported import HOSTILE, made_run, made_runs
from tracked import told
from whole import command

from dafw.report.__main__ import main

surroundings = whole.surroundings  # a fixture


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return made_runs(tmp_path / "runs", pairs=[("synth", "digits")], seeds=(0, 1), pictures=False)


def test_page_and_tables_are_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "all.html"
    assert main([str(runs), f"out={page}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    names = ["all.html", "all.csv", "all-leaderboard.csv", "all.tex", "all.md"]
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(names)
    for name in names:
        assert str(page.parent / name) in out.splitlines()
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert HOSTILE not in page.read_text()
    assert "synth → digits" in out
    assert "1 failed, 1 unfinished" in out
    for method in ("dann", "joint_supervised", "my_<i>method"):
        assert method in out


def test_the_page_is_written_here_where_none_is_named(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([runs.name]) == 0
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.csv").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no folder of runs given"),
        (["out=x.html"], "no folder of runs given"),
        (["nowhere"], "no folder nowhere"),
        (["empty"], "no run in empty"),
        (["runs", "output=x.html"], "unknown word 'output=x.html'"),
        (["runs", "--wandbb"], "unknown word '--wandbb'"),
        (["runs", "--wandb=yes"], "--wandb"),
        (["runs", "out="], "unknown word 'out='"),
        (["runs", "out=report.pdf"], "out=report.pdf: expected a file that ends in .html"),
        (["runs", "out=file/report.html"], "out=file/report.html cannot be written"),
        (["runs", "out=folder.html"], "out=folder.html cannot be written"),
    ],
)
def test_bad_words_are_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(words) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_words_may_stand_in_any_order(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["--wandb", str(runs), f"out={tmp_path / 'a.html'}"]) == 0
    assert main([str(runs), "--wandb", f"out={tmp_path / 'b.html'}"]) == 0
    assert (tmp_path / "a.md").read_text() == (tmp_path / "b.md").read_text()


@pytest.mark.slow
def test_the_leaderboard_in_wandb_can_be_sent_later(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main([str(runs), f"out={tmp_path / 'a.html'}", "--wandb"]) == 0
    assert "wandb sync" in capsys.readouterr().out
    said = told(runs)
    assert said["history"][0]["leaderboard/_type"] == "table-file"
    (file,) = [path for path in runs.rglob("*.table.json") if "wandb" in path.parts]
    table = json.loads(file.read_text())
    assert table["columns"][:3] == ["src", "tgt", "group"]
    assert {row[table["columns"].index("method")] for row in table["data"]} >= {"dann", "mcc", "source_only"}
    assert said["exit"] == 0
    assert said["run"].project == "dafw"


@pytest.mark.slow
def test_it_is_a_command(runs: Path, tmp_path: Path) -> None:
    done = command("dafw.report", str(runs), "out=page.html", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    assert (tmp_path / "page.html").is_file()
