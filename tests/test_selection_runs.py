"""Whole tiny runs: which checkpoint is the answer, what is logged and recorded, and that no target label is asked."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_selection
import torch
import whole
from whole import TINY, Told, checkpoint, files_of_runs, made_npz, made_pair, measured, run_in, same, weights, words

import dafw
from dafw import assembly, experiment
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

EVERY = {"eval.every": 1, "train.steps": 8, "train.batch_size": 8, "train.lr": 0.2}


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
    record = tiny(keys, select=rule)
    result, logged = record.result, evaluations(record)
    assert sorted(logged) == list(range(1, 9))
    step = 8
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


def test_the_state_chosen_is_the_one_that_was_trained_so_far(keys: dict[str, Any]) -> None:
    """A run of constant rate that ends at the chosen step ends with the weights that were kept."""
    constant = {"train.schedule": "constant"}
    record = tiny(keys, select="oracle", **constant)
    step = record.result["selected_step"]
    assert step < 8
    until = tiny({**keys, "method": "source_only"}, **constant, **{"train.steps": step})
    kept = tiny({**keys, "method": "source_only"}, select="oracle", **constant)
    if kept.result["selected_step"] == step:
        assert same(weights(kept), weights(until))
    by_step = [tiny({**keys, "method": "source_only"}, **constant, **{"train.steps": n}) for n in range(1, 9)]
    assert same(weights(kept), weights(by_step[kept.result["selected_step"] - 1]))


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
    few = {"train.steps": 3, "reuse": False}
    tiny(keys, **few)
    tiny(keys, select="im", **few)
    assert calls == []
    tiny(keys, select=dear, **few)
    assert calls == [dear] * 3


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
    monkeypatch.setattr(experiment.assembly, "build_pair", built)


@pytest.mark.parametrize(
    ("method", "rule"),
    [("dann", "mixval"), ("source_only", "reverse"), ("shot", "im"), ("adabn", "snd"), ("finetune", "class_ami")],
)
def test_target_labels_change_no_validator_and_no_bit_of_training(
    method: str, rule: str, keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = {"method": method, "select": rule, "train.steps": 4}
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
    assert honest.result["target"] != other.result["target"]


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
    dropout = {"backbone.dropout": 0.2, "train.steps": 4}

    def losses(record: Record) -> list[dict[str, float]]:
        kept = [{k: v for k, v in line.items() if k.startswith(("loss/", "lr"))} for line in record.metrics()]
        return [line for line in kept if line]

    found, plain = (
        losses(tiny(keys, **dropout, select=selected, **{"eval.every": every}))
        for selected, every in ((rule, 1), ("last", 1000))
    )
    assert len(plain) == 4
    assert found == plain


# ---- a stranger's validator


def test_a_users_validator_is_logged_and_selects(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(test_selection.PLUGIN.format(better=False, only_named=False))
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs"}
    record = tiny(keys, select="mine", **plugin)
    logged = evaluations(record)
    values = {step: line["validator/mine"] for step, line in logged.items()}
    assert len(set(values.values())) == 8
    assert record.result["selected_step"] == min(values, key=values.__getitem__)
    assert record.result["validators"]["mine"] == min(values.values())
    assert set(record.result["identity"]["plugins"]) == {"method", "backbone", "src npz", "tgt", "select"}
    unselected = tiny(keys, **plugin)
    assert unselected.result["validators"]["mine"] == values[8]


def test_a_users_dear_validator_is_left_out_until_it_is_named(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(test_selection.PLUGIN.format(better=True, only_named=True))
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs", "train.steps": 2}
    assert "mine" not in tiny(keys, **plugin).result["validators"]
    assert "mine" in tiny(keys, select="mine", **plugin).result["validators"]


BROKEN = test_selection.PLUGIN.replace("return float(seen.target.logits[0, 0])", "return {returned}")


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
    numbers = 'values = iter([float("nan"), 2.0, 5.0, float("inf"), 3.0, float("nan"), 5.0, 4.0])\n'
    (tmp_path / "mine.py").write_text(numbers + text)
    plugin = {"plugins": [tmp_path / "mine.py"], "out": tmp_path / "runs"}
    record = tiny(keys, select="mine", **plugin)
    values = {step: line.get("validator/mine") for step, line in evaluations(record).items()}
    assert values == {1: None, 2: 2.0, 3: 5.0, 4: None, 5: 3.0, 6: None, 7: 5.0, 8: 4.0}
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


# ---- what result.json says of a run


def difference(first: Record, second: Record) -> set[str]:
    """Which of the things that must be equal are not; the hash says the same."""
    one, other = first.result["comparable"], second.result["comparable"]
    assert one.keys() == other.keys()
    differ = {key for key in one if one[key] != other[key]}
    assert (first.result["comparable_hash"] == second.result["comparable_hash"]) is (not differ)
    return differ


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({"seed": 1}, set()),
        ({"method": "mcc", "method.weight": 0.5, "train.lr": 0.1, "train.optimizer": "adamw"}, set()),
        ({"method": "tent"}, set()),  # what its recipe changes is its own
        ({"tgt.corruption": "contrast"}, {"pair"}),
        ({"tgt.rotation": 30}, {"pair"}),
        ({"image_size": 20}, {"image size"}),
        ({"train.steps": 7}, {"budget"}),
        ({"train.batch_size": 9}, {"budget"}),
        ({"backbone.width": 8}, {"backbone"}),
        ({"backbone.dropout": 0.1}, {"backbone"}),
        ({"split_seed": 1}, {"split"}),
        ({"tgt.validation": 0.2}, {"split"}),
        ({"tgt.transductive": True}, {"transductive"}),
        ({"method": "finetune", "tgt.labels_per_class": 3}, {"labels per class", "init"}),
        ({"init": "simclr"}, {"init"}),
        ({"labels": "partial"}, {"classes"}),
        ({"select": "im"}, {"evaluation"}),
        ({"eval.every": 4}, {"evaluation"}),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_must_be_equal_between_runs_that_are_compared(
    change: dict[str, Any], differ: set[str], keys: dict[str, Any]
) -> None:
    assert difference(tiny(keys), tiny(keys, **change)) == differ


def test_other_images_under_the_same_names_are_another_pair(keys: dict[str, Any], tmp_path: Path) -> None:
    made_npz(tmp_path / "bright.npz", shift=61, train=90, test=45)
    other = tiny(keys, **{"tgt.path": tmp_path / "bright.npz"})
    assert difference(tiny(keys), other) == {"data"}
    identity = other.result["identity"]
    assert identity["data"]["src"] == tiny(keys).result["identity"]["data"]["src"]
    assert identity["data"]["tgt"] != tiny(keys).result["identity"]["data"]["tgt"]
    assert identity["torch"] == torch.__version__


def test_the_references_of_a_run_may_be_compared_with_it(keys: dict[str, Any]) -> None:
    record = tiny(keys, references=True)
    for name, reference in record.references.items():
        assert difference(record, reference) == set(), name


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ({}, []),
        ({"method.weight": 0.5}, ["method.weight=0.5"]),
        ({"method.weight": 1.0, "train.schedule": "cosine"}, []),  # what they are anyway
        ({"method.hidden": 32, "train.lr": 0.125}, ["method.hidden=32", "train.lr=0.125"]),
        ({"seed": 1, "image_size": 20, "backbone.width": 8, "train.steps": 7, "train.batch_size": 9}, []),
        ({"method": "shot", "method.threshold": 1}, ["method.threshold=1"]),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_the_hyper_parameters_are_those_that_are_not_as_usual(
    change: dict[str, Any], own: list[str], keys: dict[str, Any]
) -> None:
    plain = {key: value for key, value in keys.items() if key != "train.lr"}
    assert tiny(plain, **change).result["hyperparameters"] == own


def test_a_reference_has_no_hyper_parameters_though_it_is_given_a_training(keys: dict[str, Any]) -> None:
    plain = {key: value for key, value in keys.items() if key != "train.lr"}
    usual = tiny(plain, references=True, **{"method.weight": 0.5})
    assert usual.result["hyperparameters"] == ["method.weight=0.5"]
    assert len(usual.references) == 5
    assert {role: r.result["hyperparameters"] for role, r in usual.references.items()} == dict.fromkeys(
        usual.references, []
    )
    typed = tiny(plain, references=True, **{"train.lr": 0.2})
    assert all("train.lr=0.2" in r.result["hyperparameters"] for r in typed.references.values())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"select": "entropy", "seed": 3, "method.weight": 0.25},
        {"method": "shot", "method.pseudo_label_weight": 0.1, "backbone.width": 8},
        {"method": "finetune", "tgt.labels_per_class": 2, "init": "random"},
        {"tgt.corruption": "contrast", "tgt.severity": 2, "wandb.tags": ["a b", "it's", "c,d"]},
    ],
    ids=lambda change: " ".join(f"{k}={v}" for k, v in change.items()),
)
def test_the_command_repeats_the_run(
    change: dict[str, Any], keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    out = tmp_path / "a folder, (it's) mine"
    record = tiny(keys, **{**change, "out": out})
    before = files_of_runs(out)
    python, flag, module, *again = shlex.split(record.result["command"])
    assert (python, flag, module) == ("python", "-m", "dafw.run")
    told = type_here(again)
    assert told.code == 0, told
    assert told.folder == record.folder
    assert "found again, not trained" in told.out
    assert files_of_runs(out) == before
    anew = type_here([*again, "reuse=false"])
    assert anew.folder != record.folder
    assert run_in(anew.folder).hash == record.hash
    assert same(weights(run_in(anew.folder)), weights(record))


def test_the_command_of_a_reference_repeats_it(keys: dict[str, Any], type_here: Callable[..., Told]) -> None:
    record = tiny(keys, references=True)
    for reference in record.references.values():
        told = type_here(shlex.split(reference.result["command"])[3:])
        assert (told.code, told.folder) == (0, reference.folder)


def test_the_command_of_a_plug_in_and_a_variant_repeats_the_run(
    keys: dict[str, Any], tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    text = Path(test_selection.__file__).with_name("test_bad_input.py").read_text()
    method = text.split("METHOD = '''", 1)[1].split("'''", 1)[0]
    variant = (
        'setting = Setting.SOURCE_ONLY\n    variants = {"strong": {"rate": 2.0}}\n\n    def __init__(self, model, '
    )
    variant += "*, rate: float = 1.0):\n        super().__init__(model)\n        self.rate = rate\n"
    (tmp_path / "mine.py").write_text(
        method.replace("setting = Setting.SOURCE_ONLY\n", variant).replace('": loss}', '": self.rate * loss}')
    )
    record = tiny(keys, method="mine/strong", plugins=[tmp_path / "mine.py"], out=tmp_path / "runs")
    assert record.result["hyperparameters"] == ["method.rate=2.0", "train.lr=0.2"]
    told = type_here(shlex.split(record.result["command"])[3:])
    assert told.code == 0, told
    assert told.folder == record.folder


# ---- the bound


def test_the_bound_is_what_its_parts_say_at_the_chosen_step(tmp_path: Path) -> None:
    made_npz(tmp_path / "dark.npz", train=1200)
    made_npz(tmp_path / "dim.npz", train=1200, shift=3)
    pair = {"src": "npz", "src.path": tmp_path / "dark.npz", "tgt": "npz", "tgt.path": tmp_path / "dim.npz"}
    record = measured(tmp_path, **pair, method="source_only", **{"train.steps": 60})
    bound = record.result["bound"]
    assert set(bound) == {"accuracy", "source_accuracy", "discrepancy", "epsilon", "delta"}
    assert bound["source_accuracy"] == record.result["validators"]["source_accuracy"] > 0.9
    assert bound["epsilon"] == pytest.approx(np.sqrt(5 * 120 * np.log(100) / (2 * 120 * 120)))
    assert 0 <= bound["discrepancy"] <= 1
    assert bound["accuracy"] == bound["source_accuracy"] - bound["discrepancy"] - bound["epsilon"] > 0
    assert bound["accuracy"] <= record.accuracy


def test_a_bound_is_never_below_nothing(keys: dict[str, Any]) -> None:
    bound = tiny(keys).result["bound"]
    assert bound["source_accuracy"] - bound["discrepancy"] - bound["epsilon"] < 0
    assert bound["accuracy"] == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"tgt.validation": 0},
        {"src.validation": 0},
        {"tgt.transductive": True},
        {"method": "finetune"},
        {"method": "tent"},
    ],
    ids=lambda change: " ".join(f"{k}={v}" for k, v in change.items()),
)
def test_there_is_no_bound_without_both_validation_splits(change: dict[str, Any], keys: dict[str, Any]) -> None:
    result = json.loads((tiny(keys, **change).folder / "result.json").read_text())
    assert result["bound"] is None
