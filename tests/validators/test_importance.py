"""Density ratios and the two risks they weight, against plain NumPy and on shifts whose ratio is known."""

from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch
from made_evidence import evidence, random_evidence, shuffled, softmax, three_models

from dafw import importance
from dafw.evidence import Evidence
from dafw.importance import importance_weights
from dafw.setting import Output
from dafw.validators.dev import deep_embedded_validation
from dafw.validators.iwv import importance_weighted_validation


def slow_weights(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Newton's method for one regression a fold, each on its own rows."""
    count, width = source.shape
    both = np.concatenate([source, target])
    source, target = (source - both.mean(0)) / both.std(0), (target - both.mean(0)) / both.std(0)
    fold = np.random.default_rng(0).permutation(count) % min(5, count)
    weights = np.zeros(count)
    for number in set(fold):
        rows = np.concatenate([source[fold != number], target])
        x = np.hstack([rows, np.ones((len(rows), 1))])
        y = np.repeat([0.0, 1.0], [(fold != number).sum(), len(target)])
        penalty = np.diag([float(width)] * width + [0.0])
        beta = np.zeros(width + 1)
        for _ in range(50):
            p = 1 / (1 + np.exp(-x @ beta))
            beta -= np.linalg.solve((x.T * (p * (1 - p))) @ x + penalty, x.T @ (p - y) + penalty @ beta)
        for i in np.flatnonzero(fold == number):
            p = 1 / (1 + np.exp(-(source[i] @ beta[:-1] + beta[-1])))
            weights[i] = (fold != number).sum() / len(target) * p / (1 - p)
    return weights


def losses(seen: Evidence) -> np.ndarray:
    p = softmax(seen.source.logits)
    return np.array([-np.log(p[i, y]) for i, y in enumerate(seen.source_labels.tolist())])


def slow_iwv(seen: Evidence, weights: np.ndarray) -> float:
    return sum(w * loss for w, loss in zip(weights, losses(seen), strict=True)) / len(weights)


def slow_dev(seen: Evidence, weights: np.ndarray) -> float:
    weighted = weights * losses(seen)
    n = len(weights)
    covariance = sum((a - weighted.mean()) * (b - weights.mean()) for a, b in zip(weighted, weights, strict=True)) / (
        n - 1
    )
    variance = sum((b - weights.mean()) ** 2 for b in weights) / (n - 1)
    eta = -covariance / variance
    return float(weighted.mean() + eta * weights.mean() - eta)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_and_risks_equal_plain_newton_fold_by_fold(seed: int) -> None:
    seen = random_evidence(seed)
    weights = slow_weights(seen.source.features.double().numpy(), seen.target.features.double().numpy())
    assert weights.std() > 0.1
    found = importance_weights(seen.source.features, seen.target.features)
    np.testing.assert_allclose(found.numpy(), weights, atol=1e-6)
    assert importance_weighted_validation(seen) == pytest.approx(slow_iwv(seen, weights), abs=1e-6)
    assert deep_embedded_validation(seen) == pytest.approx(slow_dev(seen, weights), abs=1e-6)


def test_the_order_of_target_rows_does_not_matter_and_the_folds_hardly() -> None:
    seen = random_evidence(source=400, target=300)
    source, target = seen.source.features, seen.target.features
    weights = importance_weights(source, target)
    torch.testing.assert_close(importance_weights(source, target.flip(0)), weights, atol=1e-6, rtol=0)
    assert importance_weighted_validation(shuffled(seen)) == pytest.approx(
        importance_weighted_validation(seen), rel=0.1
    )


def test_a_known_ratio_is_found() -> None:
    """Unit normals a distance of 1 apart: the log ratio is x - 1/2."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(3000, 1, generator=generator), torch.randn(2000, 1, generator=generator) + 1
    weights = importance_weights(source, target)
    expected = torch.exp(source[:, 0].double() - 0.5)
    assert weights.mean() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(weights.log(), expected.log())[0, 1] > 0.99
    assert (weights / expected).log().abs().mean() < 0.1


def test_no_weight_comes_from_a_classifier_that_saw_its_example() -> None:
    """A row that only looks like the target: learnt as source it would lower its own weight, and moving it does not."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(30, 3, generator=generator), torch.randn(30, 3, generator=generator) + 1.0
    fold = np.random.default_rng(0).permutation(30) % 5
    mates = [i for i in range(1, 30) if fold[i] == fold[0]]
    weights = importance_weights(source, target)
    twin = source.clone()
    twin[mates[0]] = source[0]  # two examples of one fold in one place
    twins = importance_weights(twin, target)
    assert twins[mates[0]] == pytest.approx(float(twins[0]), abs=1e-9)  # told apart by nothing, so by no classifier
    assert not torch.equal(twins, weights)


def test_no_shift_gives_weights_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(800, 4, generator=generator)
    weights = importance_weights(features[:400], features[400:])
    assert (weights - 1).abs().mean() < 0.3
    assert weights.mean() == pytest.approx(1, abs=0.05)


def shifted_risks(wrong_where_target_is: bool) -> Evidence:
    """A source in two places, the target in the second; the model errs in the one or the other, as often."""
    generator = torch.Generator().manual_seed(0)
    place = torch.arange(200) % 2
    features = 3 * place[:, None] + torch.randn(200, 2, generator=generator)
    target = 3 + torch.randn(100, 2, generator=generator)
    right = (place == 0) == wrong_where_target_is
    logits = torch.stack([torch.where(right, 3.0, -3.0), torch.zeros(200)], 1)
    return evidence(Output(features, logits), torch.zeros(200, dtype=torch.long), Output(target, torch.zeros(100, 2)))


@pytest.mark.parametrize("validator", [importance_weighted_validation, deep_embedded_validation])
def test_errors_count_where_the_target_is(validator: Any) -> None:
    worse, better = shifted_risks(True), shifted_risks(False)
    assert losses(worse).mean() == pytest.approx(losses(better).mean())  # the source alone cannot tell
    assert not validator.higher_is_better
    assert validator(better) < validator(worse) / 4


@pytest.mark.parametrize("validator", [importance_weighted_validation, deep_embedded_validation])
def test_the_right_model_ranks_first(validator: Any) -> None:
    models = three_models()
    assert min(models, key=lambda name: validator(models[name])) == "right"


def test_the_control_variate_lowers_the_variance() -> None:
    """Over many draws of one source and target, both estimate the same risk and DEV scatters less (its purpose)."""

    def estimates(seed: int) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(seed)
        source, target = torch.randn(150, 2, generator=generator), torch.randn(150, 2, generator=generator) + 0.8
        logits = torch.stack([0.3 * torch.randn(150, generator=generator), torch.zeros(150)], 1)
        seen = evidence(Output(source, logits), torch.zeros(150, dtype=torch.long), Output(target, torch.zeros(150, 2)))
        return importance_weighted_validation(seen), deep_embedded_validation(seen)

    plain, controlled = np.array([estimates(seed) for seed in range(30)]).T
    assert controlled.mean() == pytest.approx(plain.mean(), abs=0.02)
    assert controlled.std() < 0.6 * plain.std()


def test_features_that_never_change_leave_every_weight_at_one() -> None:
    seen = random_evidence()
    constant = [Output(torch.full_like(part.features, 0.1), part.logits) for part in (seen.source, seen.target)]
    same = evidence(constant[0], seen.source_labels, constant[1])
    torch.testing.assert_close(
        importance_weights(constant[0].features, constant[1].features), torch.ones(41, dtype=torch.float64)
    )
    assert importance_weighted_validation(same) == pytest.approx(losses(seen).mean())
    assert deep_embedded_validation(same) == pytest.approx(losses(seen).mean())


def test_no_weight_exceeds_the_count_of_source_examples() -> None:
    """A source example amid the target, where the regression that did not see it has no other one."""
    source = torch.tensor([[0.0], [0.1], [0.2], [5.0]])
    target = 5 + 0.1 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    uncapped = slow_weights(source.double().numpy(), target.double().numpy())
    assert uncapped[3] > 4
    weights = importance_weights(source, target)
    assert weights[3] == pytest.approx(4)
    np.testing.assert_allclose(weights[:3].numpy(), uncapped[:3], atol=1e-6)


def test_the_regressions_wake_no_threads_of_numpy_and_leave_them_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    within: list[int] = []
    fit = importance.fit_log_odds

    def watched(*asked: Any) -> Any:
        within.extend(threads())
        return fit(*asked)

    monkeypatch.setattr(importance, "fit_log_odds", watched)
    seen = random_evidence(source=20, target=20)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        importance_weights(seen.source.features, seen.target.features)
        assert threads() == before
    assert within
    assert set(within) == {1}
