"""Numbers as the page shows them: accuracies in per cent, differences in points, a dash for what does not exist."""

from __future__ import annotations

import json
import math
from typing import Any

from dafw.console import MISSING
from dafw.evaluation import LEVEL
from dafw.report.leaderboard import Comparison, Estimate

MINUS = "\N{MINUS SIGN}"


def exists(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent(value: float | None) -> str:
    """0.8876 → 88.8"""
    return f"{100 * value:.1f}".replace("-", MINUS) if value is not None and exists(value) else MISSING


def points(value: float | None) -> str:
    """0.0312 → +3.1"""
    return f"{100 * value:+.1f}".replace("-", MINUS) if value is not None and exists(value) else MISSING


def decimal(value: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", MINUS) if value is not None and exists(value) else MISSING


def seconds(value: float | None) -> str:
    """9.47 → 9.5, 1234.5 → 1,234"""
    if value is None or not exists(value):
        return MISSING
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def percent_interval(estimate: Estimate) -> str:
    return _interval(estimate, percent)


def points_interval(estimate: Estimate) -> str:
    return _interval(estimate, points)


def decimal_interval(estimate: Estimate) -> str:
    return _interval(estimate, decimal)


def _interval(estimate: Estimate, form: Any) -> str:
    """[low, high], or nothing where one seed gives none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{form(estimate.low)}, {form(estimate.high)}]"


def verdict(word: str) -> str:
    """Of a method against its reference."""
    return "negative transfer" if word == "worse" else word


def claimed(claim: Comparison) -> str:
    """Of a claim between methods: only the adjusted p decides."""
    p = claim.p if claim.adjusted_p is None else claim.adjusted_p
    return claim.verdict if p < LEVEL else "undecided"


def value(given: Any) -> str:
    """Any value of a run's record, on one line."""
    if given is None or given == "":
        return MISSING
    if isinstance(given, bool):
        return "yes" if given else "no"
    if isinstance(given, float):
        return f"{given:.4g}"
    if isinstance(given, list | tuple):
        return ", ".join(map(value, given)) or MISSING
    if isinstance(given, dict):
        return "; ".join(f"{name}: {value(item)}" for name, item in given.items()) or MISSING
    return str(given)


def typed(config: Any, key: str = "") -> list[str]:
    """A nested config as it is typed: `train.steps=500`, a line each."""
    if isinstance(config, dict) and config:
        return [line for name, item in config.items() for line in typed(item, f"{key}.{name}" if key else str(name))]
    return [f"{key}={config if isinstance(config, str) else json.dumps(config)}"]
