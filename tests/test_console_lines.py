"""The lines under a run's table that say what it is worth and what is promised of it, and the words of the table."""

from typing import Any

import pytest
import test_console
from test_console import ROWS, record

from dafw.console import Console
from dafw.judgement import ROLES

piped, terminal = test_console.piped, test_console.terminal  # fixtures

VERSUS = {
    "method": "coral",
    "accuracy": 0.8012,
    "difference": 0.0578,
    "p": 0.0123,
    "verdict": "better",
    "test": "McNemar, one seed",
}
BOUND = {"accuracy": 0.4321, "source_accuracy": 0.9876, "discrepancy": 0.3456, "epsilon": 0.2099, "delta": 0.01}


def lines_of(console: Console, capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    console.report(record(**changes), ROWS)
    return capsys.readouterr().out.splitlines()


def test_the_gain_is_over_the_best_cheap_baseline(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(piped, capsys, versus_baseline=VERSUS)
    place = next(i for i, line in enumerate(lines) if line.startswith("verdict: "))
    measured = "+5.8 points, p = 0.012 (McNemar, one seed)"
    assert lines[place + 1] == f"gain: {measured} over coral 0.801, the best cheap baseline by its test accuracy"
    assert lines[place + 2].startswith("recovered gap: ")


@pytest.mark.parametrize(
    ("difference", "word", "start"),
    [(0.0578, "better", "gain: +5.8 "), (-0.1, "worse", "\x1b[31mgain: -10.0 "), (0.0, "undecided", "gain: +0.0 ")],
)
def test_a_gain_that_is_a_loss_is_red(
    difference: float, word: str, start: str, terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    versus = {**VERSUS, "difference": difference, "verdict": word}
    (line,) = [line for line in lines_of(terminal(200), capsys, versus_baseline=versus) if "gain:" in line]
    assert line.startswith(start)


def test_the_bound_says_what_it_is_made_of(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(piped, capsys, bound=BOUND)
    place = next(i for i, line in enumerate(lines) if line.startswith("recovered gap: "))
    assert lines[place + 1] == (
        "bound: at least 0.432 on the target by Dis2, without target labels "
        "(source validation 0.988 - disagreement 0.346 - epsilon 0.210, confidence 99%)"
    )
    assert lines[place + 2].startswith("cost: ")


def test_a_bound_of_nothing_is_said_too(piped: Console, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [
        line for line in lines_of(piped, capsys, bound={**BOUND, "accuracy": 0.0, "delta": 0.05}) if "bound" in line
    ]
    assert line.startswith("bound: at least 0.000 on the target")
    assert line.endswith("confidence 95%)")


@pytest.mark.parametrize("changes", [{}, {"versus_baseline": None, "bound": None}])
def test_what_does_not_exist_is_no_line(
    changes: dict[str, Any], piped: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(piped, capsys, **changes)
    assert not any(line.startswith(("gain", "bound")) for line in lines)


@pytest.mark.parametrize(("columns", "start"), [(200, "cheap baseline adabn "), (60, "cheap adabn ")])
def test_the_role_of_a_baseline_in_the_table(
    columns: int, start: str, terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**ROWS[1], "role": ROLES["baseline"]}, *ROWS[2:]]
    terminal(columns).report(record(), rows)
    assert any(
        " ".join(line.split()).startswith(start)
        for line in test_console.ESCAPE.sub("", capsys.readouterr().out).splitlines()
    )


def test_the_words_of_the_roles() -> None:
    assert list(ROLES.items()) == [
        ("lower", "lower reference"),
        ("baseline", "cheap baseline"),
        ("method", "method"),
        ("upper", "upper reference"),
        ("beside", "beside"),
    ]
    assert len({word.split()[0] for word in ROLES.values()}) == 5  # what is left of them on a narrow terminal
