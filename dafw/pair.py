"""A source and a target in one label space: splits, batches, and the only place that holds target labels back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dafw.classes import match
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.setting import RULES, Batch, Examples, Labelled, Setting, Teacher
from dafw.split import Split, generator, join, set_aside, to_float

if TYPE_CHECKING:
    from dafw.classifier import Classifier

View = Callable[[Tensor, Tensor, torch.Generator, bool, torch.device], Tensor]
TARGET, SHOTS = -1, -2  # the numbers of these domains in the seeds of draws; sources are 0, 1, ...


@dataclass(frozen=True)
class Protocol:
    """How a pair is matched and split.

    labels: "closed" keeps the shared classes, "partial" all of the source's, "source" too, without needing any shared
    source_validation, target_validation: fractions of the train splits set aside (the target's without its labels)
    transductive: train and test on the same target examples, all there are
    labels_per_class: labelled target examples of each class, None for all
    """

    labels: str = "closed"
    split_seed: int = 0
    source_validation: float = 0.1
    target_validation: float = 0.1
    transductive: bool = False
    labels_per_class: int | None = None


@dataclass(frozen=True)
class Data:
    """What a setting may see of whole splits; a part it may not see is None, labels it may not see are gone.

    start_model: a frozen copy of what the run starts from, with its own head
    teacher: the finished run in a folder, to be asked about the target whatever network it has
    """

    source: Split
    target: Split
    shots: Split
    classes: tuple[str, ...]
    start_model: Callable[[], Classifier]
    teacher: Callable[[Path], Teacher]


@dataclass
class Pair:
    """A matched and split pair of domains of one shape.

    Target labels enter `batch` and `data` only in the settings of `RULES` that see shots.
    """

    sources: Sequence[Domain]
    target: Domain
    setting: Setting
    seed: int
    protocol: Protocol
    views: Mapping[str, View]
    device: torch.device
    notes: list[str] = field(default_factory=list)
    modality: str = "image"  # what an example was before a frozen network made features of it, and its shape
    input_shape: tuple[int, ...] = ()
    fingerprints: dict[str, Any] = field(default_factory=dict)  # of the data as they were read, "src" and "tgt"
    weights: str | None = None  # the fingerprint of the frozen network whose features are the inputs

    def __post_init__(self) -> None:
        self.rule = RULES[self.setting]
        if self.setting is Setting.TRANSFER:  # each side keeps all its classes; only the target is seen
            self.classes = self.target.classes
            maps = [torch.arange(len(self.classes))]
        else:
            self.classes, *maps = self._match_classes()
        self.flip = self.target.flip and all(s.flip for s in self.sources)
        self.source_train: Any = None  # the source parts stay None in transfer, which sees the target alone
        self.source_validation: Split | None = None
        self.source_test: Split | None = None
        if self.setting is not Setting.TRANSFER:
            self._split_source(maps[:-1])
        self._split_target(maps[-1])
        self._draw_shots()
        self._count()
        self._order: dict[tuple[Any, ...], Tensor] = {}
        self._sizes: dict[int, dict[str, int]] = {}

    # ---- label spaces

    def _match_classes(self) -> tuple[Any, ...]:
        """The pair's class names, then for each domain a map from its labels to the pair's, -1 for dropped."""
        wanted = self.protocol.labels
        first = self.sources[0]
        shared = {i for i, _ in match(first.classes, self.target.classes)}
        if wanted == "closed":
            keep = [i for i in range(len(first.classes)) if i in shared]
        else:
            keep = list(range(len(first.classes)))
        for other in self.sources[1:]:
            common = {i for i, _ in match(first.classes, other.classes)}
            keep = [i for i in keep if i in common]
        classes = tuple(first.classes[i] for i in keep)
        reachable = shared.intersection(keep)
        if len(reachable) < 2 and wanted != "source":
            raise UsageError(
                f"{first.name} and {self.target.name} share {len(reachable)} classes; expected two or more. "
                f"{first.name} has {_some(first.classes)}; {self.target.name} has {_some(self.target.classes)}"
            )
        maps = []
        for domain in (*self.sources, self.target):
            to_pair = torch.full((len(domain.classes),), -1, dtype=torch.long)
            for own, new in match(domain.classes, classes):
                to_pair[own] = new
            maps.append(to_pair)
            self._note_dropped(domain, to_pair)
        return classes, *maps

    def _note_dropped(self, domain: Domain, to_pair: Tensor) -> None:
        dropped = [i for i in range(len(domain.classes)) if to_pair[i] < 0]
        if dropped:
            tables = [t for t in (domain.train, domain.test) if t is not None]
            lost = sum(int(torch.isin(t.labels, torch.tensor(dropped)).sum()) for t in tables)
            names = _some([domain.classes[i] for i in dropped])
            self.notes.append(f"{domain.name}: dropped {names}, not in the other domain ({lost} examples)")

    def _kept(self, domain: Domain, tables: Iterable[Table], to_pair: Tensor, number: int, part: str) -> list[Split]:
        """For each table the rows whose class the pair has; UsageError for a class without an example."""
        splits = []
        for table in tables:
            labels = to_pair[table.labels]
            rows = (labels >= 0).nonzero().squeeze(1)
            domains = torch.full((len(rows),), number)
            views = domain.modality == "features"
            name = f"{domain.name} {part}"
            splits.append(Split(table.inputs, rows, labels[rows], domains, self.device, name, views, table.originals))
        counted = torch.cat([s.labels for s in splits]).bincount(minlength=len(self.classes))
        for new in sorted(set(to_pair.tolist()) - {-1}):
            if counted[new] == 0:
                raise UsageError(
                    f"{domain.name}: class {self.classes[new]!r} has no {part} example; "
                    "expected at least one of every class; add some or remove the class"
                )
        return splits

    # ---- splits

    def _split_source(self, maps: Sequence[Tensor]) -> None:
        trains, validations, tests = [], [], []
        for number, (domain, to_pair) in enumerate(zip(self.sources, maps, strict=True)):
            assert domain.train is not None
            assert domain.test is not None
            (train,) = self._kept(domain, [domain.train], to_pair, number, "train")
            (test,) = self._kept(domain, [domain.test], to_pair, number, "test")
            train, validation = set_aside(
                train,
                self.protocol.source_validation,
                (self.protocol.split_seed, "source", number),
                f"{domain.name} train",
            )
            trains.append(train)
            validations.append(validation)
            tests.append(test)
        self.source_train = join(trains)
        aside = [v for v in validations if v is not None]
        self.source_validation = join(aside) if aside else None
        self.source_test = join(tests)

    def _split_target(self, to_pair: Tensor) -> None:
        protocol = self.protocol
        assert self.target.train is not None
        assert self.target.test is not None
        if protocol.transductive:
            together = _concatenated(self.target.train, self.target.test)
            (everything,) = self._kept(self.target, [together], to_pair, TARGET, "train and test")
            self.target_train, self.target_validation, self.target_test = everything, None, everything
            return
        (train,) = self._kept(self.target, [self.target.train], to_pair, TARGET, "train")
        (self.target_test,) = self._kept(self.target, [self.target.test], to_pair, TARGET, "test")
        self.target_train, self.target_validation = set_aside(
            train, protocol.target_validation, (protocol.split_seed, "target"), f"{self.target.name} train"
        )

    def _draw_shots(self) -> None:
        """k labelled target examples a class, drawn by the run's seed; their inputs stay in `target_train`."""
        self.shots: Any = None
        k = self.protocol.labels_per_class
        if not self.rule.shots:
            if k is not None:
                raise UsageError(
                    f"tgt.labels_per_class={k}: the setting {self.setting.value} sees no target labels; "
                    "leave it out or take a method of the settings transfer or semi_supervised"
                )
            return
        if self.protocol.transductive:
            raise UsageError(
                f"tgt.transductive=true: the setting {self.setting.value} would train on the labels it is tested on; "
                "expected tgt.transductive=false"
            )
        if k is None:
            self.shots = self.target_train
            return
        if k < 1:
            raise UsageError(f"tgt.labels_per_class={k}: expected 1 or more, or null for all labels")
        labels = self.target_train.labels
        chosen = []
        for number, name in enumerate(self.classes):
            of_class = (labels == number).nonzero().squeeze(1)
            if len(of_class) < k:
                raise UsageError(
                    f"tgt.labels_per_class={k}: class {name!r} of {self.target.name} has {len(of_class)} "
                    f"training examples; expected at most tgt.labels_per_class={len(of_class)}"
                )
            order = torch.randperm(len(of_class), generator=generator(self.seed, "shots", number))
            chosen.append(of_class[order[:k]])
        self.shots = self.target_train.take(torch.cat(chosen).sort().values, f"{self.target.name} shots")

    def _count(self) -> None:
        sizes = {
            "source train": self.source_train,
            "source validation": self.source_validation,
            "source test": self.source_test,
            "target train": self.target_train,
            "target validation": self.target_validation,
            "target test": self.target_test,
            "labelled target": self.shots,
        }
        self.counts = {name: len(split) for name, split in sizes.items() if split is not None}

    # ---- what training sees

    @property
    def stream(self) -> bool:
        return self.rule.target == "stream"

    def part_sizes(self, batch_size: int) -> dict[str, int]:
        """How many examples of each part a batch has; UsageError where a split that is not rationed has too few."""
        if batch_size in self._sizes:
            return self._sizes[batch_size]
        sizes: dict[str, int] = {}
        if self.rule.source != "none":
            count = len(self.sources)
            if batch_size < count:
                raise UsageError(f"train.batch_size={batch_size}: there are {count} sources; expected {count} or more")
            smallest = min(int((self.source_train.domains == n).sum()) for n in range(count))
            _check_size(batch_size, batch_size // count, smallest, "source training")
            sizes["source"] = batch_size // count * count
        if self.rule.target == "train":
            _check_size(batch_size, batch_size, len(self.target_train), "target training")
        if self.rule.target != "none":
            sizes["target"] = batch_size
        if self.shots is not None:
            if self.protocol.labels_per_class is None:
                _check_size(batch_size, batch_size, len(self.shots), "labelled target")
            sizes["shots"] = min(batch_size, len(self.shots))
        self._sizes[batch_size] = sizes  # only what was found to fit
        return sizes

    def batches(self, batch_size: int) -> int:
        """How many batches make one pass over the target, or over what is seen where it is not."""
        sizes = self.part_sizes(batch_size)
        if self.stream:
            return -(-len(self.target_test) // batch_size)
        split = self.target_train if "target" in sizes else self.source_train if "source" in sizes else self.shots
        return max(1, len(split) // next(sizes[p] for p in ("target", "source", "shots") if p in sizes))

    def batch(self, step: int, batch_size: int) -> Batch:
        """The batch of this step: a pure function of (seed, step, domain), whatever was drawn before."""
        sizes = self.part_sizes(batch_size)
        source: Any = None
        target: Any = None
        shots: Any = None
        if "source" in sizes:
            parts = []
            for number in range(len(self.sources)):
                own = (self.source_train.domains == number).nonzero().squeeze(1) if len(self.sources) > 1 else None
                length = len(self.source_train) if own is None else len(own)
                positions = self._positions(number, length, sizes["source"] // len(self.sources), step)
                parts.append(positions if own is None else own[positions])
            source = self._examples(
                self.source_train, torch.cat(parts), 0, step, labelled=self.rule.source == "labelled"
            )
        if "target" in sizes:
            if self.stream:
                target = self._stream_batch(step, batch_size)
            else:
                positions = self._positions(TARGET, len(self.target_train), batch_size, step)
                target = self._examples(self.target_train, positions, TARGET, step, labelled=False)
        if self.shots is not None:
            positions = self._positions(SHOTS, len(self.shots), sizes["shots"], step)
            shots = self._examples(self.shots, positions, SHOTS, step, labelled=True)
        return Batch(source, target, shots)

    def _positions(self, number: int, length: int, size: int, step: int) -> Tensor:
        """Rows of a split: a new order each pass, the incomplete last batch of a pass left out."""
        epoch, position = divmod(step, length // size)
        key = (number, epoch)
        if key not in self._order:
            self._order = {k: v for k, v in self._order.items() if k[0] != number}
            self._order[key] = torch.randperm(length, generator=generator(self.seed, "order", number, epoch))
        return self._order[key][position * size : (position + 1) * size]

    def _examples(self, split: Split, positions: Tensor, number: int, step: int, *, labelled: bool) -> Examples:
        rows = split.rows[positions].to(split.table.device)

        def draw(view: str, draw_number: int) -> Tensor:
            if view not in self.views:
                raise UsageError(f"no view {view!r} of these inputs; expected one of {', '.join(sorted(self.views))}")
            seeded = generator(self.seed, "view", number, step, view, draw_number)
            return self.views[view](split.table, rows, seeded, self.flip, self.device)

        index, domain = positions.to(self.device), split.domains[positions].to(self.device)
        if labelled:
            return Labelled(draw, index, domain, split.labels[positions].to(self.device))
        return Examples(draw, index, domain)

    def _stream_batch(self, step: int, batch_size: int) -> Examples:
        """The next test examples as they are, in an order fixed by the split seed (folders are sorted by class)."""
        key = ("stream", 0)
        if key not in self._order:
            seeded = generator(self.protocol.split_seed, "stream")
            self._order[key] = torch.randperm(len(self.target_test), generator=seeded)
        positions = self._order[key][step * batch_size : (step + 1) * batch_size]
        examples = self._examples(self.target_test, positions, TARGET, step, labelled=False)
        augmented, split = examples._draw, self.target_test

        def draw(view: str, draw_number: int) -> Tensor:
            if draw_number:
                return augmented(view, draw_number)
            return to_float(split.clean(positions))

        return Examples(draw, examples.index, examples.domain)

    def data(self, start_model: Callable[[], Classifier], teacher: Callable[[Path], Teacher]) -> Data:
        """The whole splits that the setting may see, without the labels it may not."""
        source: Any = None
        target: Any = None
        shots: Any = self.shots
        if self.rule.source != "none":  # "inputs": labels serve only the final linear classifier, in `finish`
            source = self.source_train
        if self.rule.target == "train":
            target = self.target_train.without_labels()
        return Data(source, target, shots, self.classes, start_model, teacher)


def _check_size(batch_size: int, size: int, available: int, part: str) -> None:
    if size < 1 or size > available:
        raise UsageError(
            f"train.batch_size={batch_size}: there are {available} {part} examples; "
            f"expected a batch of at most {available}, as in train.batch_size={max(1, min(available, 32))}"
        )


def _concatenated(train: Table, test: Table) -> Table:
    originals = None
    if train.originals is not None and test.originals is not None:
        originals = torch.cat([train.originals, test.originals])
    return Table(torch.cat([train.inputs, test.inputs]), torch.cat([train.labels, test.labels]), originals)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(str, names[:12]))
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"
