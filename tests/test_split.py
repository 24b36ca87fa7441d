"""Rows of tables, parts set aside, sources joined, and the seeds of every draw."""

import hashlib

import pytest
import torch
from torch import Tensor

from dafw.errors import UsageError
from dafw.setting import Output
from dafw.split import Split, generator, join, mixed_seed, set_aside, to_float

CPU = torch.device("cpu")


def split(count: int = 20, domain: int = 0, name: str = "a train", start: int = 0) -> Split:
    """Every second row of a table whose row i holds the number start + i, labelled by its remainder by three."""
    table = (start + torch.arange(2 * count)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    rows = torch.arange(0, 2 * count, 2)
    return Split(table, rows, rows % 3, torch.full((count,), domain), CPU, name)


class Reader:
    """Answers with the inputs themselves and the domain it was asked for; notes the size of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def predict(self, inputs: Tensor, domain: int = -1) -> Output:
        self.asked.append((len(inputs), domain))
        values = inputs[:, 0, 0, 0].float()
        return Output(values[:, None], torch.stack([values, torch.full_like(values, domain)], dim=1))


# ---- seeds


def test_a_seed_is_a_hash_of_what_it_is_for():
    digest = hashlib.blake2b(b"(3, 'view', -1)", digest_size=8).digest()
    assert mixed_seed(3, "view", -1) == int.from_bytes(digest, "little") // 2
    assert 0 <= mixed_seed() < 2**63


def test_no_two_uses_share_a_seed():
    seeds = [mixed_seed(seed, word, step) for seed in range(5) for word in ("order", "view") for step in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert mixed_seed(1, 23) != mixed_seed(12, 3)
    assert mixed_seed(1) != mixed_seed("1")


def test_a_generator_starts_at_its_seed_and_leaves_the_global_one():
    state = torch.random.get_rng_state()
    first, again = torch.rand(3, generator=generator(0, "x")), torch.rand(3, generator=generator(0, "x"))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "y")))
    assert torch.equal(torch.random.get_rng_state(), state)


# ---- what is held, as floats


def test_images_and_sound_become_floats_and_all_else_passes():
    given = torch.tensor([0.2, 300.0])
    assert to_float(given) is given
    tokens = torch.tensor([3, 0])
    assert to_float(tokens) is tokens
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    clip = torch.tensor([-(2**15), 2**14], dtype=torch.int16)
    assert to_float(clip).tolist() == [-1, 0.5]
    assert clip.tolist() == [-(2**15), 2**14]


# ---- rows


def test_inputs_and_labels_stand_in_row_order():
    given = split(5)
    assert given.inputs[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert given.inputs.dtype == torch.uint8
    assert given.labels.tolist() == [0, 2, 1, 0, 2]
    assert given.clean(torch.tensor([3, 1]))[:, 0, 0, 0].tolist() == [6, 2]
    assert len(given) == 5


def test_the_clean_inputs_of_cached_features_are_their_first_view():
    table = torch.rand(4, 3, 5)
    rows, labels = torch.tensor([2, 0]), torch.tensor([0, 1])
    given = Split(table, rows, labels, torch.zeros(2), CPU, views=True)
    assert torch.equal(given.inputs, table[[2, 0], 0])
    assert torch.equal(given.take(torch.tensor([1]), "part").inputs, table[[0], 0])
    assert torch.equal(given.without_labels().inputs, table[[2, 0], 0])
    assert torch.equal(join([given, given]).inputs, table[[2, 0, 2, 0], 0])
    assert torch.equal(Split(table, rows, labels, torch.zeros(2), CPU).inputs, table[[2, 0]])  # three axes of its own


def test_a_person_is_shown_what_the_inputs_were_made_of():
    tokens, texts = torch.arange(12).view(3, 4), torch.arange(6).view(3, 2)
    given = Split(tokens, torch.tensor([2, 0, 1]), torch.zeros(3), torch.zeros(3), CPU, originals=texts)
    assert given.shown(torch.tensor([1, 0])).tolist() == [[0, 1], [4, 5]]
    assert given.take(torch.tensor([2]), "part").shown(torch.tensor([0])).tolist() == [[2, 3]]
    bare = Split(tokens, torch.tensor([2, 0, 1]), torch.zeros(3), torch.zeros(3), CPU)
    assert bare.shown(torch.tensor([0])).tolist() == [[8, 9, 10, 11]]


def test_taken_rows_keep_labels_and_domains():
    given = split(5, domain=4)
    part = given.take(torch.tensor([4, 1]), "part")
    assert part.inputs[:, 0, 0, 0].tolist() == [8, 2]
    assert part.labels.tolist() == [2, 2]
    assert part.domains.tolist() == [4, 4]
    assert part.name == "part"


def test_labels_that_the_setting_hides_are_gone_and_asking_is_an_error():
    given = split(5)
    hidden = given.without_labels()
    with pytest.raises(UsageError, match="does not see the labels of a train; declare another `setting`"):
        _ = hidden.labels
    held = [value for value in vars(hidden).values() if isinstance(value, Tensor)]
    assert not any(value.shape == given.labels.shape and torch.equal(value, given.labels) for value in held)
    assert torch.equal(hidden.inputs, given.inputs)
    assert given.labels.tolist() == [0, 2, 1, 0, 2]  # the original keeps its own


# ---- a part set aside


def test_a_part_set_aside_is_disjoint_and_together_they_are_all():
    rest, aside = set_aside(split(20), 0.25, (0, "x"), "a train")
    assert (len(rest), len(aside)) == (15, 5)
    assert sorted([*rest.rows.tolist(), *aside.rows.tolist()]) == list(range(0, 40, 2))
    assert rest.rows.tolist() == sorted(rest.rows.tolist())
    assert aside.labels.tolist() == [r % 3 for r in aside.rows.tolist()]
    assert (rest.name, aside.name) == ("a train", "a validation")


def test_what_is_set_aside_depends_on_the_seed_and_not_on_the_labels():
    _, aside = set_aside(split(20), 0.5, (0, "x"), "a train")
    permuted = split(20)
    permuted.labels = permuted.labels.flip(0)
    assert set_aside(permuted, 0.5, (0, "x"), "a train")[1].rows.tolist() == aside.rows.tolist()
    assert set_aside(split(20), 0.5, (1, "x"), "a train")[1].rows.tolist() != aside.rows.tolist()


@pytest.mark.parametrize("fraction", [0, 0.01])
def test_nothing_is_set_aside_of_a_fraction_of_less_than_half_an_example(fraction):
    given = split(20)
    assert set_aside(given, fraction, (0,), "a train") == (given, None)


@pytest.mark.parametrize("fraction", [1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(UsageError, match=rf"validation={fraction}: expected a fraction from 0 to less than 1"):
        set_aside(split(20), fraction, (0,), "a train")


# ---- several sources


def test_joined_sources_stand_one_after_the_other():
    first, second = split(3, 0, "a train"), split(4, 1, "b train", start=100)
    joined = join([first, second])
    assert len(joined) == 7
    assert joined.inputs[:, 0, 0, 0].tolist() == [0, 2, 4, 100, 102, 104, 106]
    assert joined.labels.tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert joined.domains.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert joined.name == "a train+b train"


def test_one_source_stays_as_it_is():
    given = split(3)
    assert join([given]) is given


# ---- what a method answers


def test_outputs_stand_in_row_order_whatever_the_size_of_a_batch():
    given, reader = split(10), Reader()
    whole = given.outputs(reader)
    assert whole.features[:, 0].tolist() == list(range(0, 20, 2))
    parts = given.outputs(reader, batch_size=4)
    assert torch.equal(parts.logits, whole.logits)
    assert reader.asked == [(10, 0), (4, 0), (4, 0), (2, 0)]


def test_each_domain_is_asked_for_by_its_number():
    reader = Reader()
    joined = join([split(3, 0), split(4, 1, start=100)])
    output = joined.outputs(reader)
    assert reader.asked == [(3, 0), (4, 1)]
    assert output.logits.tolist() == [[0, 0], [2, 0], [4, 0], [100, 1], [102, 1], [104, 1], [106, 1]]
    split(2, -1).outputs(reader)
    assert reader.asked[-1] == (2, -1)
