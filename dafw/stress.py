"""What is done to a target domain to make a harder one of it: corruption, rotation, label shift, a fraction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafw.corruption import CORRUPTIONS, SEVERITIES, corrupted, rotated
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.registry import nearest
from dafw.split import generator, mixed_seed

MOST_SEVERE = SEVERITIES[-1]
FEW = 12  # classes: of more, only the smallest and the largest are counted in a note


@dataclass(frozen=True)
class Stress:
    """What is asked of a target.

    corruption, severity: a name of `CORRUPTIONS` and 1 to 5 (Hendrycks and Dietterich 2019, ICLR)
    rotation: degrees, counter-clockwise
    label_shift: the alpha of a Dirichlet distribution of the class proportions; the smaller, the further from the own
    fraction: the share of the train examples that stays
    """

    corruption: str | None = None
    severity: int = MOST_SEVERE
    rotation: float = 0.0
    label_shift: float | None = None
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.corruption is not None and self.corruption not in CORRUPTIONS:
            raise UsageError(f"unknown tgt.corruption={self.corruption}; {nearest(self.corruption, CORRUPTIONS)}")
        if self.severity not in SEVERITIES:
            raise UsageError(f"tgt.severity={self.severity}: expected a whole number from 1 to 5, as in tgt.severity=3")
        if not math.isfinite(self.rotation):
            raise UsageError(f"tgt.rotation={self.rotation}: expected degrees, as in tgt.rotation=30")
        if self.label_shift is not None and not 0 < self.label_shift < math.inf:
            raise UsageError(f"tgt.label_shift={self.label_shift}: expected more than 0, as in tgt.label_shift=1")
        if not 0 < self.fraction <= 1:
            raise UsageError(
                f"tgt.fraction={self.fraction}: expected more than 0 and at most 1, as in tgt.fraction=0.1"
            )

    @property
    def name(self) -> str:
        """What stands behind a domain's name in tables: "gaussian_noise3-shift0.5"; empty where nothing is asked."""
        return "-".join(
            [
                *([f"{self.corruption}{self.severity}"] if self.corruption is not None else []),
                *([f"rotation{self.rotation:g}"] if self.rotation else []),
                *([f"shift{self.label_shift:g}"] if self.label_shift is not None else []),
                *([f"fraction{self.fraction:g}"] if self.fraction != 1 else []),
            ]
        )


def stress_of(tgt: Mapping[str, Any]) -> Stress:
    """The stress that a config's node `tgt` asks for; severity null is 5. UsageError for a value that cannot be."""
    if tgt["severity"] is not None and tgt["corruption"] is None:
        raise UsageError(
            f"tgt.severity={tgt['severity']} without a corruption; "
            f"expected one too, as in tgt.corruption=gaussian_noise (or {', '.join(list(CORRUPTIONS)[1:])})"
        )
    severity = MOST_SEVERE if tgt["severity"] is None else tgt["severity"]
    return Stress(tgt["corruption"], severity, tgt["rotation"], tgt["label_shift"], tgt["fraction"])


def stressed(domain: Domain, stress: Stress, split_seed: int, notes: list[str]) -> Domain:
    """The domain made of this one, by the split seed alone; itself where nothing is asked. Notes what was changed.

    First it is chosen which examples stay, then their images are rotated, then corrupted: a scene is turned before
    the camera, whose noise, blur and compression come last. In the other order the rotation would smooth the noise,
    and leave its black corners clean.

    Raises UsageError for images asked to change in a domain that has none, and for a fraction without a class.
    """
    if not stress.name:
        return domain
    if (stress.corruption is not None or stress.rotation) and domain.modality != "image":
        key = "corruption" if stress.corruption is not None else "rotation"
        raise UsageError(
            f"tgt.{key}={getattr(stress, key)}: {domain.name} has no images but {domain.modality}; "
            "expected a target of images, or tgt.label_shift and tgt.fraction alone"
        )
    assert domain.train is not None
    assert domain.test is not None
    made = domain
    if stress.fraction != 1:
        made = _reduced(made, stress.fraction, split_seed, notes)
    if stress.label_shift is not None:
        own = domain.train.labels.bincount(minlength=len(domain.classes)).numpy()  # so that test is any fraction's
        proportions = drawn_proportions(own, stress.label_shift, split_seed)
        made = _label_shifted(made, proportions, split_seed, notes)
    if stress.rotation:
        made = _with_inputs(made, lambda images, _: rotated(images, stress.rotation))
        notes.append(f"{domain.name}: rotated by {stress.rotation:g} degrees (counter-clockwise, black outside)")
    if stress.corruption is not None:
        corruption, severity = stress.corruption, stress.severity
        made = _with_inputs(
            made,
            lambda images, part: corrupted(images, corruption, severity, generator(split_seed, "corruption", part)),
        )
        notes.append(f"{domain.name}: {corruption} of severity {severity} (Hendrycks and Dietterich 2019)")
    return replace(made, name=f"{domain.name}-{stress.name}")


def _with_inputs(domain: Domain, change: Callable[[Tensor, str], Tensor]) -> Domain:
    assert domain.train is not None
    assert domain.test is not None
    train, test = domain.train, domain.test
    return domain.with_tables(
        replace(train, inputs=change(train.inputs, "train")), replace(test, inputs=change(test.inputs, "test"))
    )


# ---- which examples stay


def _label_shifted(domain: Domain, proportions: np.ndarray[Any, Any], split_seed: int, notes: list[str]) -> Domain:
    """Train and test drawn to the same new class proportions (C,), as RLSbench does (Garg et al. 2023, ICML).

    Examples are drawn without replacement, as many as the proportions allow: the class that is asked for most, for
    what it has, keeps all of its own. Ours is that each class keeps at least one.
    """
    assert domain.train is not None
    assert domain.test is not None
    tables = []
    for part, table in (("train", domain.train), ("test", domain.test)):
        kept = counts_to_keep(table.labels.bincount(minlength=len(proportions)).numpy(), proportions)
        rows = []
        for label, number in enumerate(kept.tolist()):
            own = (table.labels == label).nonzero().squeeze(1)
            order = torch.randperm(len(own), generator=generator(split_seed, "label shift", part, label))
            rows.append(own[order[:number]])
        tables.append(table.rows(torch.cat(rows).sort().values))
    train, test = tables
    notes += [
        f"{domain.name}: labels shifted, {len(train)} of {len(domain.train)} train and {len(test)} of "
        f"{len(domain.test)} test examples kept",
        f"target train per class: {per_class(domain, train)}",
        f"target test per class: {per_class(domain, test)}",
    ]
    return domain.with_tables(train, test)


def drawn_proportions(counts: np.ndarray[Any, Any], alpha: float, split_seed: int) -> np.ndarray[Any, Any]:
    """Class proportions (C,) ~ Dirichlet(alpha * C * p), p those of `counts` (C,); 0 where there is no example.

    As in RLSbench's code; a large alpha leaves p as it is.
    """
    present = counts > 0
    concentration = alpha * present.sum() * counts[present] / counts.sum()
    proportions = np.zeros(len(counts))
    proportions[present] = np.random.default_rng(mixed_seed(split_seed, "label shift")).dirichlet(concentration)
    return proportions


def counts_to_keep(counts: np.ndarray[Any, Any], proportions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The largest counts (C,) of these proportions that do not exceed `counts`, rounded down, at least one each."""
    asked = (proportions > 0) & (counts > 0)
    total = (counts[asked] / proportions[asked]).min()
    wanted = np.floor(total * proportions + 1e-9)  # the class that sets the total keeps all, whatever the last bit
    return np.minimum(counts, np.maximum(wanted, 1)).astype(np.int64)


def per_class(domain: Domain, table: Table) -> str:
    """ "zero 35, one 120, ...", of many classes the smallest and the largest."""
    counts = table.labels.bincount(minlength=len(domain.classes)).tolist()
    if len(counts) <= FEW:
        return ", ".join(f"{name} {count}" for name, count in zip(domain.classes, counts, strict=True))
    least, most = (domain.classes[counts.index(pick(counts))] for pick in (min, max))
    return f"{least} {min(counts)} (smallest) to {most} {max(counts)} (largest) of {len(counts)} classes"


def _reduced(domain: Domain, fraction: float, split_seed: int, notes: list[str]) -> Domain:
    """A random part of the train examples, drawn without a look at labels; a larger fraction holds a smaller one's."""
    assert domain.train is not None
    assert domain.test is not None
    labels = domain.train.labels
    order = torch.randperm(len(labels), generator=generator(split_seed, "fraction"))
    count = round(fraction * len(labels))
    classes, first = np.unique(labels[order].numpy(), return_index=True)
    if count <= first.max():
        least = math.ceil(10_000 * (int(first.max()) + 1) / len(labels)) / 10_000
        lost = domain.classes[classes[first.argmax()]]
        raise UsageError(
            f"tgt.fraction={fraction:g}: no train example of class {lost!r} of {domain.name} would be left; "
            f"expected tgt.fraction={least:g} or more"
        )
    notes.append(f"{domain.name}: {count} of {len(labels)} train examples kept, test whole")
    return domain.with_tables(domain.train.rows(order[:count].sort().values), domain.test)
