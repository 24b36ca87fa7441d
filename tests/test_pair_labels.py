"""Shots and label spaces."""

from typing import Any

import pytest
import torch
from test_pair import ABC, CPU, domain, pair, rows_of, table, unmoved
from torch import Tensor

from dafw.datasets.cifar10 import CLASSES as CIFAR10
from dafw.datasets.stl10 import CLASSES as STL10
from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.pair import Pair, Protocol
from dafw.setting import RULES, Setting

# ---- shots


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("setting", [s for s in Setting if RULES[s].shots], ids=lambda s: s.value)
def test_shots_are_k_of_each_class_from_target_train(setting, k):
    given = pair(setting, labels_per_class=k)
    assert given.shots.labels.bincount().tolist() == [k, k, k]
    assert given.shots.labels.tolist() == (given.shots.rows % 3).tolist()
    assert set(given.shots.rows.tolist()) <= set(given.target_train.rows.tolist())
    assert given.counts["labelled target"] == 3 * k
    assert given.data(lambda: None, lambda _: None).shots is given.shots


def test_shots_are_drawn_by_the_runs_seed():
    def rows(**changed: Any) -> list[int]:
        return pair(Setting.SEMI_SUPERVISED, labels_per_class=3, **changed).shots.rows.tolist()

    assert rows() == rows()
    assert rows(seed=0) != rows(seed=1)
    # and are the same for every method of the seed
    assert rows() == pair(Setting.TRANSFER, labels_per_class=3).shots.rows.tolist()


def test_shots_stay_among_the_unlabelled():
    given = pair(Setting.SEMI_SUPERVISED, labels_per_class=3)
    assert len(given.target_train) == 45
    seen = {i for step in range(5) for i in rows_of(given.batch(step, 9).target.inputs)}
    assert set(given.shots.rows.tolist()) <= seen


def test_all_labels_where_no_number_is_given():
    given = pair(Setting.TRANSFER)
    assert given.shots.rows.tolist() == given.target_train.rows.tolist()


def test_of_few_shots_every_batch_holds_all():
    given = pair(Setting.SEMI_SUPERVISED, labels_per_class=2)
    assert given.part_sizes(16) == {"source": 16, "target": 16, "shots": 6}
    orders = [given.batch(step, 16).shots.index.tolist() for step in range(4)]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert len(pair(Setting.SEMI_SUPERVISED, labels_per_class=10).batch(0, 16).shots) == 16


def test_more_shots_than_there_are():
    with pytest.raises(UsageError) as error:
        pair(Setting.TRANSFER, labels_per_class=17)
    least = pair().target_train.labels.bincount()
    smallest = next(n for n in range(3) if least[n] < 17)
    assert str(error.value) == (
        f"tgt.labels_per_class=17: class {ABC[smallest]!r} of two has {least[smallest]} training examples; "
        f"expected at most tgt.labels_per_class={least[smallest]}"
    )


@pytest.mark.parametrize("k", [0, -1])
def test_no_shots_at_all(k):
    with pytest.raises(UsageError, match=rf"tgt\.labels_per_class={k}: expected 1 or more, or null for all labels"):
        pair(Setting.TRANSFER, labels_per_class=k)


@pytest.mark.parametrize("setting", [s for s in Setting if not RULES[s].shots], ids=lambda s: s.value)
def test_shots_in_a_setting_that_has_none(setting):
    with pytest.raises(UsageError) as error:
        pair(setting, labels_per_class=5)
    line = str(error.value)
    assert f"tgt.labels_per_class=5: the setting {setting.value} sees no target labels" in line
    assert "leave it out or take a method of the settings transfer or semi_supervised" in line


# ---- label spaces


def test_cifar10_and_stl10_meet_in_nine_classes():
    cifar = domain("cifar10", 100, 50, CIFAR10)
    stl = domain("stl10", 80, 40, STL10)
    given = pair(sources=[cifar], target=stl, source_validation=0.0, target_validation=0.0)
    assert given.classes == tuple(c for c in CIFAR10 if c != "frog")
    assert given.counts == {"source train": 90, "source test": 45, "target train": 72, "target test": 36}
    assert given.notes == [
        "cifar10: dropped frog, not in the other domain (15 examples)",
        "stl10: dropped monkey, not in the other domain (12 examples)",
    ]
    names = {"car": "automobile"}
    for split, own in ((given.source_train, CIFAR10), (given.target_train, STL10), (given.target_test, STL10)):
        for row, label in zip(split.rows.tolist(), split.labels.tolist(), strict=True):
            name = own[row % 10]
            assert given.classes[label] == names.get(name, name)


def test_closed_drops_on_both_sides_and_partial_on_the_targets_alone():
    one, two = domain("one", 80, 40, "abcd"), domain("two", 60, 30, "zba")
    closed = pair(sources=[one], target=two, target_validation=0.0)
    assert closed.classes == ("a", "b")
    assert closed.notes[0] == "one: dropped c, d, not in the other domain (60 examples)"
    partial = pair(sources=[one], target=two, labels="partial", target_validation=0.0)
    assert partial.classes == ("a", "b", "c", "d")
    assert partial.notes == ["two: dropped z, not in the other domain (30 examples)"]
    assert partial.source_test.labels.bincount().tolist() == [10, 10, 10, 10]
    for given in (closed, partial):
        assert given.target_train.labels.bincount().tolist() == [20, 20]
        # "a" is the target's third class
        assert [r % 3 for r in given.target_train.rows[given.target_train.labels == 0].tolist()] == [2] * 20


def test_nothing_is_noted_where_nothing_is_dropped():
    assert pair().notes == []


def test_source_label_space_needs_no_shared_class():
    one, two = domain("one", 60, 30, "abc"), domain("two", 60, 30, "xyz")
    given = pair(Setting.SOURCE_ONLY, sources=[one], target=two, labels="source")
    assert given.classes == ("a", "b", "c")
    assert len(given.target_test) == 0
    assert given.batch(0, 8).source.labels.max() <= 2


def test_transfer_keeps_all_the_targets_classes_and_needs_no_source_examples():
    bare = Domain("imagenet", (), None, None, flip=True)
    given = pair(Setting.TRANSFER, sources=[bare], target=domain("two", 40, 20, "wxyz"))
    assert given.classes == ("w", "x", "y", "z")
    assert given.source_train is None
    assert set(given.counts) == {"target train", "target validation", "target test", "labelled target"}
    assert given.notes == []


@pytest.mark.parametrize("labels", ["closed", "partial"])
@pytest.mark.parametrize(("other", "count"), [("xyz", 0), ("axy", 1)])
def test_fewer_than_two_shared_classes(labels, other, count):
    with pytest.raises(UsageError) as error:
        pair(sources=[domain("one")], target=domain("two", classes=other), labels=labels)
    assert str(error.value) == (
        f"one and two share {count} classes; expected two or more. one has a, b, c; two has {', '.join(other)}"
    )


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("side", ["one", "two"])
def test_a_class_without_an_example_is_named(side, part):
    domains = {"one": domain("one"), "two": domain("two")}
    bad = domains[side]
    full = getattr(bad, part)
    empty = full.rows((full.labels != 1).nonzero().squeeze(1))
    domains[side] = bad.with_tables(empty, bad.test) if part == "train" else bad.with_tables(bad.train, empty)
    with pytest.raises(UsageError, match=f"{side}: class 'b' has no {part} example; expected at least one") as error:
        pair(sources=[domains["one"]], target=domains["two"])
    assert "\n" not in str(error.value)


def test_a_mirrored_input_keeps_its_label_only_where_it_does_in_every_domain():
    asked: list[bool] = []

    def view(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
        asked.append(flip)
        return unmoved(data, rows, generator, flip, device)

    def flips(first: bool, second: bool) -> bool:
        one = Domain("one", ABC, table(60), table(24), flip=first)
        two = Domain("two", ABC, table(60), table(24), flip=second)
        given = Pair([one], two, Setting.UNSUPERVISED, 0, Protocol(), {"weak": view}, CPU)
        _ = given.batch(0, 8).source.inputs
        return asked.pop()

    assert [flips(a, b) for a in (True, False) for b in (True, False)] == [True, False, False, False]
