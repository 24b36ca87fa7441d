"""Where data sets are looked for, what is said of one that is nowhere, and how splits are drawn."""

from pathlib import Path

import pytest
import torch

from dafw.errors import UsageError
from dafw.place import Place


def test_a_root_is_the_only_place(tmp_path):
    (tmp_path / "data" / "pets").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    assert Place(root=tmp_path / "mine", data=tmp_path / "data").folders("pets") == [tmp_path / "mine"]


def test_data_comes_before_the_cache(tmp_path, cache_folder):
    assert Place(data=tmp_path).folders("pets") == [tmp_path / "pets", cache_folder / "pets"]
    assert Place().folders("pets") == [cache_folder / "pets"]


@pytest.mark.parametrize("key", ["root", "data"])
def test_a_folder_that_was_given_must_exist(tmp_path, key):
    with pytest.raises(UsageError, match=f"{key}={tmp_path / 'nowhere'}: no such folder"):
        Place(**{key: tmp_path / "nowhere"}).folders("pets")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Place(root=Path("~")).folders("pets") == [tmp_path]


def test_an_npz_is_found_beside_the_folder_or_in_it(tmp_path):
    place = Place(data=tmp_path)
    assert place.archive("pets") is None
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "pets.npz").touch()
    assert place.archive("pets") == tmp_path / "pets" / "pets.npz"
    (tmp_path / "pets.npz").touch()
    assert place.archive("pets") == tmp_path / "pets.npz"
    assert Place(root=tmp_path).archive("pets") == tmp_path / "pets.npz"
    assert Place(root=tmp_path).archive("dogs") is None
    inner = tmp_path / "inner"
    inner.mkdir()
    assert Place(root=inner).archive("pets") is None  # a root's neighbours are nobody's


def test_what_is_missing_is_told_in_one_line(tmp_path, cache_folder):
    line = str(Place(data=tmp_path).missing("pets/cats", "cats.zip", "from example.org"))
    assert line == (
        f"pets/cats: not found in {tmp_path}/pets or {cache_folder}/pets; "
        f"put cats.zip into {tmp_path}/pets (from example.org)"
    )


def test_a_split_is_stratified_exact_and_of_its_seed():
    labels = torch.tensor([0] * 10 + [1] * 7 + [2] * 2).roll(5)
    train, test = Place(split_seed=3).split(labels, 0.3)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(19))
    assert labels[test].bincount().tolist() == [3, 2, 1]
    assert test.tolist() == sorted(test.tolist())
    assert Place(split_seed=3).split(labels, 0.3)[1].tolist() == test.tolist()
    assert Place(split_seed=4).split(labels, 0.3)[1].tolist() != test.tolist()


def test_more_examples_of_one_class_leave_the_draws_of_the_others():
    few, many = torch.tensor([0] * 6 + [1] * 20), torch.tensor([0] * 9 + [1] * 20)
    of_few = Place().split(few, 0.5)[1]
    of_many = Place().split(many, 0.5)[1]
    assert (of_few[of_few >= 6] - 6).tolist() == (of_many[of_many >= 9] - 9).tolist()


def test_every_class_keeps_an_example_on_both_sides():
    labels = torch.tensor([0, 0, 1, 1, 1])
    for fraction in (0.01, 0.99):
        train, test = Place().split(labels, fraction)
        assert set(labels[train].tolist()) == set(labels[test].tolist()) == {0, 1}


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5])
def test_a_test_fraction_is_between_0_and_1(fraction):
    with pytest.raises(UsageError, match=f"test_fraction={fraction}: expected a number between 0 and 1"):
        Place().split(torch.tensor([0, 0]), fraction)
