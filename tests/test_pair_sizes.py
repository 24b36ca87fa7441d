"""Sizes of batches, the test stream, transduction and several sources."""

from typing import Any

import pytest
import torch
from test_pair import ABC, CPU, domain, pair, rows_of

from dafw import augment
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.pair import Pair, Protocol
from dafw.setting import RULES, Setting

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
        _ = given.data(lambda: None, lambda _: None).target.labels


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
