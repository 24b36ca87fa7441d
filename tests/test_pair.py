"""Label spaces, splits and batches; and that target labels go nowhere they may not."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dafw import augment
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.made import made_pair
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
    batch, data = given.batch(0, 8), given.data(lambda: None, lambda _: None)

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
    data = given.data(lambda: None, lambda _: None)
    with pytest.raises(UsageError, match="does not see the labels of two train"):
        _ = data.target.labels
    hidden = given.target_train.labels
    held = [v for v in vars(data.target).values() if isinstance(v, Tensor) and v.shape == hidden.shape]
    assert not any(torch.equal(v, hidden) for v in held)
    assert torch.equal(data.target.inputs, given.target_train.inputs)


def test_training_data_holds_no_validation_and_no_test_example():
    given = pair()
    data = given.data(lambda: None, lambda _: None)
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
