"""What a run shows on a pipe, on terminals of several widths and in its log."""

import copy
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dafw.console import Console

FOLDER = "runs/synth-digits/dann/seed0-0123456789-a-name-much-longer-than-a-narrow-terminal-is-wide"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def scores(accuracy: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "per_class_accuracy": accuracy - 0.02, "examples": 719}


RECORD: dict[str, Any] = {
    "method": "dann",
    "setting": "unsupervised",
    "src": "synth",
    "tgt": "digits",
    "image_size": 16,
    "seed": 3,
    "steps": 500,
    "seconds": 10.52,
    "total_seconds": 31.04,
    "target": scores(0.859),
    "source": {"accuracy": 0.999},
    "references": {
        "lower": {"method": "source_only", "accuracy": 0.702},
        "upper": {"method": "joint_supervised", "accuracy": 0.99},
    },
    "recovered_gap": 0.545,
    "recovered_gap_reason": None,
    "versus_lower": {"difference": 0.157, "p": 1.3e-9, "verdict": "better", "test": "McNemar, one seed"},
    "selection": "last",
    "protocol": {"image size": "16x16", "transductive": False, "labels per class": None},
    "counts": {"target_train": 970},
    "pictures": ["plots/curves.png", "plots/confusion.png"],
    "folder": FOLDER,
}
ROWS: list[dict[str, Any]] = [
    {
        "role": "lower reference",
        "method": "source_only",
        "target": scores(0.702),
        "source": {"accuracy": 0.998},
        "seconds": 5.24,
        "note": "found again",
    },
    {"role": "beside", "method": "adabn", "target": scores(0.75), "source": None, "seconds": 0.2, "note": ""},
    {
        "role": "method",
        "method": "dann",
        "target": RECORD["target"],
        "source": {"accuracy": 0.999},
        "seconds": 10.52,
        "note": "",
    },
    {
        "role": "upper reference",
        "method": "joint_supervised",
        "target": scores(0.99),
        "source": {"accuracy": 0.997},
        "seconds": 1234.56,
        "note": "found again",
    },
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Console]:
    """Makes a console on a colour terminal of so many columns."""

    def make(columns: int) -> Console:
        for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}.items():
            monkeypatch.setenv(name, value)
        return Console()

    return make


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Console:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Console()


def record(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(RECORD), **changes}


def test_report_on_a_pipe(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    piped.report(RECORD, ROWS)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert shown.err == ""
    assert "\x1b" not in shown.out
    assert lines[0] == "dann: synth -> digits, unsupervised, 16 px, seed 3, 719 target test examples"
    cells = [line.split() for line in lines[4:8]]
    assert cells == [
        ["lower", "reference", "source_only", "0.702", "0.682", "0.692", "0.998", "5.2"],
        ["beside", "adabn", "0.750", "0.730", "0.740", "\N{EN DASH}", "0.2"],
        ["method", "dann", "0.859", "0.839", "0.849", "0.999", "10.5"],
        ["upper", "reference", "joint_supervised", "0.990", "0.970", "0.980", "0.997", "1234.6"],
    ]
    assert lines[8:] == [
        "source_only, joint_supervised: found again",
        "verdict: better, dann against its lower reference source_only: +15.7 points, p = 1.3e-09 (McNemar, one seed)",
        "recovered gap: 0.545 of the way from source_only 0.702 to joint_supervised 0.990",
        "cost: 500 steps, 10.5 s, 31.0 s with the runs it starts from",
        "protocol: image size 16x16; transductive no; labels per class \N{EN DASH}",
        "counts: target train 970",
        "pictures: plots/curves.png plots/confusion.png",
        f"run: {FOLDER}",
    ]


def test_headings_stand_above_their_columns(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    piped.report(RECORD, ROWS)
    upper, lower, _, row = capsys.readouterr().out.splitlines()[1:5]
    ends = [match.end() for match in re.finditer(r"\S+", lower)][2:]
    assert [f"{upper[: end + 1].split()[-1]} {lower[:end].split()[-1]}" for end in ends[:4]] == [
        "target accuracy",
        "per-class accuracy",
        "target macro-F1",
        "source accuracy",
    ]
    assert [match.end() for match in re.finditer(r"\S+", row)][3:] == ends  # numbers are flush with their heading


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_table_is_whole_on_a_terminal(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    terminal(columns).report(RECORD, ROWS)
    lines = [line.rstrip() for line in ESCAPE.sub("", capsys.readouterr().out).splitlines()]
    assert lines[-1] == f"run: {FOLDER}"  # longer than the terminal, and not broken
    for number in ("0.702 0.682 0.692 0.998 5.2", "0.859 0.839 0.849 0.999 10.5", "0.990 0.970 0.980 0.997 1234.6"):
        (line,) = [line for line in lines if line.split()[-5:] == number.split()]
        assert len(line) <= columns
    assert all(len(line) <= columns for line in lines[:-1])
    assert ("lower reference source_only" in "\n".join(lines)) == (columns >= 80)
    words = " ".join(lines)
    assert "+15.7 points, p = 1.3e-09 (McNemar, one seed)" in words  # broken at words only


def test_the_method_is_bold_and_the_references_are_not(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(100).report(RECORD, ROWS)
    lines = capsys.readouterr().out.splitlines()
    (own,) = [line for line in lines if "0.839" in line]
    (other,) = [line for line in lines if "0.682" in line]
    assert "\x1b[1m" in own
    assert "\x1b[1m" not in other


@pytest.mark.parametrize(
    ("word", "difference", "expected", "style"),
    [
        ("better", 0.157, "verdict: better, dann against its lower reference source_only: +15.7 points", "\x1b[1;32m"),
        ("worse", -0.031, "verdict: negative transfer, dann against its lower", "\x1b[1;31m"),
        ("undecided", 0.004, "verdict: undecided, dann against its lower reference source_only: +0.4 points", ""),
    ],
)
def test_verdict_in_words_and_colour(
    terminal: Callable[[int], Console],
    capsys: pytest.CaptureFixture[str],
    word: str,
    difference: float,
    expected: str,
    style: str,
) -> None:
    versus = {"difference": difference, "p": 0.0123, "verdict": word, "test": "McNemar, one seed"}
    terminal(200).report(record(versus_lower=versus), ROWS)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "verdict:" in line]
    assert line.startswith(style + expected)
    assert "p = 0.012 (McNemar, one seed)" in line
    if not style:
        assert "\x1b" not in line


def test_what_does_not_exist(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    alone = record(
        target=None,
        source=None,
        image_size=None,
        references={"lower": None, "upper": None},
        versus_lower=None,
        recovered_gap=None,
        recovered_gap_reason="the upper reference is not clearly above the lower one",
        pictures=[],
    )
    piped.report(alone, [{**ROWS[2], "target": None, "source": None}])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dann: synth -> digits, unsupervised, seed 3"
    assert lines[4].split() == ["method", "dann", *4 * ["\N{EN DASH}"], "10.5"]
    assert lines[5] == "verdict: none, there is no lower reference to compare with"
    assert lines[6] == "recovered gap: undefined, the upper reference is not clearly above the lower one"
    assert not any(line.startswith("pictures") for line in lines)
    assert lines[-1] == f"run: {FOLDER}"


def test_oracle_is_marked_in_the_title(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    piped.report(record(selection="oracle"), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("[oracle]")
    assert lines[1].startswith("oracle: target labels chose this checkpoint")
    piped.report(RECORD, ROWS)
    assert "oracle" not in capsys.readouterr().out


def test_training_on_a_pipe_is_about_ten_lines(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    with piped.training("dann seed 0", 200) as training:
        for step in range(1, 201):
            training.update(step, {"loss/classification": 2 / step, "lr": 0.5}, 512.4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"dann seed 0: step 20/200, classification 0\.1, 512 examples/s, \d:\d\d:\d\d left", lines[0])
    assert [int(re.findall(r"step (\d+)/", line)[0]) for line in lines[:9]] == list(range(20, 200, 20))
    assert re.fullmatch(r"dann seed 0: 200 steps in \d+\.\d s, classification 0\.01, 512 examples/s", lines[9])


def test_lines_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8"))
    console = Console()
    with console.training("dann", 10) as training:
        training.update(1, {}, 10.0)
        assert b"step 1/10" in raw.getvalue()


def test_training_on_a_terminal_is_a_bar_and_then_a_line(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    console = terminal(120)
    for label in ("source_only", "dann"):  # one after the other
        with console.training(f"{label} [bold]x[/bold]", 4) as training:
            for step in range(1, 5):
                training.update(step, {"loss/classification": 0.5, "loss/domain": 1.25}, 4321.0)
        written = ESCAPE.sub("", capsys.readouterr().out)
        assert f"{label} [bold]x[/bold] ━" in written
        assert "4/4 classification 0.5, domain 1.25" in written
        assert "4321 examples/s" in written
        assert " left" in written
        assert "step 2/4" not in written
        last = written.replace("\r", "\n").strip().splitlines()[-1]
        assert re.fullmatch(rf"{label} \[bold\]x\[/bold\]: 4 steps in \d+\.\d s, .*", last)


def test_a_bar_keeps_to_one_line_of_a_narrow_terminal(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {f"loss/a_rather_long_name_{i}": 0.5 for i in range(5)}
    with terminal(60).training("dann seed 0", 1000) as training:
        training.update(500, losses, 4321.0)
    frames = [line for line in re.split(r"[\r\n]", ESCAPE.sub("", capsys.readouterr().out)) if "500/1000" in line]
    assert frames
    assert all(len(frame) <= 60 and "4321 ex/s" in frame and frame.rstrip().endswith("left") for frame in frames)


def test_a_training_inside_another_shows_lines(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    console = terminal(120)
    with console.training("outer", 10) as outer:
        outer.update(5, {}, 1.0)
        with console.training("inner", 2) as inner:
            inner.update(1, {}, 1.0)
        outer.update(10, {}, 1.0)
    written = ESCAPE.sub("", capsys.readouterr().out)
    assert "inner: step 1/2" in written
    assert "inner ━" not in written
    assert re.search(r"outer: 10 steps in", written)


@pytest.mark.parametrize("live", [True, False])
def test_a_closed_form_is_one_line(
    terminal: Callable[[int], Console], piped: Console, capsys: pytest.CaptureFixture[str], live: bool
) -> None:
    with (terminal(100) if live else piped).training("adabn seed 0", 0):
        pass
    assert re.fullmatch(r"adabn seed 0: closed form in \d+\.\d s\n", ESCAPE.sub("", capsys.readouterr().out))


def test_a_training_that_fails_leaves_no_bar_and_no_last_line(
    terminal: Callable[[int], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    console = terminal(100)
    with pytest.raises(ZeroDivisionError), console.training("dann", 4):
        raise ZeroDivisionError
    assert "steps in" not in capsys.readouterr().out
    with console.training("next", 4) as training:
        training.update(1, {}, 1.0)
    assert "next ━" in ESCAPE.sub("", capsys.readouterr().out)


def test_the_log_holds_all_that_is_shown_as_plain_text(
    terminal: Callable[[int], Console], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = terminal(60)
    console.note("before")
    console.log_to(tmp_path / "log.txt")
    console.note("[bold]a note[/bold] of more than sixty characters, which a terminal of sixty columns breaks")
    with console.training("dann", 20) as training:
        for step in range(1, 21):
            training.update(step, {"loss/classification": 0.5}, 9.0)
    console.report(RECORD, ROWS)
    console.error("this\nfailed")
    console.log_to(tmp_path / "other.txt")
    console.note("of another run")
    console.log_to(None)
    console.note("after")
    capsys.readouterr()
    logged = (tmp_path / "log.txt").read_text(encoding="utf-8")
    lines = logged.splitlines()
    assert "\x1b" not in logged
    assert lines[0] == "[bold]a note[/bold] of more than sixty characters, which a terminal of sixty columns breaks"
    assert sum("step " in line for line in lines) == 9
    assert any(line.startswith("lower reference source_only ") and line.endswith(" 5.2") for line in lines)
    assert lines[-2:] == [f"run: {FOLDER}", "error: this failed"]
    assert (tmp_path / "other.txt").read_text() == "of another run\n"


def test_once_is_shown_once_and_logged_each_time(
    piped: Console, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first.txt", "second.txt"):
        piped.log_to(tmp_path / name)
        piped.once("dropped frog")
    assert capsys.readouterr().out == "dropped frog\n"
    assert (tmp_path / "first.txt").read_text() == (tmp_path / "second.txt").read_text() == "dropped frog\n"


def test_quiet_prints_nothing_and_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(quiet=True)
    console.log_to(tmp_path / "log.txt")
    console.note("a note")
    with console.training("dann", 2) as training:
        training.update(1, {}, 1.0)
    console.report(RECORD, ROWS)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "a note"
    assert lines[-1] == f"run: {FOLDER}"


def test_errors_go_to_stderr_on_one_line_and_red_on_a_terminal(
    terminal: Callable[[int], Console], piped: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    piped.error("unknown method 'dan'; did you mean [dann]?\nreally")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: unknown method 'dan'; did you mean [dann]? really\n"
    terminal(20).error("a line that is longer than the terminal")
    assert capsys.readouterr().err == "\x1b[1;31merror: \x1b[0ma line that is longer than the terminal\n"


def test_a_character_that_stdout_lacks_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console().report(RECORD, ROWS)
    assert raw.getvalue().decode("ascii").splitlines()[-1] == f"run: {FOLDER}"
