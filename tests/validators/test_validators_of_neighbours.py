"""Soft neighbourhood density and cluster agreement, against loops and on constructed targets."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from made_evidence import evidence, logits_of, random_evidence, shuffled, softmax, three_models
from torch import Tensor

from dafw.evidence import Evidence
from dafw.setting import Output
from dafw.validators import snd as snd_module
from dafw.validators.class_ami import class_ami
from dafw.validators.snd import soft_neighbourhood_density


def of_target(features: Tensor, logits: Tensor) -> Evidence:
    return evidence(None, None, Output(features, logits))


def slow_density(seen: Evidence) -> float:
    """Saito et al. 2021: S = cosines, P = softmax of S / tau over the others, the mean of P's entropies."""
    p = softmax(seen.target.logits)
    unit = [row / math.sqrt(sum(x * x for x in row)) for row in p]
    total = 0.0
    for i, first in enumerate(unit):
        e = [
            math.exp(sum(a * b for a, b in zip(first, other, strict=True)) / 0.05) for other in unit[:i] + unit[i + 1 :]
        ]
        total -= sum(x / sum(e) * math.log(x / sum(e)) for x in e)
    return total / len(unit)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_density_equals_the_loops(seed: int) -> None:
    seen = random_evidence(seed)
    assert soft_neighbourhood_density(seen) == pytest.approx(slow_density(seen), abs=1e-6)
    assert soft_neighbourhood_density(shuffled(seen)) == pytest.approx(soft_neighbourhood_density(seen), abs=1e-12)


def test_density_does_not_depend_on_how_many_rows_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = random_evidence()
    whole = soft_neighbourhood_density(seen)
    monkeypatch.setattr(snd_module, "ROWS", 5)
    assert soft_neighbourhood_density(seen) == pytest.approx(whole, abs=1e-12)


def test_density_prefers_clusters_to_scatter_and_is_fooled_by_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    clusters = of_target(torch.zeros(40, 2), logits_of(labels, 4, 8.0))
    scattered = of_target(torch.zeros(40, 2), 2 * torch.randn(40, 4, generator=generator))
    collapsed = of_target(torch.zeros(40, 2), logits_of(torch.zeros(40, dtype=torch.long), 4, 8.0))
    assert soft_neighbourhood_density(clusters) == pytest.approx(math.log(9), abs=1e-3)  # nine others a cluster
    assert soft_neighbourhood_density(collapsed) == pytest.approx(math.log(39))
    assert soft_neighbourhood_density(scattered) < soft_neighbourhood_density(clusters)


def adjusted_mutual_information(first: list[int], second: list[int]) -> float:
    """(MI - E[MI]) / (mean of the entropies - E[MI]), E[MI] from hypergeometric counts (Vinh et al. 2010)."""
    n = len(first)
    a, b, joint = Counter(first), Counter(second), Counter(zip(first, second, strict=True))
    mutual = sum(c / n * math.log(n * c / (a[i] * b[j])) for (i, j), c in joint.items())
    expected = 0.0
    for x in a.values():
        for y in b.values():
            for c in range(max(1, x + y - n), min(x, y) + 1):
                chance = math.comb(x, c) * math.comb(n - x, y - c) / math.comb(n, y)
                expected += chance * c / n * math.log(n * c / (x * y))
    entropies = [-sum(c / n * math.log(c / n) for c in counts.values()) for counts in (a, b)]
    return (mutual - expected) / (sum(entropies) / 2 - expected)


def test_cluster_agreement_equals_the_equation() -> None:
    """Clusters are so far apart that k-means finds them; the predictions agree with them in part."""
    generator = torch.Generator().manual_seed(0)
    clusters = torch.arange(45) % 3
    features = 50 * torch.eye(3)[clusters] + torch.randn(45, 3, generator=generator)
    predicted = torch.where(torch.rand(45, generator=generator) < 0.6, clusters, (clusters + 1) % 3)
    seen = of_target(features, logits_of(predicted, 3, 1.0))
    expected = adjusted_mutual_information(predicted.tolist(), clusters.tolist())
    assert 0.05 < expected < 0.9
    assert class_ami(seen) == pytest.approx(expected, abs=1e-6)
    other = torch.randperm(45, generator=generator)
    assert class_ami(of_target(features[other], logits_of(predicted[other], 3, 1.0))) == pytest.approx(expected)


def test_cluster_agreement_is_one_for_the_clusters_themselves_and_none_for_chance() -> None:
    models = three_models()
    assert class_ami(models["right"]) == pytest.approx(1)
    assert class_ami(models["collapsed"]) == 0
    assert abs(class_ami(models["random"])) < 0.2


def test_a_collapsed_model_with_collapsed_features_does_not_win() -> None:
    collapsed = of_target(torch.ones(20, 3), logits_of(torch.zeros(20, dtype=torch.long), 3, 1.0))
    assert class_ami(collapsed) == 0
    split = of_target(torch.ones(20, 3), logits_of(torch.arange(20) % 3, 3, 1.0))
    assert class_ami(split) == pytest.approx(0, abs=1e-9)  # one cluster tells nothing of three classes


def test_wrong_predictions_on_good_features_lose() -> None:
    clusters = torch.arange(40) % 4
    features = 9 * torch.eye(4)[clusters] + torch.from_numpy(np.random.default_rng(0).normal(size=(40, 4)))
    merged = clusters.clamp_max(2)  # one class swallows another
    assert 0.5 < class_ami(of_target(features, logits_of(merged, 4, 1.0))) < 0.95
    assert class_ami(of_target(features, logits_of(clusters, 4, 1.0))) == pytest.approx(1)
