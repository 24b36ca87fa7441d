"""Why a method helped or harmed: calibration, entropies, domain distance, class centroids and batch-norm drift.

All of it looks back at a finished run, much of it with the target's test labels, and none of it chooses anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import optimize, special
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dafw.method import Method
from dafw.split import Split, generator

Array = NDArray[Any]

CALIBRATION_BINS = 15  # Guo et al. 2017, section 5
ENTROPY_BINS = 20
TEMPERATURES = (0.05, 20.0)  # the search's bounds; a source without a single mistake would want 0
MOST_INPUTS = 256  # of the batch-norm pass: a mean is then known to .06 of a channel's standard deviation
MOST_POINTS = 1000  # of each domain for the domain classifier: the error's standard deviation is then below .016


class Answers(NamedTuple):
    """What a finished run says of one split: features (N, D), logits (N, C), labels (N,) int64, on the CPU."""

    features: Tensor
    logits: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float((self.logits.argmax(1) == self.labels).double().mean())


def answers_of(method: Method, split: Split | None) -> Answers | None:
    """One forward pass over a split with its labels; None where there is none."""
    if split is None or not len(split):
        return None
    output = split.outputs(method)
    return Answers(output.features.cpu(), output.logits.cpu(), split.labels)


def some_inputs(split: Split | None) -> Tensor | None:
    """At most 256 inputs of a split, drawn by a fixed seed; None where there is none."""
    if split is None or not len(split):
        return None
    return split.clean(torch.randperm(len(split), generator=generator("diagnosis"))[:MOST_INPUTS])


def of_run(
    method: Method,
    classes: Sequence[str],
    source_validation: Answers | None,
    source_test: Answers | None,
    target_test: Answers,
    target_inputs: Tensor | None,
) -> dict[str, Any]:
    """What a run by itself shows, as plain numbers, lists and None; None where what it needs is not there.

    target_test: for a stream, the logits as they were answered. target_inputs (M, ...): unlabelled, for `drift`.
    """
    labels, logits = target_test.labels.numpy(), _numbers(target_test.logits)
    predicted = logits.argmax(1)
    return plain(
        {
            "calibration": calibration(logits, labels, source_validation),
            "predictions": {
                "examples": np.bincount(labels, minlength=len(classes)),
                "predicted": np.bincount(predicted, minlength=len(classes)),
            },
            "entropy": entropies(None if source_test is None else _numbers(source_test.logits), logits),
            "a_distance": None if source_test is None else a_distance(source_test.features, target_test.features),
            "centroids": None if source_test is None else centroids(source_test, target_test, classes),
            "drift": None if target_inputs is None else drift(method, target_inputs),
        }
    )


def plain(value: Any) -> Any:
    """Dicts, lists, numbers of six significant digits, and None for what is not finite."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _numbers(logits: Tensor) -> Array:
    return logits.double().numpy()


# ---- calibration


def calibration(logits: Array, labels: Array, source_validation: Answers | None) -> dict[str, Any]:
    """ECE, NLL and reliability curve on logits (N, C) and labels (N,), as they are and after temperature scaling.

    The temperature is fitted on source validation (Guo et al. 2017, section 4.2), since the target has no labels to
    fit it on: under a shift it may well repair nothing. "at_bound" says that it ran into the end of the search.
    """
    fitted = None
    if source_validation is not None:
        fitted = temperature(_numbers(source_validation.logits), source_validation.labels.numpy())
    return {
        "before": reliability(logits, labels),
        "after": None if fitted is None else reliability(logits / fitted, labels),
        "temperature": fitted,
        "at_bound": None if fitted is None else bool(np.isclose(fitted, TEMPERATURES, rtol=1e-3).any()),
    }


def reliability(logits: Array, labels: Array) -> dict[str, Any]:
    """ECE = sum_m |B_m| / N |acc(B_m) - conf(B_m)| over 15 bins ((m-1)/15, m/15] (Guo et al. 2017, eq. 1-3), the mean
    NLL in nats, mean confidence, accuracy, and each bin's confidence, accuracy (NaN where it is empty) and count."""
    probabilities = special.softmax(logits, axis=1)
    confidence, right = probabilities.max(1), logits.argmax(1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, CALIBRATION_BINS - 1)
    counts, confidences, hits = (
        np.bincount(bins, weights, minlength=CALIBRATION_BINS) for weights in (None, confidence, right)
    )
    filled = np.where(counts > 0, counts, np.nan)
    return {
        "ece": float(np.abs(hits - confidences).sum() / len(labels)),
        "nll": nll(logits, labels),
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "bins": {"confidence": confidences / filled, "accuracy": hits / filled, "count": counts},
    }


def nll(logits: Array, labels: Array) -> float:
    """Mean negative log-likelihood in nats."""
    return float(-special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def temperature(logits: Array, labels: Array) -> float | None:
    """T that minimises the NLL of logits / T over [.05, 20]; None where the NLL is not finite.

    It is convex in 1 / T, so the bounded search over log T finds its one minimum.
    """
    if not np.isfinite(nll(logits, labels)):
        return None

    def loss(log_temperature: float) -> float:
        return nll(logits / np.exp(log_temperature), labels)

    low, high = np.log(TEMPERATURES)
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x
    return float(np.exp(min((low, high, found), key=loss)))  # without a mistake the loss is flat near the lower bound


# ---- source and target side by side


def entropies(source: Array | None, target: Array) -> dict[str, Any]:
    """Histograms of the predictions' entropy in nats, 20 bins over [0, log C], and its means; of logits (N, C)."""
    top = math.log(target.shape[1])
    edges = np.linspace(0, top, ENTROPY_BINS + 1)
    found: dict[str, Any] = {"edges": edges, "source": None, "target": None, "source_mean": None, "target_mean": None}
    for name, logits in (("source", source), ("target", target)):
        if logits is not None:
            entropy = special.entr(special.softmax(logits, axis=1)).sum(1)
            found[name] = np.histogram(np.minimum(entropy, top), edges)[0]
            found[f"{name}_mean"] = float(entropy.mean())
    return found


def a_distance(source: Tensor, target: Tensor) -> float | None:
    """Proxy A-distance 2 (1 - 2 eps), at least 0, of features (M, D) and (N, D) (Ben-David et al. 2010, section 4).

    eps is the error of a linear domain classifier (logistic regression on standardised features), fitted on half of
    equally many examples of both domains and measured on the other half. 0: it cannot tell them apart; 2: always.
    None with less than four examples of a domain, or where a feature is not finite.
    """
    count = min(len(source), len(target), MOST_POINTS) // 2 * 2
    if count < 4 or not (torch.isfinite(source).all() and torch.isfinite(target).all()):
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = generator("a_distance")
    domains = [part[torch.randperm(len(part), generator=draw)[:count]].double().numpy() for part in (source, target)]
    is_target = np.repeat([0, 1], count // 2)
    fitted, held_out = (np.concatenate([part[half::2] for part in domains]) for half in (0, 1))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(fitted, is_target)
    error = float((classifier.predict(held_out) != is_target).mean())
    return max(0.0, 2 * (1 - 2 * error))


def centroids(source: Answers, target: Answers, classes: Sequence[str]) -> dict[str, Any]:
    """For each class, how far its target centroid is from its source centroid ("own") and from the nearest source
    centroid of another class ("other", "nearest" names it), Euclidean and as 1 - cosine.

    "astray": how many classes are nearer to another's. It uses the target's true labels, after the fact.
    """
    found: dict[str, Any] = {"uses_target_labels": True}
    here, there = (_means(part, len(classes)) for part in (source, target))
    norms = [np.linalg.norm(part, axis=1) for part in (here, there)]
    scale = np.outer(norms[1], norms[0])
    distances = {
        "euclidean": np.linalg.norm(there[:, None] - here[None], axis=2),
        "cosine": 1 - np.divide(there @ here.T, scale, out=np.full_like(scale, np.nan), where=scale > 0),
    }
    for name, distance in distances.items():  # (target class, source class)
        others = np.where(np.isnan(distance) | np.eye(len(classes), dtype=bool), np.inf, distance)
        own, other = np.diag(distance), others.min(1)
        found[name] = {
            "own": own,
            "other": other,
            "nearest": [classes[k] if np.isfinite(d) else None for k, d in zip(others.argmin(1), other, strict=True)],
            "astray": int((other < own).sum()),
        }
    return found


def _means(answers: Answers, classes: int) -> Array:
    """Mean feature of each class (C, D), NaN for a class without an example."""
    members = np.eye(classes)[answers.labels.numpy()]
    counts = members.sum(0)[:, None]
    means: Array = members.T @ answers.features.double().numpy() / np.where(counts > 0, counts, np.nan)
    return means


# ---- batch norm


def drift(method: Method, inputs: Tensor) -> dict[str, Any] | None:
    """How far the inputs of each batch norm on target examples (M, ...) are from its running statistics.

    mean_shift: mean over channels of |mean_target - running_mean| / sqrt(running_var + eps), in the layer's own units;
    log_variance_ratio: of |log((var_target + eps) / (running_var + eps))|. Layers in the order of the network, those
    that `predict` passes through. "mean_shift" of the whole is the mean over the layers. None without batch norm, or
    with less than two examples. One forward pass in eval mode.
    """
    shifts: dict[_BatchNorm, dict[str, float]] = {}
    norms = {
        module: name
        for name, module in method.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }

    def measure(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        shifts[norm] = _shift(norm, inputs[0])

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        if len(inputs) > 1:
            method.predict(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not shifts:
        return None
    layers = [{"layer": norms[norm], **shift} for norm, shift in shifts.items()]
    return {"mean_shift": float(np.mean([shift["mean_shift"] for shift in shifts.values()])), "layers": layers}


def _shift(norm: _BatchNorm, inputs: Tensor) -> dict[str, float]:
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    here, spread = torch.zeros_like(mean), torch.ones_like(variance)
    F.batch_norm(inputs, here, spread, training=True, momentum=1.0)  # writes the statistics of the inputs
    return {
        "mean_shift": float(((here - mean).abs() / (variance + norm.eps).sqrt()).mean()),
        "log_variance_ratio": float(((spread + norm.eps) / (variance + norm.eps)).log().abs().mean()),
    }
