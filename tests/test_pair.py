"""Label spaces, splits and batches; and that target labels go nowhere they may not."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dafw import augment
from dafw.conformance import made_pair
from dafw.datasets.cifar10 import CLASSES as CIFAR10
from dafw.datasets.stl10 import CLASSES as STL10
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.pair import Pair, Protocol
from dafw.setting import RULES, Setting

CPU = torch.device("cpu")
ABC = ("a", "b", "c")


def table(count: int, classes: int = 3, value: int = 0) -> Table:
    """Row i: an image of `value` whose first two pixels are i, in base 256, and the label i mod classes."""
    images = torch.full((count, 1, 8, 8), value, dtype=torch.uint8)
    rows = torch.arange(count)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = (rows // 256).to(torch.uint8), (rows % 256).to(torch.uint8)
    return Table(images, rows % classes)


def domain(name: str, train: int = 60, test: int = 24, classes: Sequence[str] = ABC, value: int = 0) -> Domain:
    return Domain(name, tuple(classes), table(train, len(classes), value), table(test, len(classes), value), flip=False)


def unmoved(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:  # noqa: ARG001
    """A view that shows which row it is and which draw: the image, and one random number in its last pixel."""
    images = data[rows].float()
    images[:, 0, -1, -1] = torch.rand(len(rows), generator=generator)
    return images


VIEWS = {"weak": unmoved, "strong": unmoved, "ssl": unmoved}


def pair(
    setting: Setting = Setting.UNSUPERVISED,
    seed: int = 0,
    sources: Sequence[Domain] | None = None,
    target: Domain | None = None,
    **protocol: Any,
) -> Pair:
    return Pair(
        [domain("one", value=1)] if sources is None else sources,
        domain("two", 50, 20, value=2) if target is None else target,
        setting,
        seed,
        Protocol(**protocol),
        VIEWS,
        CPU,
    )


def rows_of(inputs: Tensor) -> list[int]:
    """Which rows of the table these images are."""
    return (inputs[:, 0, 0, 0] * 256 + inputs[:, 0, 0, 1]).int().tolist()


def shown(pair: Pair, step: int, size: int) -> dict[str, Any]:
    """All that a batch holds."""
    batch = pair.batch(step, size)
    return {
        name: {
            "index": part.index.tolist(),
            "domain": part.domain.tolist(),
            "inputs": part.inputs.tolist(),
            "strong": part.view("strong").tolist(),
            "labels": part.labels.tolist() if hasattr(part, "labels") else None,
        }
        for name, part in batch._asdict().items()
        if part is not None
    }


# ---- batches are a pure function of seed and step


@pytest.mark.parametrize("setting", list(Setting), ids=lambda s: s.value)
def test_a_batch_is_the_same_whatever_was_drawn_before(setting):
    busy = pair(setting)
    for step in (7, 3, 0, 7, 1):
        if setting is Setting.TEST_TIME:
            step %= 2
        batch = busy.batch(step, 8)
        for part in batch:
            if part is not None:
                for name in ("weak", "ssl", "strong"):
                    part.view(name)
        torch.rand(3)
    step = 1 if setting is Setting.TEST_TIME else 6
    assert shown(busy, step, 8) == shown(pair(setting), step, 8)


def test_the_views_that_the_framework_has_are_a_pure_function_too():
    first, second = made_pair(Setting.UNSUPERVISED), made_pair(Setting.UNSUPERVISED)
    for name in augment.views("image"):
        second.batch(3, 8).source.view(name)
    one, other = first.batch(3, 8), second.batch(3, 8)
    assert torch.equal(one.source.inputs, other.source.inputs)
    for name in augment.views("image"):
        assert torch.equal(one.target.view(name), other.target.view(name))


def test_every_method_sees_the_same_source_batches():
    alone, adapting = pair(Setting.SOURCE_ONLY), pair(Setting.UNSUPERVISED)
    joint = pair(Setting.JOINT_SUPERVISED)
    for step in range(12):
        wanted = shown(alone, step, 8)["source"]
        assert shown(adapting, step, 8)["source"] == wanted
        assert shown(joint, step, 8)["source"] == wanted


def test_another_seed_or_step_gives_other_rows_and_other_draws():
    batches = [shown(pair(seed=seed), step, 8) for seed in (0, 1) for step in (0, 1, 2)]
    for part in ("source", "target"):
        assert len({tuple(batch[part]["index"]) for batch in batches}) == 6
    draws = [
        tuple(torch.tensor(batch[part][view])[:, 0, -1, -1].tolist())
        for batch in batches
        for part in ("source", "target")
        for view in ("inputs", "strong")
    ]
    assert len(set(draws)) == len(draws) == 24


def test_each_view_of_a_batch_is_a_new_draw():
    part = pair().batch(0, 8).source
    drawn = [part.inputs, part.view("weak"), part.view("weak"), part.view("strong"), part.view("ssl")]
    assert len({tuple(d[:, 0, -1, -1].tolist()) for d in drawn}) == 5
    with pytest.raises(UsageError, match="no view 'blue' of these inputs; expected one of ssl, strong, weak"):
        part.view("blue")


def test_index_names_rows_of_the_split_and_inputs_and_labels_belong_to_them():
    given = pair()
    batch = given.batch(2, 8)
    rows = given.source_train.rows[batch.source.index]
    assert rows_of(batch.source.inputs) == rows.tolist()
    assert batch.source.labels.tolist() == (rows % 3).tolist()
    assert (batch.source.inputs[:, 0, 4, 4] == 1).all()
    assert rows_of(batch.target.inputs) == given.target_train.rows[batch.target.index].tolist()
    assert (batch.target.inputs[:, 0, 4, 4] == 2).all()
    assert batch.source.domain.tolist() == [0] * 8
    assert batch.target.domain.tolist() == [-1] * 8


def test_every_example_comes_once_a_pass_and_the_incomplete_batch_is_left_out():
    given = pair()  # 54 source and 45 target training examples
    assert (len(given.source_train), len(given.target_train)) == (54, 45)
    for part, count, size in (("source", 54, 9), ("target", 45, 9), ("source", 54, 8), ("target", 45, 8)):
        passes = [
            [
                i
                for step in range(count // size)
                for i in getattr(given.batch(step + e * (count // size), size), part).index
            ]
            for e in range(3)
        ]
        for seen in passes:
            assert len({int(i) for i in seen}) == len(seen) == count // size * size
        assert passes[0] != passes[1]
        assert passes[1] != passes[2]


def test_a_pass_is_counted_in_batches_of_the_target_or_of_what_is_seen():
    assert pair(Setting.UNSUPERVISED).batches(8) == 45 // 8
    assert pair(Setting.SOURCE_ONLY).batches(8) == 54 // 8
    assert pair(Setting.TRANSFER).batches(8) == 45 // 8
    assert pair(Setting.TRANSFER, labels_per_class=2).batches(8) == 1
    assert pair(Setting.TRANSFER, labels_per_class=5).batches(8) == 15 // 8
    assert pair(Setting.TEST_TIME).batches(8) == 3  # 20 test examples, the rest a batch of its own


# ---- what each setting sees


@pytest.mark.parametrize("setting", list(Setting), ids=lambda s: s.value)
def test_a_setting_sees_what_the_table_says_and_no_more(setting):
    rule = RULES[setting]
    given = pair(setting)
    batch, data = given.batch(0, 8), given.data(lambda: None)

    assert (batch.source is None) == (data.source is None) == (rule.source == "none")
    assert (batch.target is None) == (rule.target == "none")
    assert (data.target is None) == (rule.target != "train")  # a stream is never seen as a whole
    assert (batch.shots is None) == (data.shots is None) == (not rule.shots)

    if batch.source is not None:
        assert hasattr(batch.source, "labels") == (rule.source == "labelled")
        assert data.source.labels.tolist() == (given.source_train.rows % 3).tolist()
    if batch.target is not None:
        assert not hasattr(batch.target, "labels")
    if batch.shots is not None:
        assert batch.shots.labels.tolist() == (given.target_train.rows[batch.shots.index] % 3).tolist()


@pytest.mark.parametrize("setting", [s for s in Setting if RULES[s].target == "train"], ids=lambda s: s.value)
def test_the_targets_labels_are_not_in_data(setting):
    given = pair(setting)
    data = given.data(lambda: None)
    with pytest.raises(UsageError, match="does not see the labels of two train"):
        _ = data.target.labels
    hidden = given.target_train.labels
    held = [v for v in vars(data.target).values() if isinstance(v, Tensor) and v.shape == hidden.shape]
    assert not any(torch.equal(v, hidden) for v in held)
    assert torch.equal(data.target.inputs, given.target_train.inputs)


def test_training_data_holds_no_validation_and_no_test_example():
    given = pair()
    data = given.data(lambda: None)
    train = set(given.target_train.rows.tolist())
    assert set(rows_of(data.target.inputs)) == train
    assert train.isdisjoint(given.target_validation.rows.tolist())
    assert given.target_test.table is not given.target_train.table
    seen = {i for step in range(200) for i in rows_of(given.batch(step, 8).target.inputs)}
    assert seen == train


# ---- splits


def test_a_tenth_is_set_aside_for_validation_disjoint_and_whole():
    given = pair()
    for train, validation, count in (
        (given.source_train, given.source_validation, 60),
        (given.target_train, given.target_validation, 50),
    ):
        assert len(validation) == count // 10
        assert sorted([*train.rows.tolist(), *validation.rows.tolist()]) == list(range(count))
    assert given.counts == {
        "source train": 54,
        "source validation": 6,
        "source test": 24,
        "target train": 45,
        "target validation": 5,
        "target test": 20,
    }


def test_the_targets_validation_split_does_not_look_at_labels():
    two = domain("two", 50, 20)
    labels = two.train.labels[torch.randperm(50, generator=torch.Generator().manual_seed(5))]
    permuted = two.with_tables(Table(two.train.inputs, labels), two.test)
    first, second = pair(target=two), pair(target=permuted)
    assert first.target_validation.labels.tolist() != second.target_validation.labels.tolist()
    assert first.target_validation.rows.tolist() == second.target_validation.rows.tolist()
    assert first.target_train.rows.tolist() == second.target_train.rows.tolist()


def test_splits_depend_on_the_split_seed_and_never_on_the_runs():
    first, other_run, other_split = pair(seed=0), pair(seed=1), pair(split_seed=1)
    for name in ("source_validation", "target_validation"):
        rows = getattr(first, name).rows.tolist()
        assert getattr(other_run, name).rows.tolist() == rows
        assert getattr(other_split, name).rows.tolist() != rows


def test_no_validation():
    given = pair(source_validation=0.0, target_validation=0.0)
    assert given.source_validation is None
    assert given.target_validation is None
    assert (len(given.source_train), len(given.target_train)) == (60, 50)


# ---- shots


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("setting", [s for s in Setting if RULES[s].shots], ids=lambda s: s.value)
def test_shots_are_k_of_each_class_from_target_train(setting, k):
    given = pair(setting, labels_per_class=k)
    assert given.shots.labels.bincount().tolist() == [k, k, k]
    assert given.shots.labels.tolist() == (given.shots.rows % 3).tolist()
    assert set(given.shots.rows.tolist()) <= set(given.target_train.rows.tolist())
    assert given.counts["labelled target"] == 3 * k
    assert given.data(lambda: None).shots is given.shots


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


# ---- sizes of batches


@pytest.mark.parametrize(
    ("setting", "size", "available", "part"),
    [
        (Setting.SOURCE_ONLY, 55, 54, "source training"),
        (Setting.UNSUPERVISED, 46, 45, "target training"),
        (Setting.SOURCE_FREE, 46, 45, "target training"),
        (Setting.TRANSFER, 46, 45, "labelled target"),
    ],
)
def test_a_batch_larger_than_its_split(setting, size, available, part):
    given = pair(setting)
    with pytest.raises(UsageError) as error:
        given.part_sizes(size)
    assert str(error.value) == (
        f"train.batch_size={size}: there are {available} {part} examples; "
        f"expected a batch of at most {available}, as in train.batch_size=32"
    )
    assert available in given.part_sizes(available).values()  # the largest that fits


def test_what_cannot_be_batched_is_refused_every_time_it_is_asked():
    given = pair()
    for _ in range(2):
        with pytest.raises(UsageError, match="target training"):
            given.part_sizes(46)
    with pytest.raises(UsageError, match="target training"):
        given.batch(0, 46)


# ---- the test stream


def test_the_stream_covers_the_test_split_once_in_an_order_that_no_seed_of_a_run_changes():
    first, other_run, other_split = (
        pair(Setting.TEST_TIME, seed=0),
        pair(Setting.TEST_TIME, seed=1),
        pair(Setting.TEST_TIME, split_seed=1),
    )

    def order(given: Pair) -> list[int]:
        return [i for step in range(given.batches(8)) for i in given.batch(step, 8).target.index.tolist()]

    assert sorted(order(first)) == list(range(20))
    assert order(first) != list(range(20))  # folders are sorted by class
    assert order(other_run) == order(first)
    assert order(other_split) != order(first)
    assert [len(first.batch(step, 8).target) for step in range(3)] == [8, 8, 4]


def test_the_streams_inputs_are_clean_and_its_other_views_are_draws():
    given = pair(Setting.TEST_TIME)
    examples = given.batch(1, 8).target
    clean = given.target_test.clean(examples.index)
    assert clean.dtype == torch.uint8
    assert torch.equal(examples.inputs, clean.float() / 255)
    assert not hasattr(examples, "labels")
    assert examples.domain.tolist() == [-1] * 8
    views = [examples.view("weak"), examples.view("weak")]
    assert rows_of(views[0]) == rows_of(clean)
    assert not torch.equal(views[0], views[1])


def test_a_stream_of_cached_features_is_not_scaled():
    features = Table(torch.rand(24, 3, 5), torch.arange(24) % 3)
    one, two = (Domain(name, ABC, features, features, "features") for name in ("one", "two"))
    given = Pair([one], two, Setting.TEST_TIME, 0, Protocol(), augment.views("features"), CPU)
    examples = given.batch(0, 8).target
    assert torch.equal(examples.inputs, features.inputs[examples.index, 0])


# ---- transduction


def test_transductive_trains_and_tests_on_all_target_examples():
    given = pair(transductive=True)
    assert given.target_train.rows.tolist() == given.target_test.rows.tolist() == list(range(70))
    assert torch.equal(given.target_train.inputs, given.target_test.inputs)
    assert given.target_validation is None
    assert "target validation" not in given.counts
    assert given.counts["target train"] == given.counts["target test"] == 70
    assert len(given.source_test) == 24  # the source keeps its splits
    both = torch.cat([domain("two", 50, 20, value=2).train.inputs, domain("two", 50, 20, value=2).test.inputs])
    assert torch.equal(given.target_test.inputs, both)
    with pytest.raises(UsageError):
        _ = given.data(lambda: None).target.labels


@pytest.mark.parametrize("setting", [s for s in Setting if RULES[s].shots], ids=lambda s: s.value)
@pytest.mark.parametrize("k", [None, 3])
def test_settings_that_see_target_labels_refuse_transduction(setting, k):
    with pytest.raises(UsageError) as error:
        pair(setting, transductive=True, labels_per_class=k)
    assert str(error.value) == (
        f"tgt.transductive=true: the setting {setting.value} would train on the labels it is tested on; "
        "expected tgt.transductive=false"
    )


@pytest.mark.parametrize("setting", [s for s in Setting if not RULES[s].shots], ids=lambda s: s.value)
def test_the_others_allow_it(setting):
    assert len(pair(setting, transductive=True).target_test) == 70


# ---- several sources


def two_sources(setting: Setting = Setting.UNSUPERVISED, **protocol: Any) -> Pair:
    sources = [domain("one", 60, 24, "abc", value=1), domain("more", 90, 30, "cab", value=3)]
    return pair(setting, sources=sources, **protocol)


def test_each_source_gives_an_equal_part_of_a_batch_under_its_number():
    given = two_sources()
    source = given.batch(1, 8).source
    assert source.domain.tolist() == [0] * 4 + [1] * 4
    assert source.inputs[:, 0, 4, 4].tolist() == [1] * 4 + [3] * 4
    assert given.counts["source train"] == 54 + 81
    assert given.counts["source test"] == 24 + 30


def test_the_labels_of_all_sources_are_matched_by_name():
    given = two_sources()
    for step in range(10):
        source = given.batch(step, 8).source
        rows = rows_of(source.inputs)
        names = ["abc"[r % 3] for r in rows[:4]] + ["cab"[r % 3] for r in rows[4:]]
        assert [given.classes[label] for label in source.labels.tolist()] == names


def test_every_source_has_passes_of_its_own_length():
    given = two_sources()
    steps = {0: 54 // 4, 1: 81 // 4}
    for number, count in steps.items():
        seen = [i for s in range(count) for i in given.batch(s, 8).source.index[4 * number : 4 * number + 4].tolist()]
        assert len(set(seen)) == len(seen) == 4 * count
        assert set(given.source_train.domains[seen].tolist()) == {number}


def test_sources_meet_in_the_classes_that_all_have():
    sources = [domain("one", 80, 40, "abcd"), domain("more", 90, 30, "dca")]
    closed = pair(sources=sources, target=domain("two", 60, 30, "adx"))
    assert closed.classes == ("a", "d")
    assert closed.notes == [
        "one: dropped b, c, not in the other domain (60 examples)",
        "more: dropped c, not in the other domain (40 examples)",
        "two: dropped x, not in the other domain (30 examples)",
    ]
    assert pair(sources=sources, target=domain("two", 60, 30, "adx"), labels="partial").classes == ("a", "c", "d")


def test_a_pass_over_several_sources_counts_all_of_a_batchs_source_examples():
    given = two_sources(Setting.SOURCE_ONLY)
    assert len(given.batch(0, 8).source) == 8
    assert given.part_sizes(8) == {"source": 8}
    assert given.batches(8) == (54 + 81) // 8


def test_the_smallest_source_decides_what_fits():
    with pytest.raises(UsageError, match=r"train\.batch_size=200: there are 54 source training examples"):
        two_sources(Setting.SOURCE_ONLY).part_sizes(200)
    assert len(two_sources(Setting.SOURCE_ONLY).batch(0, 100).source) == 100


def test_a_batch_smaller_than_the_number_of_sources_is_told_what_is_least():
    with pytest.raises(UsageError, match=r"train\.batch_size=1: .*expected .*2") as error:
        two_sources(Setting.SOURCE_ONLY).part_sizes(1)
    assert "at most" not in str(error.value)


def test_a_source_too_small_for_a_validation_part_leaves_the_others_theirs():
    sources = [domain("small", 3, 3), domain("more", 60, 24)]
    given = pair(Setting.SOURCE_ONLY, sources=sources)
    assert given.counts["source train"] == 3 + 54
    assert given.counts["source validation"] == 6
