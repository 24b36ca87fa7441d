"""The Dis² bound: loss and margin against transcriptions, the critic against a grid, the bound where truth is known."""

import inspect
import math

import numpy as np
import pytest
import torch

from dafw.bound import Side, agreement, critic_loss, disagreement_bound, disagreement_loss, discrepancy, epsilon
from dafw.errors import UsageError
from dafw.setting import Output

CLASSES = 4


def output(logits: torch.Tensor) -> Output:
    return Output(torch.zeros(len(logits), 7), logits)


def domain(seed: int, count: int, shift: float = 0.0, swapped: float = 0.0) -> tuple[Output, torch.Tensor]:
    """Clusters around 2 e_c, read by the identity.

    A shift draws every point towards class 0, and along (1, 1, 1, 1), which the model does not see and a critic does:
    a linear labelling that is right on both sides exists. `swapped` moves every cluster towards the next class's.
    """
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    centres = 2 * torch.eye(CLASSES)
    moved = centres[labels] + swapped * (centres[(labels + 1) % CLASSES] - centres[labels])
    moved = moved + shift * torch.tensor([5.0, 2.0, 2.0, 2.0])
    return output(moved + 0.6 * torch.randn(count, CLASSES, generator=draws)), labels


def bound_under(shift: float, count: int = 1500):
    (source, _), (validation, labels) = domain(0, count), domain(1, count)
    (target, _), (unlabelled, truth) = domain(2, count, shift), domain(3, count, shift)
    accuracy = float((unlabelled.logits.argmax(1) == truth).float().mean())
    return disagreement_bound(source, validation, labels, target, unlabelled), accuracy


# ---- the parts


def test_the_disagreement_loss_is_the_papers():
    draws = np.random.default_rng(0)
    logits, answers = draws.normal(0, 3, (20, 5)), draws.integers(0, 5, 20)
    expected = []
    for row, answer in zip(logits, answers, strict=True):
        margin = row[answer] - sum(row[j] for j in range(5) if j != answer) / 4
        expected.append(math.log(1 + math.exp(margin)))
    got = disagreement_loss(torch.from_numpy(logits), torch.from_numpy(answers))
    assert got.numpy() == pytest.approx(np.array(expected), abs=1e-12)


def test_the_critics_loss_is_agreement_there_and_disagreement_here_of_each_critic():
    draws = np.random.default_rng(1)
    source, target = draws.normal(size=(6, 3)), draws.normal(size=(9, 3))
    ours, theirs = draws.integers(0, 3, 6), draws.integers(0, 3, 9)
    weight, bias = draws.normal(size=(2, 3, 3)), draws.normal(size=(2, 1, 3))
    expected = []
    for w, b in zip(weight, bias, strict=True):
        total = 0.0
        for x, y in zip(source, ours, strict=True):
            z = x @ w + b[0]
            total += (math.log(sum(math.exp(v) for v in z)) - z[y]) / 6
        for x, y in zip(target, theirs, strict=True):
            z = x @ w + b[0]
            total += math.log(1 + math.exp(z[y] - (z.sum() - z[y]) / 2)) / 9
        expected.append(total)
    sides = [Side(torch.from_numpy(x), torch.from_numpy(y)) for x, y in ((source, ours), (target, theirs))]
    got = critic_loss(*sides, torch.from_numpy(weight), torch.from_numpy(bias))
    assert got.numpy() == pytest.approx(np.array(expected), abs=1e-12)


def test_agreement_is_counted_critic_by_critic():
    draws = np.random.default_rng(2)
    x, answers = draws.normal(size=(30, 3)), draws.integers(0, 3, 30)
    weight, bias = draws.normal(size=(4, 3, 3)), draws.normal(size=(4, 1, 3))
    expected = [
        sum(np.argmax(row @ w + b[0]) == y for row, y in zip(x, answers, strict=True)) / 30
        for w, b in zip(weight, bias, strict=True)
    ]
    side = Side(torch.from_numpy(x), torch.from_numpy(answers))
    assert agreement(side, torch.from_numpy(weight), torch.from_numpy(bias)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("source", "target", "delta"), [(500, 108, 0.01), (40, 4000, 0.05), (1000, 1000, 0.1)])
def test_epsilon_is_hoeffdings_margin(source, target, delta):
    ranges = [2 / source] * source + [1 / target] * target  # of the summands of the mean
    expected = math.sqrt(sum(r * r for r in ranges) * math.log(1 / delta) / 2)
    assert epsilon(source, target, delta) == pytest.approx(expected)
    if source != target:
        assert epsilon(target, source, delta) != pytest.approx(expected)


def test_the_critic_is_as_good_as_the_best_of_a_grid():
    def two_classes(seed: int, shift: tuple[float, float]) -> Side:
        draws = torch.Generator().manual_seed(seed)
        signs = torch.randint(2, (400,), generator=draws) * 2.0 - 1
        x = torch.stack([signs, torch.zeros(400)], 1) + torch.tensor(shift)
        x = x + 0.7 * torch.randn(400, 2, generator=draws)
        return Side(x, (x[:, 0] > 0).long())

    sides = two_classes(0, (0, 0)), two_classes(1, (0, 0)), two_classes(2, (0, 1.5)), two_classes(3, (0, 1.5))
    best = 0.0
    for angle in np.linspace(0, 2 * np.pi, 91):
        projection = [side.logits @ torch.tensor([np.cos(angle), np.sin(angle)]).float() for side in sides]
        for threshold in np.linspace(-4, 4, 81):
            ours, theirs = (((projection[i] > threshold) == sides[i].answers.bool()).float().mean() for i in (1, 3))
            best = max(best, float(ours - theirs))
    found = discrepancy(*sides)
    assert best - 0.04 < found < best + 0.02  # the loss is a surrogate; the grid is finite
    assert found > 0.15


# ---- the bound


def test_the_bound_is_accuracy_minus_gap_minus_margin_and_at_least_0():
    bound, _ = bound_under(0.3)
    assert bound.accuracy == bound.source_accuracy - bound.discrepancy - bound.epsilon > 0
    assert bound.epsilon == epsilon(1500, 1500, 0.01)
    (source, _), (validation, labels), (target, _) = domain(0, 900), domain(1, 40), domain(2, 1000, 0.5)
    few = disagreement_bound(source, validation, labels, target, output(target.logits[:30]), delta=1e-4)
    assert few.epsilon == epsilon(40, 30, 1e-4)
    assert (few.accuracy, few.delta) == (0.0, 1e-4)
    assert few.source_accuracy == float((validation.logits.argmax(1) == labels).double().mean())


def test_without_shift_little_is_lost_but_the_margin():
    bound, accuracy = bound_under(0.0)
    assert 0 <= bound.discrepancy < 0.05
    assert bound.source_accuracy - bound.epsilon - 0.05 < bound.accuracy <= accuracy


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5, 0.7])
def test_the_accuracy_is_at_least_the_bound(shift):
    bound, accuracy = bound_under(shift)
    assert bound.accuracy <= accuracy
    assert bound.source_accuracy - bound.discrepancy <= accuracy + 0.01  # the critic alone sees how wrong it may be


def test_the_gap_grows_and_the_bound_falls_with_the_shift():
    bounds = [bound_under(shift)[0] for shift in (0.0, 0.15, 0.3, 0.45, 0.6)]
    gaps = [b.discrepancy for b in bounds]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0] + 0.3
    accuracies = [b.accuracy for b in bounds]
    assert accuracies == sorted(accuracies, reverse=True)


def test_it_promises_too_much_where_the_labels_themselves_have_swapped():
    """The paper's assumption is needed: a target that looks like the source with other labels cannot be told."""
    (source, _), (validation, labels) = domain(0, 1500), domain(1, 1500)
    (target, _), (unlabelled, truth) = domain(2, 1500, swapped=1.0), domain(3, 1500, swapped=1.0)
    assert float((unlabelled.logits.argmax(1) == truth).float().mean()) < 0.05
    assert disagreement_bound(source, validation, labels, target, unlabelled).accuracy > 0.8


def test_a_class_that_the_source_never_shows_may_be_anything():
    labels = torch.arange(600) % 2
    source = output(5 * torch.eye(3)[labels])
    target = output(5 * torch.eye(3)[torch.full((600,), 2)])
    bound = disagreement_bound(source, source, labels, target, target)
    assert (bound.source_accuracy, bound.discrepancy, bound.accuracy) == (1.0, 1.0, 0.0)


def test_the_same_examples_on_both_sides_have_no_gap():
    source, labels = domain(0, 600)
    bound = disagreement_bound(source, source, labels, source, source)
    assert bound.discrepancy == 0.0
    assert bound.accuracy == bound.source_accuracy - bound.epsilon


def test_the_model_itself_is_a_critic_without_gap():
    source, labels = domain(0, 600)
    side, shuffled = Side(source.logits, labels), Side(source.logits, labels.roll(1))  # on which no critic agrees
    assert discrepancy(side, shuffled, side, side) == 0.0


def test_the_gap_is_measured_on_validation_not_on_what_was_fitted():
    (source, _), (validation, labels), (target, _) = domain(0, 600), domain(1, 600), domain(2, 600, 0.6)
    (unlabelled, _) = domain(3, 600)
    assert disagreement_bound(source, validation, labels, target, target).discrepancy > 0.3
    assert disagreement_bound(source, validation, labels, target, unlabelled).discrepancy < 0.15


def test_it_repeats_and_touches_no_global_randomness():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, _ = bound_under(0.3, 2500)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert bound_under(0.3, 2500)[0] == first


def test_the_scale_of_the_logits_decides_nothing():
    (source, _), (validation, labels), (target, _) = domain(0, 600), domain(1, 600), domain(2, 600, 0.4)
    given = [source, validation, target, target]
    plain = disagreement_bound(given[0], given[1], labels, *given[2:])
    larger = [output(1024 * o.logits) for o in given]
    assert disagreement_bound(larger[0], larger[1], labels, *larger[2:]) == plain


def test_sides_of_unequal_size_are_both_used():
    (source, _), (validation, labels), (target, _) = domain(0, 3000), domain(1, 500), domain(2, 90, 0.6)
    bound = disagreement_bound(source, validation, labels, target, domain(3, 500, 0.6)[0])
    assert bound.discrepancy > 0.3


def test_target_labels_have_no_place():
    parameters = inspect.signature(disagreement_bound).parameters
    assert [name for name in parameters if "label" in name] == ["source_labels"]


@pytest.mark.parametrize("empty", range(4))
def test_an_empty_part_is_told(empty):
    parts = [domain(seed, 20)[0] for seed in range(4)]
    parts[empty] = output(torch.zeros(0, CLASSES))
    name = ["source train", "source validation", "target train", "target validation"][empty]
    with pytest.raises(UsageError, match=f"no {name} example; expected some"):
        disagreement_bound(parts[0], parts[1], torch.zeros(len(parts[1].logits)).long(), *parts[2:])
