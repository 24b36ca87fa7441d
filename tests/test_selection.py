"""Which place of a list of scores is chosen, and which logged value a rule looks at."""

import pytest
import test_registry
from test_registry import Write

from dafw.errors import UsageError
from dafw.registry import VALIDATORS, load_plugin
from dafw.selection import ORACLE, chosen, rules, score_of

write = test_registry.write

PLUGIN = """
from dafw import register_validator

@register_validator(higher_is_better={better}, sees=("target",), only_named={only_named})
def mine(seen):
    \"\"\"The first logit (Nobody 2020).\"\"\"
    return float(seen.target.logits[0, 0])
"""


@pytest.mark.parametrize(
    ("scores", "highest", "lowest"),
    [
        ([1.0, 3.0, 2.0], 1, 0),
        ([2.0, 3.0, 3.0, 2.0], 1, 0),  # of equal ones the first
        ([-1.0, -3.0], 0, 1),
        ([None, 1.0, None, 2.0], 3, 1),
        ([None, 0.0], 1, 1),  # 0 is a score
        ([0.0, 0.0, None], 0, 0),
        ([1.0, None], 0, 0),
        ([None, None], None, None),
        ([], None, None),
        ([float("-inf"), float("inf")], 1, 0),
    ],
)
def test_the_first_of_the_best_is_chosen(scores: list[float | None], highest: int | None, lowest: int | None) -> None:
    assert chosen(scores, higher_is_better=True) == highest
    assert chosen(scores, higher_is_better=False) == lowest


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_going_through_them_one_by_one_ends_at_the_same_place(higher_is_better: bool) -> None:
    """As a run does, which goes back to the last evaluation that was the best so far."""
    scores = [0.5, None, 0.5, 0.7, 0.2, 0.7, 0.2, None, 0.1]
    best_so_far = [n for n in range(1, len(scores) + 1) if chosen(scores[:n], higher_is_better) == n - 1]
    assert best_so_far[-1] - 1 == chosen(scores, higher_is_better)


def test_what_can_be_typed() -> None:
    assert rules()[:2] == ["last", "oracle"]
    assert rules()[2:] == VALIDATORS.names()
    assert {"im", "entropy", "reverse"} <= set(rules())


def test_a_rule_looks_at_one_logged_value() -> None:
    assert score_of("oracle") == (ORACLE, True) == ("oracle/target_accuracy", True)
    assert score_of("im") == ("validator/im", True)
    assert score_of("entropy") == ("validator/entropy", False)
    with pytest.raises(UsageError, match="unknown validator 'in'; did you mean im"):
        score_of("in")


@pytest.mark.parametrize("better", [True, False])
def test_a_users_validator_is_a_rule(better: bool, write: Write) -> None:
    load_plugin(write("mine.py", PLUGIN.format(better=better, only_named=False)))
    assert "mine" in rules()
    assert score_of("mine") == ("validator/mine", better)
