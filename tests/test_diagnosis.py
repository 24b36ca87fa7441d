"""Numbers of a diagnosis against slow transcriptions of their equations and cases with known answers."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from dafw import diagnosis
from dafw.classifier import Classifier
from dafw.diagnosis import Answers
from dafw.method import Method
from dafw.split import Split

CLASSES = ("ant", "bee", "cat")


class Plain(Method):
    """Answers with its model."""


def logits_of(probabilities) -> np.ndarray:
    return np.log(np.asarray(probabilities, dtype=float))


def answers(features=None, logits=None, labels=(0, 1, 2)) -> Answers:
    labels = torch.tensor(labels)
    features = torch.zeros(len(labels), 2) if features is None else torch.as_tensor(features, dtype=torch.float32)
    logits = torch.zeros(len(labels), 3) if logits is None else torch.as_tensor(logits, dtype=torch.float32)
    return Answers(features, logits, labels)


# ---- calibration


def slow_ece(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, eq. 3, example by example."""
    inside = [[] for _ in range(bins)]
    for row, label in zip(logits, labels, strict=True):
        shares = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        for m in range(bins):
            if m / bins < shares.max() <= (m + 1) / bins:
                inside[m].append((shares.max(), row.argmax() == label))
    total = 0.0
    for members in inside:
        if members:
            confidence, right = np.mean([c for c, _ in members]), np.mean([r for _, r in members])
            total += len(members) / len(labels) * abs(right - confidence)
    return total


def test_ece_and_nll_are_those_of_the_equations():
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 2, (200, 4)), random.integers(0, 4, 200)
    found = diagnosis.reliability(logits, labels)
    assert found["ece"] == pytest.approx(slow_ece(logits, labels), abs=1e-12)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["nll"] == pytest.approx(np.mean([-math.log(shares[i, y]) for i, y in enumerate(labels)]), abs=1e-12)
    assert found["confidence"] == pytest.approx(shares.max(1).mean())
    assert found["accuracy"] == pytest.approx((shares.argmax(1) == labels).mean())
    assert found["bins"]["count"].sum() == 200


def test_the_reliability_curve_of_a_case_done_by_hand():
    """Four examples: two at .7 of which one is right, two at .95, both right; ECE = (2 x .2 + 2 x .05) / 4."""
    logits = logits_of([[0.7, 0.3], [0.7, 0.3], [0.05, 0.95], [0.05, 0.95]])
    found = diagnosis.reliability(logits, np.array([0, 1, 1, 1]))
    assert found["ece"] == pytest.approx((2 * 0.2 + 2 * 0.05) / 4)
    assert found["bins"]["count"].tolist() == [0] * 10 + [2] + [0] * 3 + [2]  # .7 is in (10/15, 11/15]
    assert found["bins"]["confidence"][[10, 14]] == pytest.approx([0.7, 0.95])
    assert found["bins"]["accuracy"][[10, 14]] == pytest.approx([0.5, 1.0])
    assert np.isnan(found["bins"]["accuracy"][3])
    assert diagnosis.plain(found)["bins"]["accuracy"][3] is None


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    found = diagnosis.reliability(np.zeros((1, 5)), np.array([0]))  # .2 = 3/15
    assert found["bins"]["count"].tolist() == [0, 0, 1] + [0] * 12


def test_the_temperature_of_logits_made_too_large_is_their_factor():
    """Labels drawn from softmax(z): the best temperature of 3 z is 3."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (20_000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) < random.random((20_000, 1))).sum(1)
    found = diagnosis.temperature(3 * logits, labels)
    assert found == pytest.approx(3, rel=0.03)
    grid = np.exp(np.linspace(*np.log(diagnosis.TEMPERATURES), 400))
    best = grid[np.argmin([diagnosis.nll(3 * logits / t, labels) for t in grid])]
    assert found == pytest.approx(best, rel=0.02)


def test_scaling_is_fitted_on_source_validation_and_measured_on_the_target():
    target = logits_of([[0.9, 0.1], [0.9, 0.1]])
    labels = np.array([0, 1])
    validation = Answers(
        torch.zeros(10, 1), torch.tensor(logits_of([[0.9, 0.1]] * 10)), torch.tensor([0] * 6 + [1] * 4)
    )
    found = diagnosis.calibration(target, labels, validation)
    assert found["temperature"] == pytest.approx(math.log(9) / math.log(1.5), rel=1e-3)  # .9 becomes .6
    assert found["after"]["confidence"] == pytest.approx(0.6, abs=1e-3)
    assert found["before"]["ece"] == pytest.approx(0.4)
    assert found["after"]["ece"] == pytest.approx(0.1, abs=1e-3)
    assert found["at_bound"] is False
    perfect = validation._replace(labels=torch.zeros(10, dtype=torch.long))
    assert diagnosis.calibration(target, labels, perfect)["at_bound"] is True
    without = diagnosis.calibration(target, labels, None)
    assert (without["temperature"], without["after"], without["at_bound"]) == (None, None, None)
    assert without["before"] is not None


# ---- domains


def test_a_distance_is_two_for_domains_apart_and_none_for_equal_ones():
    draw = torch.Generator().manual_seed(0)
    source, target = (torch.randn(300, 5, generator=draw) for _ in range(2))
    assert diagnosis.a_distance(source, target + 10) == 2.0
    assert diagnosis.a_distance(source, target) < 0.35  # two standard deviations of the error of 300 held-out examples
    assert diagnosis.a_distance(torch.zeros(50, 3), torch.zeros(50, 3)) == 0.0
    assert diagnosis.a_distance(source[:3], target) is None
    assert diagnosis.a_distance(source.log(), target) is None  # NaN


def test_a_distance_is_that_of_the_best_linear_boundary():
    """Two unit Gaussians 1 apart: the best error is Phi(-1/2), and standardising changes no linear boundary."""
    draw = torch.Generator().manual_seed(1)
    source, target = (torch.randn(5000, 2, generator=draw) for _ in range(2))
    target[:, 0] += 1
    expected = 2 * (1 - 2 * stats.norm.cdf(-0.5))
    scaled = [part * torch.tensor([1e-4, 1000.0]) for part in (source, target)]
    assert diagnosis.a_distance(*scaled) == pytest.approx(expected, abs=0.13)  # 3 deviations of 1,000 held out
    assert diagnosis.a_distance(*scaled) == diagnosis.a_distance(*scaled)


def test_a_distance_balances_the_domains():
    """With 40 against 4,000 a classifier that always says the larger one would be right .99 of the time."""
    draw = torch.Generator().manual_seed(2)
    few, many = torch.randn(40, 2, generator=draw), torch.randn(4000, 2, generator=draw)
    assert diagnosis.a_distance(few, many) < 1
    assert diagnosis.a_distance(many, few) < 1


def test_a_distance_is_measured_on_what_the_classifier_has_not_seen():
    """In 300 dimensions a hyperplane parts any 100 fitted examples, of one distribution too."""
    draw = torch.Generator().manual_seed(5)
    source, target = (torch.randn(100, 300, generator=draw) for _ in range(2))
    assert diagnosis.a_distance(source, target) < 0.6


def test_entropies_lie_in_their_bins():
    logits = logits_of([[1 / 3] * 3, [1 - 2e-9, 1e-9, 1e-9], [0.5, 0.5 - 1e-12, 1e-12]])
    found = diagnosis.entropies(None, logits)
    assert found["source"] is None
    assert found["edges"][-1] == pytest.approx(math.log(3))
    counted = np.flatnonzero(found["target"])
    assert counted.tolist() == [0, math.floor(20 * math.log(2) / math.log(3)), 19]
    assert found["target_mean"] == pytest.approx((math.log(3) + math.log(2)) / 3, abs=1e-6)
    both = diagnosis.entropies(logits[:1], logits)
    assert both["source"].tolist() == [0] * 19 + [1]
    assert both["source_mean"] == pytest.approx(math.log(3))


def test_centroids_of_a_plane():
    """ant stays; bee lands nearer to cat's source centroid; cat has no target example."""
    source = answers([[0, 2], [0, 4], [3, 0], [5, 0], [0, -1]], labels=[0, 0, 1, 1, 2], logits=np.zeros((5, 3)))
    target = answers([[0, 3], [1, -1], [1, -1]], labels=[0, 1, 1])
    found = diagnosis.plain(diagnosis.centroids(source, target, CLASSES))
    assert found["uses_target_labels"] is True
    euclidean, cosine = found["euclidean"], found["cosine"]
    assert euclidean["own"] == [0, pytest.approx(math.sqrt(10), rel=1e-5), None]
    assert euclidean["other"] == [4, 1, None]
    assert euclidean["nearest"] == ["cat", "cat", None]
    assert euclidean["astray"] == 1
    assert cosine["own"] == [0, pytest.approx(1 - 1 / math.sqrt(2), rel=1e-5), None]
    assert cosine["other"] == [pytest.approx(1), pytest.approx(1 - 1 / math.sqrt(2), rel=1e-5), None]
    assert cosine["nearest"] == ["bee", "cat", None]


# ---- batch norm


@pytest.fixture
def method(model: Classifier) -> Plain:
    return Plain(model)


def test_drift_is_that_of_a_transcription(method: Plain):
    draw = torch.Generator().manual_seed(3)
    inputs = torch.rand(20, 1, 8, 8, generator=draw)
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.running_mean.normal_(generator=draw)
        norm.running_var.uniform_(0.5, 2, generator=draw)
    seen = {}
    hooks = [n.register_forward_pre_hook(lambda m, given: seen.__setitem__(m, given[0].numpy())) for n in norms]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.predict(inputs)
    for hook in hooks:
        hook.remove()
    found = diagnosis.drift(method, inputs)
    assert len(found["layers"]) == len(norms) > 1
    for layer, norm in zip(found["layers"], norms, strict=True):
        shifts, ratios = [], []
        for channel in range(norm.num_features):
            values = seen[norm][:, channel].ravel()
            mean, variance = norm.running_mean[channel].item(), norm.running_var[channel].item()
            shifts.append(abs(values.mean() - mean) / math.sqrt(variance + norm.eps))
            ratios.append(abs(math.log((values.var(ddof=1) + norm.eps) / (variance + norm.eps))))
        assert layer["mean_shift"] == pytest.approx(np.mean(shifts), rel=1e-4)
        assert layer["log_variance_ratio"] == pytest.approx(np.mean(ratios), rel=1e-3)
        assert method.get_submodule(layer["layer"]) is norm
    assert found["mean_shift"] == pytest.approx(np.mean([layer["mean_shift"] for layer in found["layers"]]))
    after = method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(norm._forward_pre_hooks for norm in norms)


def test_drift_is_nothing_where_the_statistics_are_the_targets_and_a_shift_is_counted_in_deviations():
    class Norm(Method):
        def __init__(self):
            nn.Module.__init__(self)
            self.norm = nn.BatchNorm1d(1)
            self._logged = {}

        def predict(self, inputs, domain=-1):
            return self.eval().norm(inputs)

    method = Norm()
    inputs = torch.tensor([[1.0], [3.0], [5.0]])
    method.norm.running_mean.fill_(3)
    method.norm.running_var.fill_(4)
    assert diagnosis.drift(method, inputs)["mean_shift"] == pytest.approx(0, abs=1e-6)
    assert diagnosis.drift(method, inputs)["layers"][0]["log_variance_ratio"] == pytest.approx(0, abs=1e-6)
    assert diagnosis.drift(method, inputs + 3)["mean_shift"] == pytest.approx(1.5, rel=1e-4)
    assert diagnosis.drift(method, 2 * inputs)["layers"][0]["log_variance_ratio"] == pytest.approx(math.log(4), 1e-4)
    assert diagnosis.drift(method, inputs[:1]) is None


def test_there_is_no_drift_without_batch_norm():
    class Body(nn.Flatten):
        features = 64

    assert diagnosis.drift(Plain(Classifier(Body(), 3, feature_dim=0)), torch.rand(4, 1, 8, 8)) is None


def test_inputs_are_drawn_without_the_run_and_are_few():
    split = Split(torch.arange(600).float()[:, None], torch.arange(600), torch.zeros(600), torch.zeros(600), "cpu")
    first = diagnosis.some_inputs(split)
    torch.manual_seed(1)
    assert torch.equal(first, diagnosis.some_inputs(split))
    assert len(first.unique()) == diagnosis.MOST_INPUTS
    assert diagnosis.some_inputs(None) is None


# ---- a whole run


@pytest.fixture
def parts():
    draw = torch.Generator().manual_seed(4)

    def part(count: int) -> Answers:
        labels = torch.arange(count) % 3
        return Answers(torch.rand(count, 8, generator=draw), torch.randn(count, 3, generator=draw), labels)

    return part(30), part(40), part(50)


def test_a_run_is_plain_numbers(method: Plain, parts):
    inputs = torch.rand(20, 1, 8, 8)
    found = diagnosis.of_run(method, CLASSES, *parts, inputs)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    predicted = parts[2].logits.argmax(1)
    assert found["predictions"]["predicted"] == [int((predicted == c).sum()) for c in range(3)]
    assert found["predictions"]["examples"] == [17, 17, 16]
    assert parts[2].accuracy == np.mean([row.argmax() == y for row, y in zip(*parts[2][1:], strict=True)])
    assert found["a_distance"] == pytest.approx(diagnosis.a_distance(parts[1].features, parts[2].features))
    assert sum(found["entropy"]["source"]) == 40
    assert sum(found["entropy"]["target"]) == 50
    assert found["drift"]["mean_shift"] == pytest.approx(diagnosis.drift(method, inputs)["mean_shift"], rel=1e-5)


def test_what_is_not_there_is_none(method: Plain, parts):
    found = diagnosis.of_run(method, CLASSES, None, None, parts[2], None)
    assert [found[name] for name in ("a_distance", "centroids", "drift")] == [None] * 3
    assert found["calibration"]["after"] is None
    assert found["entropy"]["source"] is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_none(method: Plain, parts, wrong: float):
    """A network that went wrong at its last step still leaves its record."""
    broken = [Answers(torch.full_like(p.features, wrong), torch.full_like(p.logits, wrong), p.labels) for p in parts]
    found = diagnosis.of_run(method, CLASSES, *broken, None)
    json.dumps(found, allow_nan=False)
    assert found["calibration"]["before"]["nll"] is None
    assert found["a_distance"] is None


def test_an_answer_with_no_chance_left_is_counted(method: Plain, parts):
    certain = parts[2]._replace(logits=torch.eye(3)[parts[2].labels].log())
    found = diagnosis.of_run(method, CLASSES, certain, parts[1], certain, None)
    assert found["calibration"]["before"]["ece"] == 0
    assert found["calibration"]["before"]["nll"] == 0
    assert found["entropy"]["target"][0] == 50
