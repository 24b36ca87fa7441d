"""Boards as CSV, LaTeX, Markdown and a W&B table."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import whole
from reported import HOSTILE, made_run, made_runs

from dafw.report import exports, tables
from dafw.report.gather import collect
from dafw.report.leaderboard import Board
from dafw.report.page import charts

surroundings = whole.surroundings  # a fixture


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    out = tmp_path_factory.mktemp("runs")
    made_run(out, "mcc", seed=0, keys={"select": "oracle"}, accuracy=0.97)
    return collect(made_runs(out, seeds=(0, 1), pictures=False))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_a_run_with_its_numbers(board: Board) -> None:
    lines = read(exports.runs_csv(board))
    assert len(lines) == len(board.runs)
    by_folder = {line["folder"]: line for line in lines}
    for run in board.runs:
        line = by_folder[run["folder"]]
        assert float(line["target/accuracy"]) == run["target"]["accuracy"]
        assert float(line["seconds"]) == run["seconds"]
        assert line["hyperparameters"] == " ".join(run.get("hyperparameters", []))
        for beside in run["beside"]:
            assert float(line[f"beside/{beside['method']}"]) == beside["accuracy"]
        for name, value in run.get("validators", {}).items():
            assert float(line[f"validators/{name}"]) == value
    (hostile,) = [line for line in lines if line["config/method/kind"]]
    assert hostile["config/method/kind"] == HOSTILE
    assert hostile["method"] == "my_<i>method"


def test_a_line_a_row_with_its_numbers(board: Board) -> None:
    lines = read(exports.leaderboard_csv(board))
    rows = [(group, row) for group in board.groups for row in group.rows]
    assert len(lines) == len(rows)
    for line, (group, row) in zip(lines, rows, strict=True):
        assert (line["src"], line["group"], line["method"]) == (group.src, group.key, row.method)
        assert float(line["accuracy/mean"]) == row.accuracy.mean
        assert line["accuracy/low"] == ("" if row.accuracy.low is None else str(row.accuracy.low))
        if row.versus_lower is not None:
            assert float(line["versus_lower/difference/mean"]) == row.versus_lower.difference.mean
            assert line["versus_lower/verdict"] == row.versus_lower.verdict
        for rule, value in row.selected.items():
            assert float(line[f"selected/{rule}"]) == value
    assert "nan" not in exports.leaderboard_csv(board).lower()


def test_the_best_honest_accuracy_is_bold_and_an_oracle_is_marked(board: Board) -> None:
    group = next(g for g in board.groups if g.src == "synth" and len(g.rows) > 4)
    found = tables.table(board, group)
    assert found.best is not None
    able = [row for row in group.rows if row.setting not in ("source_only", "joint_supervised")]
    assert group.rows[found.best] == max(able, key=lambda row: row.accuracy.mean)
    assert group.rows[0].method == "joint_supervised"  # higher, and no method of adaptation
    mean, spread = 100 * group.rows[found.best].accuracy.mean, 100 * (group.rows[found.best].deviation or 0)
    assert f"| **{mean:.1f} ± {spread:.1f}** |" in exports.markdown(board)
    assert rf"\textbf{{{mean:.1f} $\pm$ {spread:.1f}}}" in exports.latex(board)
    assert r"mcc † |" in exports.markdown(board)
    assert r"mcc $^\dagger$ &" in exports.latex(board)
    oracle = next(g for g in board.groups if g.rows[0].selection == "oracle")
    assert tables.table(board, oracle).best is None


def test_every_line_of_a_markdown_table_has_its_cells(board: Board) -> None:
    text = exports.markdown(board)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
    assert "<" not in re.sub(r"\\<", "", text)
    assert r"my\_\<i\>method" in text


@pytest.mark.parametrize(
    ("given", "markdown", "latex"),
    [
        ("a_b", r"a\_b", r"a\_b"),
        ("50% & $x^2$", r"50% \& \$x^2\$", r"50\% \& \$x\textasciicircum{}2\$"),
        ("<b>|*`", r"\<b\>\|\*\`", r"\textless{}b\textgreater{}\textbar{}*`"),
        ("\\input{x}~#", r"\\input{x}\~\#", r"\textbackslash{}input\{x\}\textasciitilde{}\#"),
        ("two\nlines", "two lines", "two lines"),
        ("–", "–", "--"),
    ],
)
def test_words_are_escaped(given: str, markdown: str, latex: str) -> None:
    assert exports.markdown_escaped(given) == markdown
    assert exports.latex_escaped(given) == latex


def test_latex_is_balanced(board: Board) -> None:
    text = exports.latex(board)
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") > 0
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    for tabular in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        counts = {len(re.findall(r"(?<!\\)&", line)) for line in tabular.splitlines() if line.endswith(r"\\")}
        assert len(counts) == 1
    assert "<script>" not in text
    group = replace(board.groups[0], rows=(replace(board.groups[0].rows[0], method="[x]"),))
    assert "\n{}[x] &" in exports.latex(replace(board, groups=(group,), sweeps=()))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(board: Board, tmp_path: Path) -> None:
    text = exports.latex(board)
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}"
        + text
        + "\\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-800:]


def test_the_wandb_table_has_the_lines_of_the_csv(board: Board) -> None:
    class Wandb:
        class Table:
            def __init__(self, columns: list[str], data: list[list[Any]]):
                self.columns, self.data = columns, data

    table = exports.wandb_table(Wandb, board)
    lines = read(exports.leaderboard_csv(board))
    assert table.columns == list(lines[0])
    told = [["" if value is None else str(value) for value in row] for row in table.data]
    assert told == [list(line.values()) for line in lines]
    for place, column in enumerate(table.columns):  # a column of one type
        kinds = {type(row[place]) for row in table.data if row[place] is not None}
        assert len(kinds) <= 1, column


def test_a_sweep_of_runs_that_an_oracle_selected_is_marked_and_stands_apart(tmp_path: Path) -> None:
    for select in ("last", "oracle"):
        for weight in (0.3, 1.0):
            made_run(tmp_path, keys={"select": select, "method.weight": weight})
    lines = tables.sweeps(collect(tmp_path)).lines
    honest = [line for line in lines if "select=last, eval.every=None against" in line[0]]
    marked = [line for line in lines if "select=oracle, eval.every=None against" in line[0]]
    assert len(honest) == len(marked) == len(lines) / 2
    assert [tables.ORACLE_MARK in line[3] for line in honest] == [line[3].startswith("oracle") for line in honest]
    assert all(tables.ORACLE_MARK in line[3] for line in marked)


def test_a_figure_marks_an_oracle(tmp_path: Path) -> None:
    made_run(tmp_path, keys={"select": "oracle"})
    (group,) = collect(tmp_path).groups
    figure = charts.accuracy_against_seconds(group, charts.colours_of(["dann"]))
    assert figure.data[0].name == f"dann {tables.ORACLE_MARK}"
