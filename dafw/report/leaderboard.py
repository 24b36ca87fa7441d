"""What the report shows, in words: rows of runs, groups that may be compared, and what is said of them.

`gather.collect` makes a `Board` from a folder of runs; `page.render` and `exports` show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dafw.setting import Setting

BOUNDS = {s.value for s in (Setting.SOURCE_ONLY, Setting.JOINT_SUPERVISED, Setting.TARGET_SUPERVISED)}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval; low and high are None where one seed gives none."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A method against another, paired by seed: difference of accuracies, p, "better" | "worse" | "undecided"."""

    against: str
    difference: Estimate
    p: float
    verdict: str
    test: str
    probability_of_improvement: float | None
    seeds: tuple[int, ...]
    adjusted_p: float | None = None  # Holm's, among the claims of one table; None where none is made


@dataclass(frozen=True)
class Row:
    """One method with one set of hyper-parameters in one group, over its seeds.

    accuracies: target test, a fraction a seed, in the order of `seeds`
    versus_lower, versus_baseline: against the lower reference and the best cheap baseline; None where there is none
    gap: the recovered gap with Fieller's interval, or None and the reason
    selected: mean target accuracy by "last", by each validator's name and by "oracle"; what was not measured is absent
    regrets: the oracle's accuracy minus the validator's, by its name; correlations: Spearman's rank correlation with
        target accuracy over the evaluation points of all seeds, of the validator's value turned so that higher is
        better; None where it is undefined
    bound: accuracy that Dis2 promises (mean over seeds), None where it was not computed
    stale: why its code or data is no longer today's; empty where they are
    notes: what could not be checked or is another version, which makes nothing stale
    """

    method: str
    setting: str
    hyperparameters: str  # what differs from the defaults, as typed: "method.weight=0.5"; "" for none
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: Estimate
    deviation: float | None
    versus_lower: Comparison | None
    versus_baseline: Comparison | None
    gap: Estimate | None
    gap_reason: str
    selected: dict[str, float]
    regrets: dict[str, float]
    correlations: dict[str, float | None]
    bound: float | None
    seconds: float
    total_seconds: float
    selection: str
    stale: tuple[str, ...]
    warnings: tuple[str, ...]
    folders: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether it bounds the scale (not adapted, or trained with all target labels) rather than adapts."""
        return self.setting in BOUNDS

    @property
    def is_honest(self) -> bool:
        """Whether no target label chose its checkpoint."""
        return self.selection != "oracle"


@dataclass(frozen=True)
class ValidatorScore:
    """A validator over the rows of adapting methods. regret: mean; correlation: mean over the rows that have one."""

    name: str
    rows: int
    regret: float
    correlation: float | None


@dataclass(frozen=True)
class Group:
    """Runs that may be compared: everything in `comparable` is equal. key: its hash.

    baseline: the best cheap baseline of the group and how it was picked, in words; "" for none
    validators: over the group's rows at their defaults, least regret first
    """

    key: str
    src: str
    tgt: str
    comparable: dict[str, Any]
    differs: str  # from the other groups of the same pair: "image size 28 (others 16), ..."; "" for the only group
    development: bool
    rows: tuple[Row, ...]
    between: tuple[Comparison, ...] = ()  # claims between methods, "a over b" in `against`, Holm-adjusted
    baseline: str = ""
    validators: tuple[ValidatorScore, ...] = ()


@dataclass(frozen=True)
class Across:
    """Methods over the pairs that all of them were run on: average rank, and Wilcoxon's p with Holm's adjustment."""

    pairs: tuple[str, ...]
    average_rank: dict[str, float]
    wilcoxon: tuple[tuple[str, str, float, float], ...]  # method, method, p, adjusted p
    reason: str = ""  # why there is nothing to say
    notes: tuple[str, ...] = ()  # which groups stand for their pair, which pairs and methods are left out


@dataclass(frozen=True)
class Sweep:
    """Runs of a group that differ in hyper-parameters: the values tried, and which is best by whom.

    points: one a run: {"method": ..., "seed": ..., "folder": ..., "accuracy": ..., "validators": {...}, and the keys}
    best: by a validator's name and by "oracle": {"words": "method.weight=0.5", "accuracy": .., "trials": n, "seeds": m}
        (trials: how many sets of values were tried)
    """

    group: str
    method: str
    keys: tuple[str, ...]
    points: tuple[dict[str, Any], ...]
    best: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Board:
    """All of a folder of runs.

    runs: every finished run's result.json, with its folder as it lies today
    others: folder, status and reason of runs that stand in no row: "failed", "unfinished" (still training, or killed),
        "superseded" by a newer run of the same words, "unmeasured" (without target test examples), "unreadable"
    development, report: the validators on development pairs, which may choose one, and on the others, which judge it
    notes: what the reader of the report should know of how it was made
    """

    out: Path
    groups: tuple[Group, ...]
    across: Across
    sweeps: tuple[Sweep, ...]
    runs: tuple[dict[str, Any], ...]
    others: tuple[dict[str, str], ...] = ()
    development: tuple[ValidatorScore, ...] = ()
    report: tuple[ValidatorScore, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def recommended(self) -> str:
        """The validator with the least regret on the development pairs; "" where none was measured there."""
        return self.development[0].name if self.development else ""
