"""Validators that look at logits alone, against loops over the equations and against models of known worth."""

import math

import numpy as np
import pytest
import torch
from made_evidence import evidence, logits_of, random_evidence, shuffled, softmax, three_models

from dafw.evidence import Evidence
from dafw.registry import VALIDATORS
from dafw.setting import Output


def value(name: str, seen: Evidence) -> float:
    return float(VALIDATORS.get(name)(seen))


def slow_source_accuracy(seen: Evidence) -> float:
    logits, labels = seen.source.logits.tolist(), seen.source_labels.tolist()
    return sum(max(range(len(row)), key=row.__getitem__) == y for row, y in zip(logits, labels, strict=True)) / len(
        labels
    )


def slow_source_loss(seen: Evidence) -> float:
    p = softmax(seen.source.logits)
    return -sum(math.log(p[i, y]) for i, y in enumerate(seen.source_labels.tolist())) / len(p)


def slow_entropy(seen: Evidence) -> float:
    return -sum(q * math.log(q) for row in softmax(seen.target.logits) for q in row) / len(seen.target.logits)


def slow_im(seen: Evidence) -> float:
    mean = softmax(seen.target.logits).mean(0)
    return -sum(q * math.log(q) for q in mean) - slow_entropy(seen)


def slow_bnm(seen: Evidence) -> float:
    p = softmax(seen.target.logits)
    eigenvalues = np.linalg.eigvalsh(p.T @ p)  # their roots are the singular values
    return float(np.sqrt(eigenvalues.clip(0)).sum() / len(p))


def slow_mano(seen: Evidence) -> float:
    logits = seen.target.logits.double().numpy()
    count, classes = logits.shape
    criterion = -np.log(softmax(seen.target.logits)).sum() / (count * classes)
    total = 0.0
    for row in logits:
        v = [math.exp(q) if criterion > 5 else 1 + q + q * q / 2 for q in row]
        total += sum((x / sum(v)) ** 4 for x in v)
    return float((total / (count * classes)) ** 0.25)


SLOW = {
    "source_accuracy": slow_source_accuracy,
    "source_loss": slow_source_loss,
    "entropy": slow_entropy,
    "im": slow_im,
    "bnm": slow_bnm,
    "mano": slow_mano,
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_equation_one_number_at_a_time(name: str, seed: int) -> None:
    seen = random_evidence(seed)
    assert value(name, seen) == pytest.approx(SLOW[name](seen), abs=1e-6)
    assert value(name, shuffled(seen)) == pytest.approx(value(name, seen), abs=1e-12)


def target_only(logits: torch.Tensor) -> Evidence:
    return evidence(None, None, Output(torch.zeros(len(logits), 2), logits))


def test_mano_has_two_normalisations_and_a_criterion_of_five_chooses() -> None:
    """For two logits (q, 0) the criterion is log(1 + e^q) - q / 2, about q / 2."""
    below, above = target_only(torch.tensor([[9.9, 0.0]])), target_only(torch.tensor([[10.1, 0.0]]))
    first = 1 + 9.9 + 9.9**2 / 2
    assert value("mano", below) == pytest.approx((((first / (first + 1)) ** 4 + (1 / (first + 1)) ** 4) / 2) ** 0.25)
    p = 1 / (1 + math.exp(-10.1))
    assert value("mano", above) == pytest.approx(((p**4 + (1 - p) ** 4) / 2) ** 0.25, abs=1e-6)


def test_the_ends_of_each_scale() -> None:
    classes, count = 4, 20
    spread = target_only(logits_of(torch.arange(count) % classes, classes, 1e4))
    collapsed = target_only(logits_of(torch.zeros(count, dtype=torch.long), classes, 1e4))
    uniform = target_only(torch.zeros(count, classes))
    assert [value("entropy", x) for x in (spread, collapsed, uniform)] == pytest.approx([0, 0, math.log(classes)])
    assert [value("im", x) for x in (spread, collapsed, uniform)] == pytest.approx([math.log(classes), 0, 0], abs=1e-12)
    expected = [math.sqrt(classes / count), math.sqrt(1 / count), math.sqrt(1 / (count * classes))]
    assert [value("bnm", x) for x in (spread, collapsed, uniform)] == pytest.approx(expected)
    assert [value("mano", x) for x in (spread, uniform)] == pytest.approx([classes**-0.25, 1 / classes])


def best(name: str, models: dict[str, Evidence]) -> str:
    sign = 1 if VALIDATORS.get(name).higher_is_better else -1
    return max(models, key=lambda model: sign * value(name, models[model]))


@pytest.mark.parametrize("name", ["source_accuracy", "source_loss", "im", "bnm"])
def test_the_right_model_ranks_first(name: str) -> None:
    assert best(name, three_models()) == "right"


@pytest.mark.parametrize("name", ["entropy", "mano"])
def test_among_diverse_models_the_surer_one_ranks_first(name: str) -> None:
    labels = torch.arange(40) % 4
    models = {str(margin): target_only(logits_of(labels, 4, margin)) for margin in (0.5, 1.5, 3.0)}
    assert best(name, models) == "3.0"


def test_entropy_is_fooled_by_collapse_where_im_and_bnm_are_not() -> None:
    diverse = target_only(logits_of(torch.arange(40) % 4, 4, 5.0))
    collapsed = target_only(logits_of(torch.zeros(40, dtype=torch.long), 4, 6.0))
    models = {"diverse": diverse, "collapsed": collapsed}
    assert best("entropy", models) == "collapsed"
    assert best("im", models) == best("bnm", models) == "diverse"


def test_source_loss_tells_apart_what_accuracy_does_not() -> None:
    labels = torch.arange(20) % 4
    models = {
        str(margin): evidence(Output(torch.zeros(20, 2), logits_of(labels, 4, margin)), labels, None)
        for margin in (1.0, 4.0)
    }
    assert value("source_accuracy", models["1.0"]) == value("source_accuracy", models["4.0"]) == 1
    assert best("source_loss", models) == "4.0"
