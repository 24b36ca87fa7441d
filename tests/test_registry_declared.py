"""What plug-ins declare: the ranges of hyper-parameters, and what a validator sees and which way is better."""

from typing import Annotated, Any

import pytest
import test_registry
from test_registry import Write, one_line

from dafw import register_validator
from dafw.errors import UsageError
from dafw.registry import METHODS, VALIDATORS, Option, Range, load_plugin, options

write = test_registry.write


# ---- ranges


@pytest.mark.parametrize(
    ("declared", "fraction", "value"),
    [
        (Range(0.1, 10.0, log=True), 0.0, 0.1),
        (Range(0.1, 10.0, log=True), 0.5, 1.0),
        (Range(0.1, 10.0, log=True), 0.25, 0.316),  # 10 ** -0.5
        (Range(0.1, 10.0, log=True), 1.0, 10.0),
        (Range(1.0, 5.0), 0.0, 1.0),
        (Range(1.0, 5.0), 0.5, 3.0),
        (Range(1.0, 5.0), 1 / 3, 2.33),
        (Range(1.0, 5.0), 1.0, 5.0),
        (Range(-2.0, 2.0), 0.25, -1.0),
        (Range(0.0, 1.0), 0.12345, 0.123),
        (Range(1000.0, 9000.0), 0.1234, 1990.0),
    ],
)
def test_a_fraction_of_a_range_is_a_value_of_three_digits(declared: Range, fraction: float, value: float) -> None:
    assert declared.at(fraction) == value


def test_a_range_is_of_a_linear_scale_unless_it_says_so() -> None:
    assert Range(1.0, 100.0) == (1.0, 100.0, False)
    assert Range(1.0, 100.0).at(0.5) == 50.5
    assert Range(1.0, 100.0, log=True).at(0.5) == 10.0


def plugin(
    place: object,
    *,
    tuned: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0,
    plain: float = 2.0,
    noted: Annotated[int, "a note", Range(1, 8), Range(2, 3)] = 4,
    only_noted: Annotated[str, "a note"] = "w",
    maybe: Annotated[float | None, Range(0.0, 1.0)] = None,
) -> None: ...


def test_an_annotated_option_has_its_plain_type_and_its_range() -> None:
    assert options(plugin) == [
        Option("tuned", float, 1.0, Range(0.1, 10.0, log=True)),
        Option("plain", float, 2.0, None),
        Option("noted", int, 4, Range(1, 8)),  # the first
        Option("only_noted", str, "w", None),
        Option("maybe", float | None, None, Range(0.0, 1.0)),
    ]


def test_an_annotation_does_not_hide_a_type_that_cannot_be_typed() -> None:
    def wrong(place: object, *, table: Annotated[dict, Range(0.0, 1.0)] = {}) -> None: ...  # type: ignore  # noqa: B006

    with pytest.raises(UsageError, match="table of wrong has the type <class 'dict'>; expected int"):
        options(wrong)


@pytest.mark.parametrize(
    ("method", "name", "declared"),
    [
        ("dann", "weight", Range(0.1, 10.0, log=True)),
        ("mcc", "temperature", Range(1.0, 5.0)),
        ("dann", "hidden", None),
    ],
)
def test_ranges_of_ours(method: str, name: str, declared: Range | None) -> None:
    assert {o.name: o.range for o in options(METHODS.get(method))}[name] == declared


# ---- validators

MINE = """
from dafw import register_validator

@register_validator({given})
def mine(seen):
    return 0.5
"""


@pytest.mark.parametrize(
    ("given", "name", "higher_is_better", "sees", "only_named"),
    [
        ("higher_is_better=True", "file", True, ("source", "target"), False),
        ("higher_is_better=False", "file", False, ("source", "target"), False),
        ("'other', higher_is_better=True, sees=('source',)", "other", True, ("source",), False),
        ("name='other', higher_is_better=True, only_named=True", "other", True, ("source", "target"), True),
        ("higher_is_better=True, sees=('target',)", "file", True, ("target",), False),
    ],
)
def test_a_validator_says_what_it_is(
    given: str, name: str, higher_is_better: bool, sees: tuple[str, ...], only_named: bool, write: Write
) -> None:
    load_plugin(write("file.py", MINE.format(given=given)))
    validator = VALIDATORS.get(name)
    assert (validator.higher_is_better, validator.sees, validator.only_named) == (higher_is_better, sees, only_named)
    assert validator(None) == 0.5
    assert validator.registered_name == name


@pytest.mark.parametrize("given", ["", "'mine'", "sees=('target',)", "True"])
def test_a_validator_without_a_direction_is_refused_with_its_file(given: str, write: Write) -> None:
    with pytest.raises(UsageError, match=r"mine\.py fails to import: TypeError: .*higher_is_better") as error:
        load_plugin(write("mine.py", MINE.format(given=given)))
    one_line(error)
    assert "mine" not in VALIDATORS


def test_a_bare_decorator_is_refused_with_its_file(write: Write) -> None:
    with pytest.raises(UsageError, match=r"mine\.py fails to import: TypeError: .*higher_is_better"):
        load_plugin(write("mine.py", MINE.replace("({given})", "")))
    assert "mine" not in VALIDATORS


@pytest.mark.parametrize("sees", [("sorce",), ("source", "labels"), ("target_labels",), ()])
def test_a_part_that_there_is_not_is_refused(sees: tuple[str, ...], write: Write) -> None:
    with pytest.raises(UsageError, match="sees=") as error:
        load_plugin(write("mine.py", MINE.format(given=f"higher_is_better=True, sees={sees!r}")))
    line = one_line(error)
    assert "source" in line
    assert "target" in line
    assert "mine" not in VALIDATORS


def test_the_name_of_one_of_ours_is_taken(write: Write) -> None:
    with pytest.raises(UsageError, match="the validator name 'im' is taken by information_maximisation"):
        load_plugin(write("im.py", MINE.format(given="higher_is_better=False")))
    assert VALIDATORS.get("im").higher_is_better is True


@pytest.mark.usefixtures("write")
def test_decorating_leaves_the_function_to_be_called() -> None:
    def score(_: Any) -> float:
        return 0.25

    assert register_validator("scored", higher_is_better=True)(score) is score
    assert VALIDATORS.get("scored") is score
