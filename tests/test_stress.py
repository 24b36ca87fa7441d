"""What is done to a target: which examples stay, in what proportions, and what becomes of their images."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.corruption import CORRUPTIONS, corrupted, rotated
from dafw.domain import Domain, Table
from dafw.errors import UsageError
from dafw.split import generator
from dafw.stress import Stress, counts_to_keep, drawn_proportions, stress_of, stressed

NOTHING = {"corruption": None, "severity": None, "rotation": 0.0, "label_shift": None, "fraction": 1.0}


def table(per_class: list[int], side: int = 8, seed: int = 0) -> Table:
    """Images whose first pixel is their row, in mixed order."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))
    labels = labels[torch.randperm(len(labels), generator=drawn)]
    images = torch.randint(0, 256, (len(labels), 1, side, side), generator=drawn).to(torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, 0, 0, 1] = torch.arange(len(labels)) // 256
    return Table(images, labels)


def domain(train: list[int], test: list[int], modality: str = "image", flip: bool = False) -> Domain:
    names = tuple(f"c{label}" for label in range(len(train)))
    return Domain("made", names, table(train), table(test, seed=1), modality, flip, {"image_size": 8})


def rows_of(part: Table) -> Tensor:
    return part.inputs[:, 0, 0, 0].long() + 256 * part.inputs[:, 0, 0, 1].long()


def counts(part: Table, classes: int) -> np.ndarray:
    return part.labels.bincount(minlength=classes).numpy()


EVEN = domain([40] * 4, [20] * 4)


# ---- nothing asked, and all at once


def test_nothing_asked_is_the_same_object():
    notes: list[str] = []
    assert stressed(EVEN, Stress(), 0, notes) is EVEN
    assert stressed(EVEN, Stress(severity=2), 0, notes) is EVEN
    assert notes == []


def test_the_name_says_all_that_was_asked():
    assert Stress().name == ""
    assert Stress("gaussian_noise", 3).name == "gaussian_noise3"
    assert Stress(rotation=30).name == "rotation30"
    assert Stress(rotation=-12.5).name == "rotation-12.5"
    assert Stress(label_shift=0.5).name == "shift0.5"
    assert Stress("jpeg", 1, 30.0, 0.5, 0.1).name == "jpeg1-rotation30-shift0.5-fraction0.1"
    made = stressed(EVEN, Stress("jpeg", 1, 30.0), 0, [])
    assert made.name == "made-jpeg1-rotation30"
    assert EVEN.name == "made"


def test_what_is_not_asked_for_stays():
    given = domain([40] * 4, [20] * 4, flip=True)
    made = stressed(given, Stress("contrast", 2, 10.0, 1.0, 0.8), 0, [])
    assert (made.classes, made.flip, made.recipe, made.modality) == (given.classes, True, {"image_size": 8}, "image")
    made = stressed(given, Stress("contrast", 2), 0, [])
    assert torch.equal(made.train.labels, given.train.labels)
    assert torch.equal(made.test.labels, given.test.labels)


def test_rows_are_chosen_then_rotated_then_corrupted():
    asked = Stress("gaussian_noise", 5, 45.0, None, 0.5)
    fewer = stressed(EVEN, Stress(fraction=0.5), 7, [])
    made = stressed(EVEN, asked, 7, [])
    for part in ("train", "test"):
        turned = rotated(getattr(fewer, part).inputs, 45.0)
        wanted = corrupted(turned, "gaussian_noise", 5, generator(7, "corruption", part))
        assert torch.equal(getattr(made, part).inputs, wanted)
        assert torch.equal(getattr(made, part).labels, getattr(fewer, part).labels)
    assert float(made.test.inputs[:, 0, -1, -1].float().std()) > 0  # the black corners are as noisy as the rest


def test_the_split_seed_alone_decides():
    asked = Stress("impulse_noise", 4, 0.0, 1.0, 0.5)
    one, again, other = (stressed(EVEN, asked, seed, []) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - global generators have no say
    assert stressed(EVEN, asked, 0, []).fingerprint == one.fingerprint


def test_train_and_test_have_noise_of_their_own():
    same = table([30, 30])
    made = stressed(Domain("made", ("a", "b"), same, same), Stress("gaussian_noise", 5), 0, [])
    assert not torch.equal(made.train.inputs, made.test.inputs)


def test_notes_say_what_was_changed():
    notes: list[str] = []
    stressed(EVEN, Stress("shot_noise", 2, -30.0, None, 0.25), 0, notes)
    assert notes == [
        "made: 40 of 160 train examples kept, test whole",
        "made: rotated by -30 degrees (counter-clockwise, black outside)",
        "made: shot_noise of severity 2 (Hendrycks and Dietterich 2019)",
    ]


# ---- label shift


def test_counts_are_the_largest_of_these_proportions():
    # 10 of class 2 for 0.5: 20 in all, of which 6 and 4
    assert counts_to_keep(np.array([10, 10, 10]), np.array([0.3, 0.2, 0.5])).tolist() == [6, 4, 10]
    # class 0 has too few for 0.3: 3 / 0.3 = 10 in all
    assert counts_to_keep(np.array([3, 10, 10]), np.array([0.3, 0.2, 0.5])).tolist() == [3, 2, 5]
    assert counts_to_keep(np.array([10, 10]), np.array([0.99, 0.01])).tolist() == [10, 1]  # .1 of an example: one
    assert counts_to_keep(np.array([10, 10]), np.array([1.0, 0.0])).tolist() == [10, 1]
    assert counts_to_keep(np.array([10, 0, 10]), np.array([0.4, 0.2, 0.4])).tolist() == [10, 0, 10]  # none to keep
    assert counts_to_keep(np.array([0, 8, 4]), np.array([0.0, 0.5, 0.5])).tolist() == [0, 4, 4]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0, 10.0])
def test_train_and_test_follow_the_same_draw(alpha):
    given = domain([400, 300, 200, 100], [90, 90, 90, 30])
    notes: list[str] = []
    made = stressed(given, Stress(label_shift=alpha), 3, notes)
    wanted = drawn_proportions(np.array([400, 300, 200, 100]), alpha, 3)
    for part in (made.train, made.test):
        kept = counts(part, 4)
        total = (kept.max() + 1) / wanted[kept.argmax()]  # the size before rounding down lies below
        assert kept.min() >= 1
        for label in range(4):
            assert kept[label] <= max(1, total * wanted[label])
            assert kept[label] >= (kept.max() / wanted[kept.argmax()]) * wanted[label] - 1.001
    before = counts(given.train, 4)
    assert (counts(made.train, 4) == before).any()  # as many as there can be: one class is whole
    assert notes[0] == (
        f"made: labels shifted, {len(made.train)} of 1000 train and {len(made.test)} of 300 test examples kept"
    )
    said = ", ".join(f"c{label} {count}" for label, count in enumerate(counts(made.test, 4)))
    assert notes[1:] == [f"target train per class: {_said(made.train)}", f"target test per class: {said}"]


def _said(part: Table) -> str:
    return ", ".join(f"c{label} {int((part.labels == label).sum())}" for label in range(4))


def test_rows_are_kept_with_their_labels_and_once():
    made = stressed(EVEN, Stress(label_shift=0.5), 0, [])
    rows = rows_of(made.train)
    assert len(rows.unique()) == len(rows)
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(made.train.labels, EVEN.train.labels[rows])
    assert torch.equal(made.train.inputs, EVEN.train.inputs[rows])


def test_a_large_alpha_leaves_the_targets_own_proportions():
    given = domain([500, 250, 100], [50, 100, 50])
    made = stressed(given, Stress(label_shift=1e6), 0, [])
    assert counts(made.train, 3) == pytest.approx([500, 250, 100], rel=0.03)
    assert counts(made.test, 3) == pytest.approx([50, 25, 10], abs=1)  # train's proportions, not its own


def test_a_tiny_alpha_leaves_one_class_and_one_example_of_each_other():
    made = stressed(EVEN, Stress(label_shift=1e-9), 0, [])
    assert sorted(counts(made.train, 4)) == [1, 1, 1, 40]
    assert sorted(counts(made.test, 4)) == [1, 1, 1, 20]
    assert counts(made.train, 4).argmax() == counts(made.test, 4).argmax()


def test_proportions_have_the_moments_of_rlsbenchs_dirichlet():
    own, alpha = np.array([60, 30, 10]), 0.7
    drawn = np.stack([drawn_proportions(own, alpha, seed) for seed in range(4000)])
    mean = own / own.sum()
    total = alpha * 3  # alpha * C * p sums to alpha * C
    spread = np.sqrt(mean * (1 - mean) / (total + 1))
    np.testing.assert_allclose(drawn.sum(1), 1)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5 * spread.max() / math.sqrt(4000))
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.05)


def test_a_class_without_train_examples_is_not_asked_for():
    given = domain([40, 0, 40], [10, 10, 10])
    assert drawn_proportions(np.array([40, 0, 40]), 1.0, 0)[1] == 0
    made = stressed(given, Stress(label_shift=1.0), 0, [])
    assert counts(made.train, 3)[1] == 0
    assert counts(made.test, 3)[1] == 1


def test_of_many_classes_the_smallest_and_the_largest_are_counted():
    notes: list[str] = []
    made = stressed(domain([12] * 13, [3] * 13), Stress(label_shift=0.5), 0, notes)
    kept = counts(made.train, 13)
    least, most = f"c{kept.argmin()} {kept.min()}", f"c{kept.argmax()} {kept.max()}"
    assert notes[1] == f"target train per class: {least} (smallest) to {most} (largest) of 13 classes"


def test_labels_decide_nothing_but_a_label_shift():
    asked = Stress("gaussian_noise", 3, 20.0, None, 0.5)
    mixed = torch.randperm(160, generator=torch.Generator().manual_seed(5))
    other = EVEN.with_tables(Table(EVEN.train.inputs, EVEN.train.labels[mixed]), EVEN.test)
    one, two = stressed(EVEN, asked, 0, []), stressed(other, asked, 0, [])
    assert torch.equal(one.train.inputs, two.train.inputs)


# ---- fraction


def test_a_fraction_is_of_train_alone_and_nested():
    given = domain([100] * 3, [30] * 3)
    half, fifth = (stressed(given, Stress(fraction=f), 0, []) for f in (0.5, 0.2))
    assert (len(half.train), len(fifth.train)) == (150, 60)
    assert half.test is given.test
    rows = rows_of(half.train)
    assert torch.equal(half.train.labels, given.train.labels[rows])
    assert torch.isin(rows_of(fifth.train), rows).all()
    assert torch.equal(rows, rows.sort().values)


def test_a_fraction_that_loses_a_class_names_the_smallest_that_does_not():
    given = domain([300, 3], [10, 10])
    with pytest.raises(UsageError, match=r"no train example of class 'c1' of made .* tgt.fraction=0\.\d+ or more") as e:
        stressed(given, Stress(fraction=0.004), 0, [])
    assert "\n" not in str(e.value)
    least = float(str(e.value).split("tgt.fraction=")[2].split()[0])
    assert counts(stressed(given, Stress(fraction=least), 0, []).train, 2)[1] == 1
    with pytest.raises(UsageError, match=f"tgt.fraction={least:g} or more"):
        stressed(given, Stress(fraction=least - 1.01 / 303), 0, [])


def test_a_label_shift_has_the_same_test_with_any_fraction_and_loses_no_class():
    alone = stressed(EVEN, Stress(label_shift=0.3), 0, [])
    made = stressed(EVEN, Stress(label_shift=0.3, fraction=0.3), 0, [])
    assert torch.equal(rows_of(made.test), rows_of(alone.test))
    assert torch.isin(rows_of(made.train), rows_of(stressed(EVEN, Stress(fraction=0.3), 0, []).train)).all()
    assert counts(made.train, 4).min() >= 1
    assert len(made.train) < len(alone.train)


# ---- features, and what cannot be


def test_features_have_no_images_to_corrupt_but_may_be_chosen_from():
    features = Domain("cached", ("a", "b"), Table(torch.rand(20, 4), torch.arange(20) % 2), EVEN.test, "features")
    for asked, key in ((Stress("jpeg", 1), "corruption=jpeg"), (Stress(rotation=30), "rotation=30")):
        with pytest.raises(UsageError, match=f"tgt.{key}: cached has no images but features"):
            stressed(features, asked, 0, [])
    assert len(stressed(features, Stress(fraction=0.5), 0, []).train) == 10


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"corruption": "gausian_noise"}, "unknown tgt.corruption=gausian_noise; did you mean gaussian_noise"),
        ({"corruption": "jpeg", "severity": 0}, "tgt.severity=0: expected a whole number from 1 to 5"),
        ({"corruption": "jpeg", "severity": 6}, "tgt.severity=6: expected"),
        ({"severity": 3}, "tgt.severity=3 without a corruption; expected one too, as in tgt.corruption=gaussian_noise"),
        ({"rotation": math.nan}, "tgt.rotation=nan: expected degrees"),
        ({"rotation": math.inf}, "tgt.rotation=inf: expected degrees"),
        ({"label_shift": 0.0}, "tgt.label_shift=0.0: expected more than 0"),
        ({"label_shift": -1.0}, "tgt.label_shift=-1.0: expected more than 0"),
        ({"label_shift": math.nan}, "tgt.label_shift=nan: expected more than 0"),
        ({"fraction": 0.0}, "tgt.fraction=0.0: expected more than 0 and at most 1"),
        ({"fraction": 1.5}, "tgt.fraction=1.5: expected more than 0 and at most 1"),
    ],
)
def test_a_value_that_cannot_be_is_told_in_one_line(asked, said):
    with pytest.raises(UsageError, match="^" + said.replace(".", r"\.")) as error:
        stress_of({**NOTHING, **asked})
    assert "\n" not in str(error.value)


def test_a_corruption_without_a_severity_is_the_most_severe():
    assert stress_of({**NOTHING, "corruption": "jpeg"}) == Stress("jpeg", 5)
    assert stress_of({**NOTHING, "corruption": "jpeg", "severity": 2}) == Stress("jpeg", 2)
    assert stress_of(NOTHING) == Stress()
    assert len({stress_of(NOTHING), Stress()}) == 1  # a key of what is remembered


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_every_corruption_reaches_both_tables(name):
    made = stressed(EVEN, Stress(name, 5), 0, [])
    for new, old in ((made.train, EVEN.train), (made.test, EVEN.test)):
        assert new.inputs.dtype == torch.uint8
        assert new.inputs.shape == old.inputs.shape
        assert not torch.equal(new.inputs, old.inputs)
