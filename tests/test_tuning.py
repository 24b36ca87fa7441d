"""Trials drawn from the ranges that hyper-parameters declare, and the one that a validator chooses."""

import math
from typing import Any

import numpy as np
import pytest
import test_registry
from test_registry import Write

from dafw.errors import UsageError
from dafw.registry import METHODS, load_plugin, options
from dafw.store import compose
from dafw.tuning import best, trials

write = test_registry.write

PLUGIN = """
from typing import Annotated

from dafw import Method, Setting, register_method
from dafw.registry import Range

@register_method
class Mine(Method):
    setting = Setting.SOURCE_ONLY
    variants = {"strong": {"flag": True}}

    def __init__(self, model, *, rate: Annotated[float, Range(0.01, 100.0, log=True)] = 1.0,
                 share: Annotated[float, Range(0.2, 0.6)] = 0.5, depth: Annotated[int, Range(1, 64, log=True)] = 3,
                 loose: float = 2.0, flag: bool = False):
        super().__init__(model)
"""


def drawn(method: str, count: int, seed: int = 0) -> dict[str, list[float]]:
    """Values by hyper-parameter."""
    values: dict[str, list[float]] = {}
    for trial in trials(method, count, seed):
        for word in trial:
            key, _, value = word.partition("=")
            values.setdefault(key, []).append(float(value))
    return values


def test_a_seed_and_a_method_decide_the_trials() -> None:
    first = trials("mcc", 8, 0)
    assert first == trials("mcc", 8, 0)
    assert len(first) == 8
    assert len({tuple(trial) for trial in first}) == 8
    assert trials("mcc", 8, 1) != first
    assert trials("mcc", 3, 0) == first[:3]  # more trials only add to them


@pytest.mark.parametrize("method", METHODS.names())
def test_every_declared_range_is_drawn_from_and_nothing_else(method: str) -> None:
    ranges = {f"method.{o.name}": o.range for o in options(METHODS.get(method)) if o.range is not None}
    values = drawn(method, 50)
    assert set(values) == set(ranges)
    for key, declared in ranges.items():
        assert declared is not None
        assert all(declared.low <= value <= declared.high for value in values[key])
        assert len(set(values[key])) > 30


@pytest.mark.parametrize("method", METHODS.names())
def test_a_default_lies_in_its_range(method: str) -> None:
    for option in options(METHODS.get(method)):
        if option.range is not None:
            assert option.range.low <= option.default <= option.range.high
            assert option.range.low > 0 or not option.range.log


def test_trials_are_words_that_compose() -> None:
    for method in ("mcc", "shot"):
        for trial in trials(method, 3, 0):
            config = compose([f"method={method}", *trial])
            for word in trial:
                key, _, value = word.partition("=")
                assert config.method[key.removeprefix("method.")] == float(value)


def test_draws_are_uniform_on_the_scale_that_is_declared(write: Write) -> None:
    load_plugin(write("mine.py", PLUGIN))
    values = drawn("mine", 4000)
    assert set(values) == {"method.rate", "method.share", "method.depth"}
    rates, shares = np.array(values["method.rate"]), np.array(values["method.share"])
    # standard errors: the median of 4,000 uniform draws lies .008 of the range about its middle
    assert np.log10(np.median(rates)) == pytest.approx(0.0, abs=4 * 0.032)
    assert np.median(shares) == pytest.approx(0.4, abs=4 * 0.0032)
    quarters = np.quantile(np.log10(rates), [0.25, 0.75])
    assert quarters == pytest.approx([-1.0, 1.0], abs=0.12)
    assert np.quantile(shares, [0.25, 0.75]) == pytest.approx([0.3, 0.5], abs=0.012)
    assert abs(np.corrcoef(np.log(rates), shares)[0, 1]) < 4 / math.sqrt(4000)  # drawn one by one, not as one
    assert (min(rates), max(rates)) == pytest.approx((0.01, 100.0), rel=0.05)


def test_a_whole_number_stays_one(write: Write) -> None:
    load_plugin(write("mine.py", PLUGIN))
    words = [word for trial in trials("mine", 200, 0) for word in trial if "depth" in word]
    depths = [int(word.partition("=")[2]) for word in words]  # no "3.0" among them
    assert set(depths) <= set(range(1, 65))
    assert np.median(depths) == pytest.approx(8, abs=3)


def test_a_variant_is_tuned_as_its_method_is(write: Write) -> None:
    load_plugin(write("mine.py", PLUGIN))
    assert [[w.split("=")[0] for w in trial] for trial in trials("mine/strong", 2, 0)] == [
        ["method.rate", "method.share", "method.depth"]
    ] * 2
    assert all(compose(["method=mine/strong", *trial]).method["flag"] for trial in trials("mine/strong", 2, 0)) is True


def test_a_method_without_ranges_has_one_trial_its_defaults() -> None:
    assert trials("source_only", 8, 0) == [[]]
    assert trials("source_only", 8, 5) == [[]]


def test_an_unknown_method_is_told() -> None:
    with pytest.raises(UsageError, match="unknown method 'mc'; did you mean"):
        trials("mc", 2, 0)


# ---- the chosen one


def result(**validators: float) -> dict[str, Any]:
    return {"validators": validators}


def test_the_best_trial_is_the_validators() -> None:
    found = [result(im=0.1, entropy=0.5), None, result(im=0.7, entropy=0.2), result(im=0.7, entropy=0.9)]
    assert best(found, "im") == 2  # of equal ones the first
    assert best(found, "entropy") == 2  # less of it is better
    assert best(found[:1], "im") == 0
    assert best([result(entropy=0.9), *found], "im") == 3  # one that has no value is passed over


def test_there_may_be_none() -> None:
    assert best([None, None], "im") is None
    assert best([], "im") is None
    assert best([result(entropy=0.3), None], "im") is None


def test_no_target_label_chooses_a_trial() -> None:
    found = [
        {"validators": {"im": value}, "target": {"accuracy": accuracy}, "evaluations": []}
        for value, accuracy in ((0.1, 0.9), (0.2, 0.1))
    ]
    assert best(found, "im") == 1
