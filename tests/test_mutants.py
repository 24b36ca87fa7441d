"""Mutants: what is wrong with each is caught by a named conformance check (or by a test: test_mutants_slips.py).

Each mutant is a registered method's own source with a few words replaced, or a wrong part under it. The method as it is
passes the same check, so that it is the check which decides.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import whole

from dafw.conformance import CHECKS
from dafw.method import Method
from dafw.pair import Pair
from dafw.registry import METHODS, load_plugin
from dafw.setting import Batch, Labelled
from dafw.split import Split

surroundings, mutated = whole.surroundings, whole.mutated  # fixtures

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
        "as they are held and floats",
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
