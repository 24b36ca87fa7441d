"""Mutants: what is wrong with each is caught by a named conformance check, or by a named test of tests/methods.

Each mutant is a registered method's own source with a few words replaced, or a wrong part under it. The method as it is
passes the same check, so that it is the check which decides.
"""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
import whole
from torch import Tensor

from dafw.classifier import Classifier
from dafw.conformance import CHECKS
from dafw.layers import _ReverseGradient
from dafw.method import Method
from dafw.pair import Pair
from dafw.registry import METHODS, load_plugin, source_file
from dafw.setting import Batch, Labelled
from dafw.split import Split

surroundings = whole.surroundings  # a fixture

BEFORE_LOSSES = "    def losses(self"
CLASSIFICATION = '"classification": F.cross_entropy(source.logits, batch.source.labels)'


class Mutant(NamedTuple):
    """What is wrong, whose source is changed, which words into which, which check says what."""

    name: str
    method: str
    changes: tuple[tuple[str, str], ...]
    check: str
    says: str


def with_method(*lines: str) -> tuple[str, str]:
    """One more method of the class, before `losses`."""
    return BEFORE_LOSSES, "\n".join([*(f"    {line}" for line in lines), "", BEFORE_LOSSES])


MUTANTS = [
    Mutant(
        "target unused: the domain loss takes two source halves",
        "dann",
        (("batch.target.inputs", "batch.source.inputs"),),
        "check_inputs_used",
        "never looks at the target inputs",
    ),
    Mutant(
        "source unused",
        "joint_supervised",
        (
            ("source, shots = self", "(shots,) = self"),
            ("together(batch.source.inputs, ", "together("),
            ("[source.logits, ", "["),
            ("[batch.source.labels, ", "["),
        ),
        "check_inputs_used",
        "never looks at the source inputs",
    ),
    Mutant(
        "lambda stuck at 0",
        "dann",
        (("ganin_ramp(progress.fraction)", "0.0"),),
        "check_terms",
        "the term 'domain' has no gradient on the model",
    ),
    Mutant(
        "features detached",
        "dann",
        (("reverse_gradient(features,", "reverse_gradient(features.detach(),"),),
        "check_terms",
        "the term 'domain' has no gradient on the model",
    ),
    Mutant(
        "a term that is a constant",
        "mcc",
        (("minimum_class_confusion(target.logits, self.temperature)", "target.logits.new_tensor(self.temperature)"),),
        "check_terms",
        "the term 'class_confusion' has no gradient on the model",
    ),
    Mutant(
        "a term that is a number an example",
        "source_only",
        (("batch.source.labels)}", 'batch.source.labels, reduction="none")}'),),
        "check_terms",
        r"has shape \(12,\); a term is a scalar",
    ),
    Mutant(
        "a term whose gradient is not finite",
        "source_only",
        ((")}", ") + (0 * self.model.head.weight).sum().sqrt()}"),),
        "check_terms",
        "'classification' is nan",
    ),
    Mutant(
        "a weight that scales nothing",
        "dann",
        (('"domain": self.weight * ', '"domain": '),),
        "check_weights",
        "weight doubled: the term 'domain'",
    ),
    Mutant(
        "a weight that scales the classification too",
        "dann",
        ((CLASSIFICATION, CLASSIFICATION.replace("F.", "self.weight * F.")),),
        "check_weights",
        "weight doubled: the term 'classification'",
    ),
    Mutant(
        "a weight of one term that scales another",
        "l2sp",
        (("self.start_weight / 2 *", "self.head_weight / 2 *"),),
        "check_weights",
        "the term 'start'",
    ),
    Mutant(
        "a hyper-parameter that does nothing",
        "dann",
        (("Discriminator(model.feature_dim, hidden)", "Discriminator(model.feature_dim, 16)"),),
        "check_hyperparameters",
        "the hyper-parameter hidden changes nothing",
    ),
    Mutant(
        "the head is not trained",
        "dann",
        (
            with_method(
                "def parameter_groups(self, lr):",
                "    named = self.named_parameters()",
                "    return [{'params': [p for n, p in named if not n.startswith('model.head')], 'lr': lr}]",
            ),
        ),
        "check_trained",
        "model.head.weight, model.head.bias never moved",
    ),
    Mutant(
        "a closed form that forgets to do it",
        "feature_extraction",
        (("        fit_linear(features, data.shots.labels", "        (features, data.shots.labels"),),
        "check_trained",
        "`finish` changes nothing",
    ),
    Mutant(
        "predict adapts to what it is asked",
        "dann",
        (
            with_method(
                "def predict(self, inputs, domain=-1):",
                "    self.train()  # batch norm by the batch, and its statistics move",
                "    with torch.no_grad():",
                "        return self.model(inputs)",
            ),
        ),
        "check_predict",
        "it adapts to what it is asked",
    ),
    Mutant(
        "predict compares the rows of a batch",
        "dann",
        (
            with_method(
                "def predict(self, inputs, domain=-1):",
                "    output = super().predict(inputs, domain)",
                "    return output._replace(logits=output.logits - output.logits.mean(0))",
            ),
        ),
        "check_predict",
        "depends on the rest of the batch",
    ),
    Mutant(
        "predict takes bytes for floats",
        "dann",
        (with_method("def predict(self, inputs, domain=-1):", "    return super().predict(inputs.float(), domain)"),),
        "check_predict",
        "uint8 inputs and floats",
    ),
    Mutant(
        "predict leaves out a class",
        "dann",
        (
            with_method(
                "def predict(self, inputs, domain=-1):",
                "    output = super().predict(inputs, domain)",
                "    return output._replace(logits=output.logits[:, 1:])",
            ),
        ),
        "check_predict",
        "logits have shape",
    ),
    Mutant(
        "the seed is ignored",
        "feature_extraction",
        (
            (
                "        features = data.shots",
                "        __import__('torch').manual_seed(0)\n"
                "        for part in self.model.modules():\n"
                "            if hasattr(part, 'reset_parameters'):\n"
                "                part.reset_parameters()\n"
                "        features = data.shots",
            ),
        ),
        "check_seed",
        "two seeds give the same bits",
    ),
    Mutant(
        "a draw that no seed governs",
        "dann",
        (("ganin_ramp(progress.fraction)", "__import__('random').random()"),),
        "check_seed",
        "two runs of one seed differ",
    ),
    Mutant(
        "something remembered outside the state",
        "dann",
        (
            with_method(
                "factor = 1.0",
                "",
                "def predict(self, inputs, domain=-1):",
                "    output = super().predict(inputs, domain)",
                "    return output._replace(logits=self.factor * output.logits)",
            ),
            ("        self.log(", "        self.factor += 0.1\n        self.log("),
        ),
        "check_state_dict",
        "predicts otherwise",
    ),
    Mutant(
        "no paper",
        "mcc",
        ((" (Jin et al. 2020, ECCV, arXiv 1912.03699, section 3)", ""),),
        "check_documented",
        "names no paper with its year",
    ),
]


@pytest.fixture
def mutated(tmp_path: Path) -> Callable[..., type[Method]]:
    """A registered method whose source reads otherwise, under a name of its own."""

    def made(method: str, changes: tuple[tuple[str, str], ...]) -> type[Method]:
        text = source_file(METHODS.get(method)).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {method}"
            text = text.replace(old, new)
        file = tmp_path / f"{method}_mutant.py"
        file.write_text(text)
        load_plugin(file)
        return METHODS.get(file.stem)  # type: ignore[no-any-return]

    return made


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.name for m in MUTANTS])
def test_a_check_catches(mutant: Mutant, mutated: Callable[..., type[Method]]) -> None:
    CHECKS[mutant.check](METHODS.get(mutant.method))
    with pytest.raises(AssertionError, match=mutant.says):
        CHECKS[mutant.check](mutated(mutant.method, mutant.changes))


# ---- labels that leak, and seeds that are not set: what is wrong lies under the method

PEEKS = '''
import torch.nn.functional as F

from dafw import Method, Setting, register_method
from dafw.errors import UsageError


@register_method
class Peeks(Method):
    """Learns the target's labels wherever it can lay hands on them (Nobody 2020)."""

    setting = Setting.UNSUPERVISED

    def setup(self, data):
        try:
            self.register_buffer("seen", data.target.labels.clone())
        except UsageError:
            self.seen = None

    def losses(self, batch, progress):
        source, target = self.model.together(batch.source.inputs, batch.target.inputs)
        losses = {"classification": F.cross_entropy(source.logits, batch.source.labels)}
        if self.seen is not None:
            losses["target"] = F.cross_entropy(target.logits, self.seen[batch.target.index])
        if hasattr(batch.target, "labels"):
            losses["target"] = F.cross_entropy(target.logits, batch.target.labels)
        return losses
'''


def hand_labels_on(batch_of: Callable[..., Batch]) -> Callable[..., Batch]:
    def batch(pair: Pair, step: int, batch_size: int) -> Batch:
        made = batch_of(pair, step, batch_size)
        target = made.target
        labels = pair.target_train.labels[target.index]
        return made._replace(target=Labelled(target._draw, target.index, target.domain, labels))

    return batch


@pytest.fixture
def peeks(tmp_path: Path) -> type[Method]:
    file = tmp_path / "peeks.py"
    file.write_text(PEEKS)
    load_plugin(file)
    return METHODS.get("peeks")  # type: ignore[no-any-return]


def test_labels_that_leak_into_batches_are_caught(peeks: type[Method], monkeypatch: pytest.MonkeyPatch) -> None:
    CHECKS["check_target_labels_hidden"](peeks)
    monkeypatch.setattr(Pair, "batch", hand_labels_on(Pair.batch))
    with pytest.raises(AssertionError, match="depends on the target's labels"):
        CHECKS["check_target_labels_hidden"](peeks)


def test_labels_that_leak_with_the_whole_target_are_caught(
    peeks: type[Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    CHECKS["check_target_labels_hidden"](peeks)
    monkeypatch.setattr(Split, "without_labels", lambda split: split)
    with pytest.raises(AssertionError, match="depends on the target's labels"):
        CHECKS["check_target_labels_hidden"](peeks)


@pytest.mark.parametrize("method", ["dann", "shot", "simclr"])
def test_random_numbers_before_any_seed_are_caught(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CHECKS["check_seed"](METHODS.get(method))
    monkeypatch.setattr(torch, "manual_seed", lambda _: torch.default_generator)
    with pytest.raises(AssertionError, match="two runs of one seed differ"):
        CHECKS["check_seed"](METHODS.get(method))


# ---- signs and other slips of a method that only its own tests can know


@pytest.fixture
def tests_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of a method's tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "methods"))
    return lambda method: importlib.import_module(f"test_{method}")


def flipped(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
    return ctx.coefficient * gradients[0], None


@pytest.mark.parametrize(
    "function",
    [
        "test_features_get_minus_lambda_times_the_discriminators_gradient",
        "test_the_two_sides_oppose_each_other",
    ],
)
def test_a_flipped_reversal_is_caught(
    function: str,
    tests_of: Callable[[str], ModuleType],
    model: Classifier,
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    method = METHODS.get("dann")(model, weight=0.7, hidden=5)
    arguments = (0.5,) if "lambda" in function else ()
    test = getattr(tests_of("dann"), function)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    test(method, batch, *arguments)
    method.load_state_dict(start)
    method.zero_grad()
    monkeypatch.setattr(_ReverseGradient, "backward", staticmethod(flipped))
    with pytest.raises(AssertionError):
        test(method, batch, *arguments)


class Slip(NamedTuple):
    """A method's source changed, and which of the tests of that method, which build it as `name`, must fail."""

    method: str
    name: str
    values: dict[str, Any]
    old: str
    new: str
    test: str


SLIPS = [
    Slip(
        "dann",
        "DANN",
        {"weight": 0.7, "hidden": 5},
        "torch.cat([source.features, target.features])",
        "torch.cat([source.features, source.features])",
        "test_both_domains_move_the_features",
    ),
    Slip(
        "dann",
        "DANN",
        {"weight": 0.7, "hidden": 5},
        "is_source[: len(source.features)] = 1.0",
        "is_source[:] = 1.0",
        "test_terms_equal_numpy",
    ),
    Slip(
        "mcc",
        "MCC",
        {},
        "minimum_class_confusion(target.logits",
        "minimum_class_confusion(source.logits",
        "test_terms_come_from_one_forward_pass_of_both_domains",
    ),
    Slip(
        "mcc",
        "MCC",
        {},
        '"class_confusion": self',
        '"class_confusion": -self',
        "test_steps_lower_the_confusion_of_the_target",
    ),
    Slip(
        "mcd",
        "MCD",
        {"weight": 0.8, "generator_steps": 2},
        '"disagreement": -self',
        '"disagreement": self',
        "test_each_step_goes_its_way",
    ),
    Slip(
        "mcd",
        "MCD",
        {"weight": 0.8, "generator_steps": 2},
        'only=("model.head", "second_head")',
        "only=()",
        "test_a_batch_is_one_step_of_all_one_of_the_heads_then_the_features",
    ),
    Slip(
        "l2sp",
        "L2SP",
        {},
        "(loaded - self.start_point)",
        "loaded",
        "test_the_start_term_is_zero_at_the_start",
    ),
]


@pytest.mark.parametrize("slip", SLIPS, ids=[f"{s.method}: {s.new}" for s in SLIPS])
def test_a_test_of_the_method_catches(
    slip: Slip,
    mutated: Callable[..., type[Method]],
    tests_of: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    module = tests_of(slip.method)
    test = getattr(module, slip.test)
    names = test.__code__.co_varnames[: test.__code__.co_argcount]

    def arguments(method_class: type[Method]) -> dict[str, Any]:
        model = copy.deepcopy(request.getfixturevalue("model"))
        torch.manual_seed(1)
        made = {"model": model, "method": method_class(model, **slip.values) if "method" in names else None}
        return {name: made[name] if name in made else request.getfixturevalue(name) for name in names}

    test(**arguments(METHODS.get(slip.method)))
    mutant = mutated(slip.method, ((slip.old, slip.new),))
    monkeypatch.setattr(module, slip.name, mutant)
    with pytest.raises(AssertionError):
        test(**arguments(mutant))
