"""What validators are shown of a model, and which of them give a value."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_registry
import test_selection
import torch
from test_registry import Write

from dafw.conformance import case
from dafw.errors import UsageError
from dafw.evidence import Evidence, cheap_validators, evidence_of, validate
from dafw.registry import METHODS, VALIDATORS, load_plugin

write = test_registry.write


def fresh() -> Any:
    raise AssertionError("the classifier as it was before training was built")


def evidence(**changes: Any) -> Evidence:
    """Of dann on the made pair."""
    made = case(METHODS.get("dann"))
    splits = {"source": made.pair.source_validation, "target": made.pair.target_validation, **changes}
    return evidence_of(made.method, splits["source"], splits["target"], fresh)


def test_outputs_are_those_of_predict_in_row_order() -> None:
    made = case(METHODS.get("dann"))
    source, target = made.pair.source_validation, made.pair.target_validation
    assert source is not None
    assert target is not None
    made.method.train()
    seen = evidence_of(made.method, source, target, fresh)
    assert all(part.training for part in made.method.modules())  # as it was
    made.method.eval()
    for output, split in ((seen.source, source), (seen.target, target)):
        assert len(output.logits) == len(split) == 5
        for row, inputs in enumerate(split.inputs):
            with torch.no_grad():
                alone = made.method.model(inputs[None].float() / 255)
            torch.testing.assert_close(output.features[row], alone.features[0])
            torch.testing.assert_close(output.logits[row], alone.logits[0])
    assert torch.equal(seen.source_labels, source.labels)
    assert torch.equal(seen.source_inputs(), source.inputs)
    assert torch.equal(seen.target_inputs(), target.inputs)
    torch.testing.assert_close(seen.predict(target.inputs).logits, seen.target.logits)


def test_one_forward_pass_serves_all_cheap_validators(monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(METHODS.get("dann"))
    asked: list[int] = []
    predict = made.method.predict

    def counted(inputs: torch.Tensor, domain: int = -1) -> Any:
        asked.append(len(inputs))
        return predict(inputs, domain)

    monkeypatch.setattr(made.method, "predict", counted)
    seen = evidence_of(made.method, made.pair.source_validation, made.pair.target_validation, fresh)
    assert set(validate(seen, cheap_validators())) == set(cheap_validators())
    assert asked == [5, 5]


def test_target_labels_are_never_asked_for() -> None:
    made = case(METHODS.get("dann"))
    target = made.pair.target_validation
    assert target is not None
    with_labels = evidence_of(made.method, made.pair.source_validation, target, fresh)
    without = evidence_of(made.method, made.pair.source_validation, target.without_labels(), fresh)
    names = cheap_validators()
    assert validate(with_labels, names) == validate(without, names)


@pytest.mark.parametrize("part", ["source", "target"])
def test_a_split_that_is_missing_or_empty_is_nothing(part: str) -> None:
    made = case(METHODS.get("dann"))
    split = made.pair.source_validation
    assert split is not None
    for missing in (None, split.take(torch.arange(0), "none")):
        seen = evidence(**{part: missing})
        other = {"source": "target", "target": "source"}[part]
        assert getattr(seen, part) is None
        assert (seen.has(part), seen.has(other)) == (False, True)


def test_only_what_is_not_marked_as_dear_is_cheap(write: Write) -> None:
    before = cheap_validators()
    assert {"mixval", "reverse"} == set(VALIDATORS.names()) - set(before)
    load_plugin(write("mine.py", test_selection.PLUGIN.format(better=True, only_named=False)))
    assert cheap_validators() == sorted([*before, "mine"])
    load_plugin(write("mine.py", test_selection.PLUGIN.format(better=True, only_named=True)))
    assert cheap_validators() == before


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers `odd`, which returns this value."""

    def register(value: Any, sees: tuple[str, ...] = ("target",)) -> None:
        def odd(_: Evidence) -> Any:
            return value

        odd.sees, odd.only_named = sees, False  # type: ignore[attr-defined]
        monkeypatch.setattr(VALIDATORS, "_plugins", {**VALIDATORS._plugins, "odd": odd})

    VALIDATORS.load()
    return register


@pytest.mark.parametrize(
    "value", [torch.tensor(0.5), 1, None, "0.5", np.float32(0.5), [0.5]], ids=lambda value: type(value).__name__
)
def test_what_is_no_float_is_refused_in_a_sentence(value: Any, registered: Callable[..., None]) -> None:
    registered(value)
    with pytest.raises(UsageError) as error:
        validate(evidence(), ["im", "odd"])
    line = str(error.value)
    assert line.startswith("the validator 'odd' returned ")
    assert line.endswith("; expected a float, as in float(score)")
    assert "\n" not in line


@pytest.mark.parametrize("value", [0.5, -3.0, np.float64(0.25)])
def test_a_float_is_its_value(value: float, registered: Callable[..., None]) -> None:
    registered(value)
    assert validate(evidence(), ["odd"]) == {"odd": value}
    assert list(validate(evidence(), ["odd", "im"])) == ["odd", "im"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_does_not_exist_is_left_out(value: float, registered: Callable[..., None]) -> None:
    registered(value)
    assert set(validate(evidence(), ["im", "odd"])) == {"im"}


@pytest.mark.parametrize(("sees", "part"), [(("source",), "source"), (("target",), "target")])
def test_a_validator_that_lacks_what_it_sees_is_not_called(
    sees: tuple[str, ...], part: str, registered: Callable[..., None]
) -> None:
    registered("would be refused", sees)
    assert validate(evidence(**{part: None}), ["odd"]) == {}
    with pytest.raises(UsageError):
        validate(evidence(), ["odd"])


def test_what_costs_is_called_only_by_those_that_ask() -> None:
    """The inputs, the model and the fresh classifier are handed over as calls."""
    called: list[str] = []
    made = case(METHODS.get("dann"))
    model = made.data.start_model()

    def start() -> Any:
        called.append("fresh")
        return model

    seen = evidence_of(made.method, made.pair.source_validation, made.pair.target_validation, start)
    validate(seen, cheap_validators())
    assert called == []
    values = validate(seen, ["reverse"])
    assert called == ["fresh"]
    assert 0 <= values["reverse"] <= 1


def test_a_device_of_the_models_own_does_not_matter() -> None:
    """Validators work on the CPU, whatever `predict` answers on."""

    class Elsewhere:
        shape = (2, 3)

        def __init__(self) -> None:
            self.moved = 0

        def cpu(self) -> torch.Tensor:
            self.moved += 1
            return torch.zeros(2, 3)

    answers = [Elsewhere(), Elsewhere()]
    split: Any = type("Two", (), {"__len__": lambda _: 2, "labels": None, "outputs": lambda *_: answers})()
    seen = evidence_of(SimpleNamespace(predict=None), None, split, fresh)
    assert [a.moved for a in answers] == [1, 1]
    assert isinstance(seen.target.logits, torch.Tensor)


def test_a_validator_that_raises_is_named_in_a_sentence(write: Write) -> None:
    text = test_selection.PLUGIN.format(better=True, only_named=False)
    body = text.splitlines()
    broken = [line if "return" not in line else "    return [][0]" for line in body]
    load_plugin(write("broken.py", "\n".join(broken) + "\n"))
    with pytest.raises(UsageError, match=r"the validator 'broken' fails: IndexError: .*; mend it, or leave"):
        validate(evidence(), ["broken"])
