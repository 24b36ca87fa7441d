"""Whole tiny runs: which checkpoint is the answer, what is logged, and that no target label is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_selection
import torch
import whole
from whole import TINY, Told, checkpoint, files_of_runs, made_npz, made_pair, same, weights, words

import dafw
from dafw import assembly
from dafw.config import resolve
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.evidence import cheap_validators
from dafw.pair import Pair
from dafw.record import Record
from dafw.registry import VALIDATORS
from dafw.selection import ORACLE, score_of
from dafw.store import compose

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures
pytestmark = pytest.mark.slow

STEPS = 6
EVERY = {"eval.every": 1, "train.steps": STEPS, "train.batch_size": 8, "train.lr": 0.2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two made domains and the runs on them, shared by the tests."""
    folder = tmp_path_factory.mktemp("selection")
    made_pair(folder, train=90, test=45)
    return folder


@pytest.fixture
def keys(place: Path) -> dict[str, Any]:
    pair = {"src": "npz", "src.path": place / "dark.npz", "tgt": "npz", "tgt.path": place / "bright.npz"}
    return {**pair, "method": "dann", "out": place / "runs", **EVERY}


def tiny(keys: dict[str, Any], **more: Any) -> Record:
    return dafw.measure(**{**TINY, **keys, **more})


def evaluations(record: Record) -> dict[int, dict[str, float]]:
    """What metrics.jsonl says of each evaluation, by its step."""
    return {line["step"]: line for line in record.metrics() if any(k.startswith("validator/") for k in line)}


# ---- which checkpoint


@pytest.mark.parametrize("rule", ["last", "oracle", *VALIDATORS.names()])
def test_the_answer_is_the_checkpoint_that_the_rule_chooses(rule: str, keys: dict[str, Any], place: Path) -> None:
    steps = 2 if rule == "reverse" else STEPS  # it trains a network at each
    record = tiny(keys, select=rule, **{"train.steps": steps})
    result, logged = record.result, evaluations(record)
    assert sorted(logged) == list(range(1, steps + 1))
    step = steps
    if rule != "last":
        key, higher_is_better = score_of(rule)
        best = (max if higher_is_better else min)(line[key] for line in logged.values())
        step = min(step for step, line in logged.items() if line[key] == best)
    assert (result["selection"], result["selected_step"]) == (rule, step)
    assert record.accuracy == logged[step][ORACLE]
    saved = record.predictions()
    assert (saved["predicted"] == saved["labels"]).mean() == logged[step][ORACLE]
    chosen = {name.removeprefix("validator/"): v for name, v in logged[step].items() if name.startswith("validator/")}
    assert result["validators"] == chosen
    named = {rule} & set(VALIDATORS.names())
    assert set(chosen) == set(cheap_validators()) | named
    images = resize(torch.from_numpy(np.load(place / "bright.npz")["test_images"])[:, None], 16, 1)
    answers = dafw.load(record.folder).predict(images).logits.softmax(1)  # the checkpoint is that state too
    np.testing.assert_allclose(answers.numpy(), saved["probabilities"], atol=1e-5)


def test_rules_choose_otherwise_than_last(keys: dict[str, Any]) -> None:
    """Or the test above would hold for a run that ignores its rule."""
    steps = {
        rule: tiny(keys, select=rule).result["selected_step"] for rule in ("entropy", "im", "oracle", "source_loss")
    }
    assert len(set(steps.values())) > 1
    assert set(steps.values()) != {8}


BROKEN = test_selection.PLUGIN.replace("return float(seen.target.logits[0, 0])", "return {returned}")


def test_the_state_chosen_is_the_one_that_was_trained_so_far(keys: dict[str, Any], tmp_path: Path) -> None:
    """At a constant rate, a run that ends at the chosen step ends with the weights that were kept."""
    text = BROKEN.format(better=True, only_named=True, returned="next(values)")
    (tmp_path / "mine.py").write_text("values = iter([1.0, 2.0, 4.0, 3.0, 4.0, 1.0])\n" + text)
    constant = {"method": "source_only", "train.schedule": "constant", "plugins": [tmp_path / "mine.py"]}
    kept = tiny(keys, select="mine", **constant)
    assert kept.result["selected_step"] == 3
    assert same(weights(kept), weights(tiny(keys, **constant, **{"train.steps": 3})))
    assert not same(weights(kept), weights(tiny(keys, **constant)))


@pytest.mark.parametrize("dear", ["mixval", "reverse"])
def test_what_costs_is_computed_only_where_it_is_named(
    dear: str, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    validator = VALIDATORS.get(dear)

    def counted(seen: Any) -> float:
        calls.append(dear)
        return validator(seen)  # type: ignore[no-any-return]

    for name in ("higher_is_better", "sees", "only_named"):
        setattr(counted, name, getattr(validator, name))
    counted.__wrapped__ = validator  # type: ignore[attr-defined]  # where its source stands
    monkeypatch.setitem(VALIDATORS._plugins, dear, counted)
    few = {"train.steps": 2, "reuse": False}
    tiny(keys, **few)
    tiny(keys, select="im", **few)
    assert calls == []
    tiny(keys, select=dear, **few)
    assert calls == [dear] * 2


# ---- what is logged


def logged_names(record: Record) -> set[str]:
    names = [{k.removeprefix("validator/") for k in line if k.startswith("validator/")} for line in record.metrics()]
    of_evaluations = [n for n in names if n]
    assert of_evaluations
    assert all(n == of_evaluations[0] for n in of_evaluations)
    assert of_evaluations[0] == set(record.result["validators"])
    return of_evaluations[0]


def that_see(*parts: str) -> set[str]:
    return {name for name in cheap_validators() if set(VALIDATORS.get(name).sees) <= set(parts)}


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ({}, ("source", "target")),
        ({"method": "shot"}, ("source", "target")),
        ({"method": "adabn"}, ("source", "target")),
        ({"method": "simclr"}, ("source", "target")),
        ({"tgt.transductive": True}, ("source",)),
        ({"tgt.validation": 0}, ("source",)),
        ({"src.validation": 0}, ("target",)),
        ({"method": "finetune"}, ("target",)),
        ({"method": "tent"}, ("source",)),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_validators_are_logged_that_have_what_they_see(
    typed: dict[str, Any], parts: tuple[str, ...], keys: dict[str, Any]
) -> None:
    record = tiny(keys, **{"eval.every": 3, **typed})
    assert logged_names(record) == that_see(*parts)
    assert that_see(*parts) not in (set(), set(VALIDATORS.names()))
    lines = list(evaluations(record).values())
    assert record.result["evaluations"] == lines
    for line in lines:
        assert line.get("source/validation_accuracy") == line.get("validator/source_accuracy")
        assert (ORACLE in line) is (typed.get("method") != "tent")
    assert record.result["validators"]["entropy" if "target" in parts else "source_loss"] >= 0


def test_a_validators_value_is_that_of_the_state_on_target_validation(keys: dict[str, Any]) -> None:
    """Entropy by hand, of the loaded run on the examples that the pair set aside."""
    record = tiny(keys)
    _, pair, _ = assembly.build_pair(resolve(compose(words(**keys))), None, lambda _: None)
    assert pair.target_validation is not None
    assert len(pair.target_validation) == 9
    logits = dafw.load(record.folder).predict(pair.target_validation.inputs).logits.double()
    by_hand = np.mean([-sum(p * np.log(p) for p in row) for row in logits.softmax(1).tolist()])
    assert record.result["validators"]["entropy"] == pytest.approx(by_hand, abs=1e-5)


# ---- what cannot be selected by


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"select": "im", "tgt.validation": 0}, "select=im: it needs target validation examples and there are none"),
        ({"select": "dev", "src.validation": 0}, "select=dev: it needs source validation examples"),
        ({"select": "im", "tgt.transductive": True}, "select=im: tgt.transductive=true leaves nothing to select on"),
        ({"select": "source_loss", "tgt.transductive": True}, "select=source_loss: tgt.transductive=true"),
        ({"select": "oracle", "tgt.transductive": True}, "select=oracle: tgt.transductive=true"),
        ({"select": "source_accuracy", "method": "finetune"}, "select=source_accuracy: it needs source validation"),
        ({"select": "im", "tgt.validation": 0, "method": "shot"}, "select=im: it needs target validation"),
        ({"select": "im", "method": "tent"}, "select=im: tent answers each test example once"),
        (
            {"select": "oracle", "labels": "source", "method": "source_only", "tgt.path": "other.npz"},
            "select=oracle: it needs target test examples and there are none here",
        ),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_rule_that_has_nothing_to_look_at_is_refused_before_anything_is_trained(
    typed: dict[str, Any], says: str, keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    if "tgt.path" in typed:
        typed = {**typed, "tgt.path": made_npz(tmp_path / typed["tgt.path"], ("x", "y"), shift=60)}
    told = type_here(words(**{**keys, "out": tmp_path / "runs", **typed}))
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith(f"error: {says}")
    assert line.endswith("expected select=last")
    assert "step 1" not in told.out
    assert files_of_runs(tmp_path / "runs") == []


# ---- target labels, and what validators leave alone


def permuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every pair that is built has the labels of target validation and target test permuted."""
    build = assembly.build_pair

    def built(*given: Any) -> Any:
        config, pair, network = build(*given)
        assert isinstance(pair, Pair)
        for split in (pair.target_validation, pair.target_test):
            if split is not None:
                split.labels = (split.labels + 1) % len(pair.classes)
        return config, pair, network

    monkeypatch.setattr(assembly, "build_pair", built)


@pytest.mark.parametrize(
    ("method", "rule"),
    [("dann", "mixval"), ("source_only", "reverse"), ("shot", "im"), ("adabn", "snd"), ("finetune", "class_ami")],
)
def test_target_labels_change_no_validator_and_no_bit_of_training(
    method: str, rule: str, keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = {"method": method, "select": rule, "train.steps": 2}
    honest = tiny(keys, **typed)
    permuted(monkeypatch)
    other = tiny(keys, out=tmp_path, **typed)
    assert not other.reused
    assert not np.array_equal(other.predictions()["labels"], honest.predictions()["labels"])
    for mine, theirs in zip(honest.metrics(), other.metrics(), strict=True):
        oracles = mine.pop(ORACLE, None), theirs.pop(ORACLE, None)
        assert (oracles[0] is None) is (oracles[1] is None)
        assert mine == theirs
    assert same(weights(honest), weights(other))
    for key in ("validators", "selected_step", "bound", "source"):
        assert honest.result[key] == other.result[key]


@pytest.mark.parametrize("method", ["dann", "mcd", "shot", "simclr", "tent", "coral"])
def test_evaluations_and_validators_do_not_disturb_training(method: str, keys: dict[str, Any]) -> None:
    dropout = {"method": method, "backbone.dropout": 0.2}
    often, seldom = (tiny(keys, **dropout, **{"eval.every": every}) for every in (1, 1000))
    assert often.folder != seldom.folder
    state, other = checkpoint(often)["method"], checkpoint(seldom)["method"]
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert np.array_equal(often.predictions()["probabilities"], seldom.predictions()["probabilities"])


@pytest.mark.parametrize("rule", ["reverse", "mixval"])
def test_a_validator_that_trains_or_mixes_leaves_the_losses_as_they_were(rule: str, keys: dict[str, Any]) -> None:
    dropout = {"backbone.dropout": 0.2, "train.steps": 3}

    def losses(record: Record) -> list[dict[str, float]]:
        kept = [{k: v for k, v in line.items() if k.startswith(("loss/", "lr"))} for line in record.metrics()]
        return [line for line in kept if line]

    found, plain = (
        losses(tiny(keys, **dropout, select=selected, **{"eval.every": every}))
        for selected, every in ((rule, 1), ("last", 1000))
    )
    assert len(plain) == 3
    assert found == plain


# ---- a stranger's validator


def test_a_users_validator_is_logged_and_selects(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(test_selection.PLUGIN.format(better=False, only_named=False))
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs"}
    record = tiny(keys, select="mine", **plugin)
    logged = evaluations(record)
    values = {step: line["validator/mine"] for step, line in logged.items()}
    assert len(set(values.values())) == STEPS
    assert record.result["selected_step"] == min(values, key=values.__getitem__)
    assert record.result["validators"]["mine"] == min(values.values())
    assert set(record.result["identity"]["plugins"]) == {"method", "backbone", "src npz", "tgt", "validator mine"}
    unselected = tiny(keys, **plugin)
    assert unselected.result["validators"]["mine"] == values[STEPS]


def test_a_users_dear_validator_is_left_out_until_it_is_named(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(test_selection.PLUGIN.format(better=True, only_named=True))
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs", "train.steps": 2}
    assert "mine" not in tiny(keys, **plugin).result["validators"]
    assert "mine" in tiny(keys, select="mine", **plugin).result["validators"]


@pytest.mark.parametrize("returned", ["seen.target.logits[0, 0]", "1", "None"])
def test_a_validator_that_returns_no_float_is_one_line(
    returned: str, keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    (tmp_path / "mine.py").write_text(BROKEN.format(better=True, only_named=False, returned=returned))
    told = type_here(words(**keys, plugins=[tmp_path / "mine.py"], reuse=False))
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith("error: the validator 'mine' returned ")
    assert line.endswith("; expected a float, as in float(score)")


def test_a_score_that_does_not_exist_is_left_out_and_chooses_nothing(keys: dict[str, Any], tmp_path: Path) -> None:
    """A logarithm of 0, say: at one evaluation, or at all of them."""
    text = BROKEN.format(better=True, only_named=False, returned="next(values)")
    numbers = 'values = iter([float("nan"), 2.0, 5.0, float("inf"), 5.0, 4.0])\n'
    (tmp_path / "mine.py").write_text(numbers + text)
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs"}
    record = tiny(keys, select="mine", **plugin)
    values = {step: line.get("validator/mine") for step, line in evaluations(record).items()}
    assert values == {1: None, 2: 2.0, 3: 5.0, 4: None, 5: 5.0, 6: 4.0}
    assert record.result["selected_step"] == 3
    (tmp_path / "mine.py").write_text(BROKEN.format(better=True, only_named=False, returned='float("nan")'))
    assert "mine" not in tiny(keys, **plugin).result["validators"]
    with pytest.raises(UsageError, match="select=mine: "):
        tiny(keys, select="mine", **plugin)


def test_a_validator_without_a_direction_is_one_line(
    keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    for call in ("", "()", '("mine")', '(sees=("target",))'):
        text = test_selection.PLUGIN.replace(
            '(higher_is_better={better}, sees=("target",), only_named={only_named})', call
        )
        (tmp_path / "mine.py").write_text(text)
        told = type_here(words(**keys, plugins=[tmp_path / "mine.py"]))
        assert told.code == 2
        (line,) = told.err.splitlines()
        assert str(tmp_path / "mine.py") in line
        assert "higher_is_better" in line
        assert "mine" not in VALIDATORS
