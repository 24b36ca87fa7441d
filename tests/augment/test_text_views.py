"""Views of tokens: what is left out, how often, and what never is."""

import torch
from torch import Tensor

from dafw.augment import text, views

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(lengths: list[int], longest: int) -> Tensor:
    """Row n holds the ids 100 n + 1, 100 n + 2, ... and a mask of its length."""
    ids = 100 * torch.arange(len(lengths))[:, None] + torch.arange(1, longest + 1)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return torch.stack([ids * mask, mask], dim=1)


def test_weak_and_ssl_are_the_texts_as_they_are() -> None:
    data, rows = tokens([3, 5, 4], 5), torch.tensor([2, 0, 2])
    for name in ("weak", "ssl"):
        assert torch.equal(text.VIEWS[name](data, rows, seeded(0), False, CPU), data[rows])
    assert views("text") is text.VIEWS


def test_strong_masks_and_moves_nothing() -> None:
    data, rows = tokens([12, 30], 30), torch.tensor([1, 0, 1])
    view = text.strong(data, rows, seeded(0), False, CPU)
    assert view.dtype == torch.int64
    assert torch.equal(view[:, 0], data[rows, 0])
    assert set(view[:, 1].unique().tolist()) == {0, 1}
    assert (view[:, 1] <= data[rows, 1]).all()
    assert torch.equal(view, text.strong(data, rows, seeded(0), False, CPU))
    assert not torch.equal(view, text.strong(data, rows, seeded(1), False, CPU))
    assert not torch.equal(view[0], view[2])  # a draw for every row
    assert torch.equal(data, tokens([12, 30], 30))  # the table is not written


def gaps_of(mask: Tensor, length: int) -> list[int]:
    """The lengths of the runs of masked tokens inside a text, by a loop."""
    gaps, run = [], 0
    for kept in mask[:length].tolist():
        if kept and run:
            gaps.append(run)
        run = 0 if kept else run + 1
    return [*gaps, run] if run else gaps


def test_without_dropout_one_span_of_up_to_a_fifth_is_deleted(monkeypatch) -> None:
    monkeypatch.setattr(text, "DROPPED", 0.0)
    data = tokens([22], 25)  # 20 tokens between the first and the last
    view = text.strong(data, torch.zeros(6000, dtype=torch.long), seeded(0), False, CPU)
    lengths, first_masked = [], []
    for mask in view[:, 1]:
        gaps = gaps_of(mask, 22)
        assert len(gaps) <= 1
        lengths.append(sum(gaps))
        if sum(gaps) == 1:
            first_masked.append(int((mask[:22] == 0).nonzero()[0]))
    counts = torch.tensor(lengths).bincount()
    assert len(counts) == 5  # 0 to 4 of 20, each in a fifth of the draws: 1200, standard deviation 31
    assert (counts - 1200).abs().max() < 150
    places = torch.tensor(first_masked).bincount(minlength=22)
    assert places[0] == places[21] == 0
    assert (places[1:21] > 25).all()  # 60 expected at each place


def test_without_spans_a_tenth_of_the_inner_tokens_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr(text, "SPAN", 0.0)
    data = tokens([40], 40)
    view = text.strong(data, torch.zeros(1000, dtype=torch.long), seeded(0), False, CPU)
    shares = 1 - view[:, 1].float().mean(0)
    assert shares[0] == shares[39] == 0
    assert abs(float(shares[1:39].mean()) - 0.1) < 0.005
    assert (shares[1:39] - 0.1).abs().max() < 0.05


def test_no_text_loses_all_its_words() -> None:
    lengths = [1, 2, 3, 4, 5]
    data = tokens(lengths, 6)
    rows = torch.arange(5).repeat(2000)
    view = text.strong(data, rows, seeded(0), False, CPU)
    for row, mask in zip(rows.tolist(), view[:, 1], strict=True):
        length = lengths[row]
        assert mask[0] == 1
        assert mask[length - 1] == 1
        assert length < 3 or mask[1 : length - 1].any()
    short = view[rows == 2, 1]
    assert (short.sum(1) == 3).all()  # the only word of a text stays
    assert (view[rows == 4, 1].sum(1) < 5).any()
