import torch
from torch import Tensor

from dafw.augment import features

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def split(count: int, views: int, width: int) -> Tensor:
    """Entry d of view v of row n is 100 n + 10 v + d + 1."""
    rows, view, place = torch.arange(count), torch.arange(views), torch.arange(width)
    return (100 * rows.view(-1, 1, 1) + 10 * view.view(-1, 1) + place + 1).float()


def test_weak_is_the_clean_view_where_there_is_one() -> None:
    data, rows = split(5, 1, 4), torch.tensor([4, 0, 0, 2])
    assert torch.equal(features.weak(data, rows, seeded(0), True, CPU), data[rows, 0])


def test_weak_draws_one_of_several_views_for_every_row() -> None:
    data, rows = split(3, 4, 2), torch.tensor([2, 0, 1]).repeat(400)
    view = features.weak(data, rows, seeded(0), False, CPU)
    chosen = ((view[:, 0] - 1) / 10).round().long() % 10
    assert torch.equal(view, data[rows, chosen])
    assert (chosen.bincount(minlength=4) > 240).all()  # 300 expected of each, standard deviation 15
    assert torch.equal(view, features.weak(data, rows, seeded(0), False, CPU))
    assert not torch.equal(view, features.weak(data, rows, seeded(1), False, CPU))


def test_strong_and_ssl_drop_a_fifth_and_keep_the_mean() -> None:
    data, rows = split(2, 1, 1000), torch.tensor([0, 1, 1])
    for name in ("strong", "ssl"):
        view = features.VIEWS[name](data, rows, seeded(0), False, CPU)
        dropped = view == 0
        assert 0.17 < dropped.float().mean() < 0.23
        torch.testing.assert_close(view[~dropped], (data[rows, 0] / 0.8)[~dropped])
        assert not torch.equal(dropped[1], dropped[2])
