import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.augment import image, views
from dafw.errors import UsageError

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_split(count: int, channels: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=seeded(99))


def random_images(count: int, channels: int, size: int) -> Tensor:
    return random_split(count, channels, size).float() / 255


def read_one_by_one(picture: np.ndarray, down: int, across: int, mirrored: bool) -> np.ndarray:
    """The shifted view of one picture (C, S, S), pixel by pixel."""
    size = picture.shape[-1]
    out = np.empty_like(picture)
    for y in range(size):
        for x in range(size):
            column = size - 1 - x if mirrored else x
            from_y, from_x = y + down, column + across
            inside = min(from_y, from_x) >= 0 and max(from_y, from_x) < size
            out[:, y, x] = picture[:, from_y, from_x] if inside else 0
    return out


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 28), (2, 7)])
@pytest.mark.parametrize("flip", [False, True])
def test_weak_equals_a_slow_loop_with_the_same_draws(channels: int, size: int, flip: bool) -> None:
    data, rows = random_split(9, channels, size), torch.tensor([8, 0, 3, 3, 5])
    reach = size // 8
    generator = seeded(4)
    offsets = torch.randint(-reach, reach + 1, (2, 5), generator=generator)
    mirrored = torch.rand(5, generator=generator) < 0.5
    expected = [
        read_one_by_one(data[row].numpy(), int(offsets[0, i]), int(offsets[1, i]), flip and bool(mirrored[i]))
        for i, row in enumerate(rows)
    ]
    view = image.weak(data, rows, seeded(4), flip, CPU)
    assert view.dtype == torch.float32
    np.testing.assert_array_equal(view.numpy(), np.stack(expected).astype(np.float32) / np.float32(255))


def test_weak_shifts_up_to_an_eighth_each_image_on_its_own_and_never_further() -> None:
    size, count = 16, 2000
    data = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    data[0, 0, 8, 8] = 255
    view = image.weak(data, torch.zeros(count, dtype=torch.long), seeded(0), False, CPU)
    places = view.flatten(1).argmax(1)
    moves = torch.stack([places // size - 8, places % size - 8])
    assert view.sum() == count
    counts = torch.zeros(5, 5)
    counts.index_put_((moves[0] + 2, moves[1] + 2), torch.ones(count), accumulate=True)
    assert counts.min() > count / 25 * 0.6  # every one of the 25 shifts, about equally often


def test_weak_is_black_past_the_edges_and_nowhere_else() -> None:
    data = torch.full((1, 3, 16, 16), 7, dtype=torch.uint8)
    view = image.weak(data, torch.zeros(50, dtype=torch.long), seeded(0), True, CPU)
    assert set(view.unique().tolist()) == {0.0, float(torch.tensor(7) / 255)}
    assert (view[..., 2:-2, 2:-2] > 0).all()


@pytest.mark.parametrize("name", ["weak", "ssl"])
def test_flip_mirrors_half_and_only_where_allowed(name: str) -> None:
    count = 1000
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).expand(1, 1, 16, 16).contiguous()  # brighter to the right

    def mirrored(flip: bool) -> int:
        view = image.VIEWS[name](ramp, torch.zeros(count, dtype=torch.long), seeded(1), flip, CPU)
        return int((view[:, 0, 8, 4] > view[:, 0, 8, -5]).sum())  # within what every shift leaves in sight

    assert mirrored(False) == 0
    assert 430 < mirrored(True) < 570  # four and a half standard deviations


@pytest.mark.parametrize("name", ["weak", "strong", "ssl"])
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 32), (3, 64)])
def test_every_view_is_in_range_repeatable_and_drawn_for_each_image(name: str, channels: int, size: int) -> None:
    data = random_split(3, channels, size)
    before = data.clone()
    rows = torch.tensor([1, 1, 1, 1, 2, 2, 0, 0])

    def view(seed: int) -> Tensor:
        return image.VIEWS[name](data, rows, seeded(seed), True, CPU)

    once = view(0)
    assert once.shape == (8, channels, size, size)
    assert once.dtype == torch.float32
    assert once.min() >= 0
    assert once.max() <= 1
    assert torch.equal(once, view(0))
    assert not torch.equal(once, view(1))
    assert len({picture.numpy().tobytes() for picture in once[:4]}) > 1
    assert torch.equal(data, before)


def test_memory_mapped_data_gives_the_same_views(tmp_path) -> None:
    data, rows = random_split(6, 3, 16), torch.tensor([5, 2])
    np.save(tmp_path / "images.npy", data.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    for view in image.VIEWS.values():
        expected = view(data, rows, seeded(3), True, CPU)
        assert torch.equal(view(mapped, rows, seeded(3), True, CPU), expected)


def test_strong_differs_from_weak_by_a_grey_square_of_at_most_half_the_size() -> None:
    square = image.cut_out(
        torch.zeros(3, 3, 8, 8), torch.tensor([0.5, 0.0, 0.25]), torch.full((3,), 0.5), torch.tensor([0.5, 0.5, 0.0])
    )
    expected = torch.zeros(3, 3, 8, 8)
    expected[0, :, 2:6, 2:6] = 0.5
    expected[1, :, 0:2, 2:6] = 0.5  # half of it lies outside
    assert torch.equal(square, expected)


def test_the_linear_map_turns_shears_and_scales() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    quarter = image.linear_map(torch.tensor([math.pi / 2]), zero, one)[0]
    torch.testing.assert_close(quarter, torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
    torch.testing.assert_close(image.linear_map(zero, 0.3 * one, 2 * one)[0], torch.tensor([[2.0, 0.6], [0.0, 2.0]]))
    both = image.linear_map(torch.tensor([0.4]), torch.tensor([0.2]), torch.tensor([1.1]))[0].numpy()
    cos, sin = math.cos(0.4), math.sin(0.4)
    product = 1.1 * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0.2], [0, 1]])
    np.testing.assert_allclose(both, product, rtol=1e-6)


def test_resampling_by_a_quarter_turn_is_a_rotation_of_the_pixels() -> None:
    images = random_images(2, 3, 9)
    matrix = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).expand(2, 2, 3)
    torch.testing.assert_close(image.resampled(images, matrix), images.rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_crops_cover_a_fifth_to_all_of_the_area_inside_the_image() -> None:
    sides, corner = image.drawn_crops(20000, seeded(0))
    area, ratio = sides.prod(0), sides[1] / sides[0]
    assert area.min() >= 0.2 - 1e-5
    assert area.max() <= 1
    assert area.min() < 0.21
    assert area.max() > 0.99
    drawn = torch.rand(20000, generator=seeded(0)) * 0.8 + 0.2  # uniform, and kept whatever the ratio
    torch.testing.assert_close(area, drawn)
    assert ratio.min() >= 3 / 4 - 1e-5
    assert ratio.max() <= 4 / 3 + 1e-5
    assert ratio.min() < 0.76
    assert ratio.max() > 1.32
    assert corner.min() >= 0
    assert (corner + sides).max() <= 1 + 1e-6


def test_a_crop_of_everything_is_the_image_and_of_a_quarter_its_enlargement() -> None:
    images = random_images(2, 3, 8)
    whole, corner = torch.ones(2, 2), torch.zeros(2, 2)
    mirrored = torch.tensor([False, True])
    expected = torch.stack([images[0], images[1].flip(2)])
    torch.testing.assert_close(image.cropped(images, whole, corner, mirrored), expected, rtol=0, atol=1e-5)

    quarter, corner = torch.full((2, 2), 0.5), torch.tensor([[0.5, 0.25], [0.0, 0.5]])  # top, then left
    view = image.cropped(images, quarter, corner, torch.tensor([False, False]))
    for number, (top, left) in enumerate([(4, 0), (2, 4)]):
        for y in range(8):
            for x in range(8):
                place_y, place_x = top + (y + 0.5) / 2 - 0.5, left + (x + 0.5) / 2 - 0.5
                torch.testing.assert_close(
                    view[number, :, y, x], bilinear(images[number], place_y, place_x), rtol=0, atol=1e-5
                )


def bilinear(picture: Tensor, y: float, x: float) -> Tensor:
    """The colour between four pixels of a picture (C, S, S), edges repeated."""
    total = torch.zeros(len(picture))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            total += weight * picture[:, min(max(row, 0), 7), min(max(column, 0), 7)]
    return total


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.1, 1 / 3, -1 / 3])
def test_hue_equals_colorsys(turn: float) -> None:
    colours = [(0.2, 0.4, 0.9), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.9, 0.9, 0.1), (0.3, 0.8, 0.8), (0.7, 0.1, 0.7)]
    colours += [
        (0.5, 0.5, 0.5),
        (0, 0, 0),
        (1, 1, 1),
        (0.31, 0.3, 0.3),
        *map(tuple, torch.rand(30, 3, generator=seeded(2)).tolist()),
    ]
    images = torch.tensor(colours, dtype=torch.float32).T.reshape(1, 3, 1, -1)
    turned = image.hue_turned(images, torch.tensor([turn]))[0, :, 0].T
    for colour, found in zip(colours, turned.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        assert found == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-5)


def test_brightness_contrast_and_saturation_equal_torchvision() -> None:
    from torchvision.transforms.v2 import functional as reference

    images = random_images(4, 3, 8)
    factors = [0.6, 0.9, 1.0, 1.4]
    mine: list[Callable[[Tensor, Tensor], Tensor]] = [image.brightened, image.contrasted, image.saturated]
    theirs = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation]
    for one, other in zip(mine, theirs, strict=True):
        for picture, factor, found in zip(images, factors, one(images, torch.tensor(factors)), strict=True):
            torch.testing.assert_close(found, other(picture, factor), rtol=0, atol=2e-4)  # theirs rounds the weights


def test_contrast_of_grey_images_is_about_their_mean() -> None:
    images = 0.25 + 0.5 * random_images(2, 1, 8)
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(image.contrasted(images, torch.tensor([0.5, 0.5])), mean + 0.5 * (images - mean))


def test_ssl_turns_a_fifth_really_grey_and_leaves_the_others_coloured() -> None:
    colours = torch.tensor([200, 80, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8).contiguous()
    view = image.ssl(colours, torch.zeros(1000, dtype=torch.long), seeded(0), False, CPU)
    is_grey = (view == view[:, :1]).all(dim=3).all(dim=2).all(dim=1)
    spread = (view.amax(1) - view.amin(1)).amax((1, 2))
    assert 145 < int(is_grey.sum()) < 255  # four standard deviations
    assert spread[~is_grey].min() > 0.1


def test_ssl_leaves_a_fifth_without_jitter_and_bounds_the_rest() -> None:
    flat = torch.full((1, 1, 8, 8), 102, dtype=torch.uint8)  # .4; contrast does nothing to an even image
    view = image.ssl(flat, torch.zeros(2000, dtype=torch.long), seeded(0), False, CPU)
    level = view.mean((1, 2, 3))
    untouched = (level - 0.4).abs() < 1e-6
    assert 330 < int(untouched.sum()) < 470
    assert level.min() > 0.4 * 0.6 - 1e-5
    assert level.min() < 0.4 * 0.61
    assert level.max() < 0.4 * 1.4 + 1e-5
    assert level.max() > 0.4 * 1.39


def test_blur_equals_a_slow_convolution_and_keeps_the_mean() -> None:
    images = torch.zeros(2, 2, 64, 64)
    images[:, :, 20:44, 20:44] = random_images(2, 2, 24)
    sigma = torch.tensor([0.1, 1.5])
    blurred = image.blurred(images, sigma)
    torch.testing.assert_close(blurred.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(blurred[0], images[0], rtol=0, atol=1e-6)  # .1 pixels are nothing
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    for y, x in [(30, 30), (18, 25), (44, 21)]:
        patch = images[1, 1, y - 3 : y + 4, x - 3 : x + 4].numpy()
        assert float(blurred[1, 1, y, x]) == pytest.approx(float((patch * kernel).sum()), abs=1e-6)
    even = torch.full((1, 1, 64, 64), 0.3)
    torch.testing.assert_close(image.blurred(even, torch.tensor([2.0])), even)


def test_blur_only_from_64_pixels() -> None:
    def roughness(size: int) -> Tensor:
        """Of a chequered image whose crops are taken as they are: how much neighbours differ, for each view."""
        pixels = torch.arange(size)
        chequered = ((pixels.view(-1, 1) // 8 + pixels // 8) % 2 * 255).to(torch.uint8).expand(1, 1, size, size)
        view = image.ssl(chequered.contiguous(), torch.zeros(200, dtype=torch.long), seeded(0), False, CPU)
        contrast = view.amax((1, 2, 3)) - view.amin((1, 2, 3))
        return (view.diff(dim=3).abs().amax((1, 2, 3))) / contrast

    assert (roughness(56) > 0.4).all()
    assert 0.25 < (roughness(64) < 0.4).float().mean() < 0.6


def test_views_are_found_by_modality() -> None:
    assert views("image") is image.VIEWS
    assert set(views("features")) == {"weak", "strong", "ssl"}
    with pytest.raises(UsageError, match=r"'imag'; did you mean image\?"):
        views("imag")
    with pytest.raises(UsageError, match="known: audio, features, image, text"):
        views("zz")
