"""What each setting of domain adaptation may see, as data, and the words in which batches are handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from torch import Tensor


class Setting(Enum):
    """The settings of domain adaptation; `RULES` says what each may see."""

    SOURCE_ONLY = "source_only"
    UNSUPERVISED = "unsupervised"
    SEMI_SUPERVISED = "semi_supervised"
    SOURCE_FREE = "source_free"
    TEST_TIME = "test_time"
    TRANSFER = "transfer"
    SELF_SUPERVISED = "self_supervised"
    TARGET_SUPERVISED = "target_supervised"
    JOINT_SUPERVISED = "joint_supervised"


class Reference(NamedTuple):
    """A run that bounds the scale a method is judged on."""

    method: str
    init: str | None = None  # None: the run's own
    same_shots: bool = False  # the run's own labelled target examples instead of all of them
    frozen: bool = False  # only where the backbone is frozen: it says nothing of a network drawn at random


@dataclass(frozen=True)
class Rule:
    """What a setting may see, and the references its methods are judged by.

    source: "none", "inputs" (labels only once training has ended) or "labelled"
    target: "none", "train" (unlabelled) or "stream" (the test examples, once, in order)
    shots: whether labelled target examples are seen
    """

    source: str
    target: str
    shots: bool
    lower: Reference | None
    upper: Reference | None
    baselines: tuple[Reference, ...] = ()  # cheap ones, which a method that is worth its cost beats; bound nothing
    init: str = "random"  # the default start of a method that starts from "init"


_SOURCE_ONLY = Reference("source_only")
_JOINT = Reference("joint_supervised")
_CHEAP = (
    Reference("adabn"),
    Reference("coral"),
    Reference("subspace_alignment"),
    Reference("source_probe", frozen=True),
)

RULES: dict[Setting, Rule] = {
    Setting.SOURCE_ONLY: Rule("labelled", "none", False, None, _JOINT),
    Setting.UNSUPERVISED: Rule("labelled", "train", False, _SOURCE_ONLY, _JOINT, baselines=_CHEAP),
    Setting.SEMI_SUPERVISED: Rule(
        "labelled", "train", True, Reference("joint_supervised", same_shots=True), _JOINT, baselines=_CHEAP
    ),
    Setting.SOURCE_FREE: Rule("none", "train", False, _SOURCE_ONLY, _JOINT, baselines=_CHEAP),
    Setting.TEST_TIME: Rule("none", "stream", False, _SOURCE_ONLY, _JOINT),
    Setting.TRANSFER: Rule(
        "none", "none", True, Reference("finetune", init="random", same_shots=True), None, init="source"
    ),
    Setting.SELF_SUPERVISED: Rule("inputs", "train", False, _SOURCE_ONLY, _JOINT),
    Setting.TARGET_SUPERVISED: Rule("none", "none", True, _SOURCE_ONLY, _JOINT),
    Setting.JOINT_SUPERVISED: Rule("labelled", "none", True, _SOURCE_ONLY, None),
}

TARGET_SUPERVISED_REFERENCE = Reference("target_supervised")  # what `references=all` adds


class Output(NamedTuple):
    """What a classifier says of a batch: features (B, feature_dim) after the bottleneck, logits (B, classes)."""

    features: Tensor
    logits: Tensor


class Examples:
    """A batch of examples without labels.

    Attributes: index (B,) rows in the split; domain (B,) source number, or -1 for the target.
    """

    def __init__(self, draw: Callable[[str, int], Tensor], index: Tensor, domain: Tensor):
        self._draw = draw
        self._draws = 0
        self._inputs: Tensor | None = None
        self.index = index
        self.domain = domain

    def __len__(self) -> int:
        return len(self.index)

    @property
    def inputs(self) -> Tensor:
        """The weak view (B, ...): for images float (B, C, H, W) in [0, 1]. The same tensor at each access."""
        if self._inputs is None:
            self._inputs = self._draw("weak", 0)
        return self._inputs

    def view(self, name: str) -> Tensor:
        """A new random view of the same examples: "weak", "strong" or "ssl"; each call draws anew."""
        self._draws += 1
        return self._draw(name, self._draws)


class Labelled(Examples):
    """A batch of examples with labels (B,) int64."""

    def __init__(self, draw: Callable[[str, int], Tensor], index: Tensor, domain: Tensor, labels: Tensor):
        super().__init__(draw, index, domain)
        self.labels = labels


class Teacher(NamedTuple):
    """A finished run that is asked about the target: `answer(batch.target)` is what it says of it, without gradient."""

    answer: Callable[[Examples], Output]
    feature_dim: int


class Batch(NamedTuple):
    """What one step sees. A part that the setting may not see is None; target never has labels.

    In the self-supervised setting the source part has no labels either.
    """

    source: Labelled
    target: Examples
    shots: Labelled


class Step(NamedTuple):
    """One optimiser step: the named terms whose sum is minimised, and the submodules that move (all if empty)."""

    losses: dict[str, Tensor]
    only: tuple[str, ...] = ()


class Progress(NamedTuple):
    """Where training stands, counted in batches: step of steps, fraction = step / steps in [0, 1), epoch."""

    step: int
    steps: int
    fraction: float
    epoch: int
