"""Warnings in words: what was seen in a run's numbers, what it may mean, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

# Where a threshold says "tried", it was looked at on runs of source_only, adabn, dann and joint_supervised on
# synth→digits, mnist→usps, usps→mnist, mnist→mnistm, svhn→mnist, Office-31 amazon→webcam and PACS photo→sketch.
NEVER_PREDICTED_EXAMPLES = 5  # a class that is right half of the time is missed in five of five with p = .03
MOST_EXCESS = 0.15  # of all predictions, by one class; tried: below .08 where accuracy is above .5, .11 to .87 below
DISCRIMINATOR_LINES = 10  # fewer logged accuracies, each of one batch, say nothing
WON = 0.95  # mean of the last third; at equilibrium it is .5 (Goodfellow et al. 2014, proposition 1); tried: below .67
LOST = 0.55  # of every tenth of training; tried: healthy runs reach .66 or more at first, one that cannot learn .505
DRIFT = 0.2  # of a channel's deviation; tried: .02 to .13 on the source itself; adabn won 6 to 24 points from .23 on
SOURCE_GIVEN_UP = 0.05  # of accuracy; tried: dann costs up to .02 where it helps, adabn .08 and .22 on MNIST's pairs
ECE = 0.15  # Guo et al. 2017, table 1: .01 to .17 without a shift; tried: below .14 where accuracy is above .5
MOST_NAMES = 5  # classes named in one line


def warnings(result: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line each, none for a healthy run.

    result: what result.json holds; its "diagnosis" is that of `diagnosis.of_run`, with the key "against_lower" for what
    `class_changes.against` found, or None. metrics: the lines of metrics.jsonl.
    """
    found = result.get("diagnosis") or {}
    return list(
        chain(
            negative_transfer(result),
            collapse(found.get("predictions"), result["classes"], gentler(result)),
            discriminator(metrics, found.get("a_distance")),
            batch_norm_drift(found.get("drift")),
            source_given_up((found.get("against_lower") or {}).get("source"), gentler(result)),
            bad_calibration(found.get("calibration")),
        )
    )


def gentler(result: Mapping[str, Any]) -> str:
    """What this method has for adapting less."""
    method = (result.get("config") or {}).get("method") or {}
    ways = [f"a smaller method.{name}" for name in method if name.endswith("weight")]
    return ", ".join(ways[:1] + (["fewer train.steps"] if result["steps"] else [])) or "another method"


def negative_transfer(result: Mapping[str, Any]) -> Iterator[str]:
    versus = result.get("versus_lower")
    if not versus or versus["verdict"] != "worse":
        return
    rows = ((result.get("diagnosis") or {}).get("against_lower") or {}).get("per_class") or []
    harmed = [row for row in rows[::-1] if row["change"] < 0]
    words = [f"{row['class']!r} ({row['lower']:.2f} to {row['accuracy']:.2f})" for row in harmed]
    lower = (result.get("references") or {}).get("lower") or {"method": "its lower reference"}
    yield (
        f"negative transfer: {100 * versus['difference']:+.1f} points against {lower['method']} (p = {versus['p']:.2g})"
        + (f", most of all on {_some(words, 3)}" if words else "")
        + "; adapting may have moved target classes onto wrong ones; "
        f"try {gentler(result)}, or what method=adabn gives"
    )


def collapse(predictions: Mapping[str, Any] | None, classes: Sequence[str], remedy: str) -> Iterator[str]:
    """Classes that are never predicted, and one that swallows others."""
    if predictions is None:
        return
    counted = list(zip(classes, predictions["examples"], predictions["predicted"], strict=True))
    total = sum(predictions["examples"])
    missed = {repr(name): n for name, n, claimed in counted if n >= NEVER_PREDICTED_EXAMPLES and not claimed}
    if missed:
        yield (
            f"collapsed predictions: never predicted: {_some(list(missed), MOST_NAMES)}, {len(missed)} of "
            f"{len(classes)} classes, though {sum(missed.values())} of {total} target test examples are theirs; "
            f"classes may have been merged; try {remedy}, or a method that keeps predictions diverse (mcc, shot)"
        )
    name, examples, claimed = max(counted, key=lambda row: row[2] - row[1])
    if claimed - examples > MOST_EXCESS * total:
        yield (
            f"near-collapse: {name!r} is predicted for {claimed} of {total} target test examples and is true of "
            f"{examples}; it swallows other classes; try {remedy}, or a method that keeps predictions diverse "
            "(mcc, shot)"
        )


def discriminator(metrics: Sequence[Mapping[str, Any]], a_distance: float | None) -> Iterator[str]:
    """Won to the end, or lost from the start; half right at the end alone is what a method wants."""
    logged = [line["discriminator_accuracy"] for line in metrics if line.get("discriminator_accuracy") is not None]
    if len(logged) < DISCRIMINATOR_LINES:
        return
    last = fmean(logged[-(len(logged) // 3) :])
    apart = "" if a_distance is None else f" (proxy A-distance of the final features {a_distance:.2f} of 2)"
    if last > WON:
        yield (
            f"discriminator won: it is right {last:.2f} of the time over the last third of training{apart}; the "
            "features of the domains stay apart and its gradient vanishes; try a larger method.weight, a smaller "
            "train.lr, or a smaller discriminator"
        )
    tenths = [logged[len(logged) * i // 10 : len(logged) * (i + 1) // 10] for i in range(10)]
    best = max(map(fmean, tenths))
    if best < LOST:
        yield (
            f"discriminator lost: it is right at most {best:.2f} of the time in every tenth of training, from the "
            f"start{apart}; it never learnt, or found nothing to learn, so its gradient says nothing; try a larger "
            "train.lr, a larger discriminator, or a method.weight above 0"
        )


def batch_norm_drift(drift: Mapping[str, Any] | None) -> Iterator[str]:
    if drift is None or drift["mean_shift"] is None or drift["mean_shift"] <= DRIFT:
        return
    worst = max(drift["layers"], key=lambda layer: layer["mean_shift"])
    yield (
        f"target batch-norm drift: on target inputs the channel means are {drift['mean_shift']:.2f} standard "
        f"deviations from the running ones (mean over {len(drift['layers'])} batch norms; most in {worst['layer']}: "
        f"{worst['mean_shift']:.2f}); the network normalises the target by another domain's statistics; "
        "look at method=adabn, or train with target batches"
    )


def source_given_up(source: Mapping[str, float] | None, remedy: str) -> Iterator[str]:
    if source is None or source["change"] >= -SOURCE_GIVEN_UP:
        return
    yield (
        f"source accuracy given up: {source['accuracy']:.3f} on source test, {source['lower']:.3f} for the lower "
        "reference; the network no longer serves the source, and what told classes apart may be lost with it; "
        f"try {remedy}, or keep the lower reference's network for the source"
    )


def bad_calibration(calibration: Mapping[str, Any] | None) -> Iterator[str]:
    if calibration is None or calibration["before"]["ece"] is None or calibration["before"]["ece"] <= ECE:
        return
    before, after = calibration["before"], calibration["after"]
    word = "over" if before["confidence"] > before["accuracy"] else "under"
    scaled = "" if after is None else f", {after['ece']:.2f} after temperature scaling on source validation"
    yield (
        f"bad calibration: expected calibration error {before['ece']:.2f} on target test{scaled}, mean confidence "
        f"{before['confidence']:.2f} at accuracy {before['accuracy']:.2f}; the network is {word}confident, so its "
        "probabilities and pseudo-labels mislead; choose nothing by confidence, or try fewer train.steps or a larger "
        "train.weight_decay"
    )


def _some(names: Sequence[str], most: int) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
