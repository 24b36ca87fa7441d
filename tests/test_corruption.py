"""Corruptions against the authors' steps in NumPy, SciPy and PIL; noise by its moments; all by their severities."""

import colorsys
import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from dafw import corruption
from dafw.corruption import CORRUPTIONS, corrupted, defocus_kernel, rotated

SEVERITIES = (1, 2, 3, 4, 5)
NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int, side: int, seed: int = 0) -> Tensor:
    """Smooth random images of the full range with a black and a white square, so that clipping and black count."""
    drawn = torch.rand(count, channels, 5, 5, generator=generator(seed))
    images = torch.nn.functional.interpolate(drawn, (side, side), mode="bilinear").mul(255).round().to(torch.uint8)
    images[:, :, : side // 5, : side // 5] = 0
    images[:, :, side // 2 : side // 2 + side // 5, side // 3 : side // 2] = 255
    return images


def by_image(images: Tensor) -> list[np.ndarray]:
    """(H, W, C) float64 in [0, 1] each, as the authors hold them."""
    return [image.permute(1, 2, 0).double().numpy() / 255 for image in images]


def assert_close(got: Tensor, wanted: list[np.ndarray], most: float = 0.501, but: float = 0.0) -> None:
    """At most rounding away from (H, W, C) in [0, 1]; a share `but` of the values may be a level further."""
    stacked = torch.from_numpy(np.clip(np.stack(wanted), 0, 1) * 255).permute(0, 3, 1, 2)
    distance = (got.double() - stacked).abs()
    assert distance.max() <= most + (1 if but else 0)
    assert (distance > most).double().mean() <= but


def pick(side: int, small: tuple, large: tuple, severity: int):
    return (small if side <= 64 else large)[severity - 1]


# ---- against the authors' steps

BOTH = pytest.mark.parametrize("side", [28, 32, 64, 65, 128])
ALL = pytest.mark.parametrize("severity", SEVERITIES)
CHANNELS = pytest.mark.parametrize("channels", [1, 3])


@ALL
@BOTH
@CHANNELS
def test_contrast_goes_towards_each_channels_mean(severity, side, channels):
    factor = pick(side, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), severity)
    images = pictures(2, channels, side)
    wanted = [(x - x.mean((0, 1), keepdims=True)) * factor + x.mean((0, 1), keepdims=True) for x in by_image(images)]
    assert_close(corrupted(images, "contrast", severity, generator()), wanted)


@ALL
@pytest.mark.parametrize("side", [12, 65])
@CHANNELS
def test_brightness_is_added_to_the_value_of_hsv(severity, side, channels):
    added = pick(side, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), severity)
    images = pictures(1, channels, side)
    wanted = []
    for x in by_image(images.expand(-1, 3, -1, -1)):
        lit = np.zeros_like(x)
        for row in range(side):
            for column in range(side):
                hue, saturation, value = colorsys.rgb_to_hsv(*x[row, column])
                lit[row, column] = colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1))
        wanted.append(lit[:, :, :channels])
    assert_close(corrupted(images, "brightness", severity, generator()), wanted)


def authors_disk(radius: float, smoothing: float) -> np.ndarray:
    """Their `disk`, by loops: OpenCV's Gaussian blur mirrors about the border's centres."""
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    size = 2 * reach + 1
    disk = np.array([[x * x + y * y <= radius**2 for x in range(-reach, reach + 1)] for y in range(-reach, reach + 1)])
    disk = disk / disk.sum()
    taken = range(-taps, taps + 1)
    weights = np.array([math.exp(-(t**2) / (2 * smoothing**2)) for t in taken])
    weights /= weights.sum()
    padded = np.pad(disk, taps, mode="reflect")
    blurred = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            window = padded[y : y + 2 * taps + 1, x : x + 2 * taps + 1]
            blurred[y, x] = weights @ window @ weights
    return blurred


@ALL
@pytest.mark.parametrize("side", [32, 224])
def test_defocus_has_the_authors_kernel_at_their_size(severity, side):
    small = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    large = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    wanted = authors_disk(*pick(side, small, large, severity))
    kernel = defocus_kernel(side, severity)
    edge = (len(wanted) - len(kernel)) // 2
    inner = wanted[edge : len(wanted) - edge, edge : len(wanted) - edge]
    np.testing.assert_allclose(kernel, inner, rtol=0, atol=1e-12)
    assert wanted.sum() - inner.sum() < 1e-4  # nothing but zeros is cut off
    images = pictures(1, 3, side)
    filtered = [
        np.stack([ndimage.correlate(x[..., c], wanted, mode="mirror") for c in range(3)], 2) for x in by_image(images)
    ]
    assert_close(corrupted(images, "defocus_blur", severity, generator()), filtered, most=0.8)


@pytest.mark.parametrize("side", [8, 16, 28, 48, 64, 65, 96, 128, 300])
def test_defocus_spreads_more_with_severity_at_any_size_and_keeps_the_light(side):
    spreads = []
    for severity in SEVERITIES:
        kernel = defocus_kernel(side, severity)
        assert len(kernel) % 2 == 1
        assert kernel.sum() * corruption.UNITS * 255 < 2**24  # whole numbers that float32 holds, in any order
        assert kernel.sum() == pytest.approx(1, abs=0.014)  # the authors' own sums are up to 1.3 % above 1
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
        places = np.arange(len(kernel)) - len(kernel) // 2
        spreads.append((kernel.sum(0) * places**2).sum() / kernel.sum())
    assert all(a < b for a, b in itertools.pairwise(spreads))


def test_a_defocus_length_grows_with_the_image():
    def spread(side: int) -> float:
        kernel = defocus_kernel(side, 5)
        return math.sqrt((kernel.sum(0) * (np.arange(len(kernel)) - len(kernel) // 2) ** 2).sum())

    assert spread(448) == pytest.approx(2 * spread(224), rel=0.01)
    assert spread(112) == pytest.approx(spread(224) / 2, rel=0.03)


@ALL
@pytest.mark.parametrize("side", [28, 32, 40, 96])
@CHANNELS
def test_elastic_is_an_affine_map_and_then_smoothed_noise(severity, side, channels):
    small = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    large = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    unit = side if side <= 64 else side * 244 / 224
    amplitude, sigma, jitter = (unit * value for value in pick(side, small, large, severity))
    images = pictures(2, channels, side)
    drawn = torch.rand(2, 6 + 2 * side * side, generator=generator()).double().numpy() * 2 - 1
    y, x = np.mgrid[:side, :side].astype(float)
    wanted = []
    for image, numbers in zip(by_image(images), drawn, strict=True):
        centre, reach = side // 2, side // 3
        before = np.array([[centre + reach] * 2, [centre + reach, centre - reach], [centre - reach] * 2], dtype=float)
        after = before + jitter * numbers[:6].reshape(3, 2)
        forward = np.vstack([np.linalg.solve(np.c_[before, np.ones(3)], after).T, [0, 0, 1]])
        back = np.linalg.inv(forward) @ np.stack([x.ravel(), y.ravel(), np.ones(side * side)])
        noise = numbers[6:].reshape(2, side, side)
        dx, dy = (amplitude * ndimage.gaussian_filter(n, sigma, mode="reflect", truncate=3) for n in noise)
        planes = []
        for channel in range(channels):
            mapped = ndimage.map_coordinates(image[..., channel], [back[1], back[0]], order=1, mode="mirror")
            moved = [y + dy, x + dx]
            planes.append(ndimage.map_coordinates(mapped.reshape(side, side), moved, order=1, mode="reflect"))
        wanted.append(np.stack(planes, 2))
    assert_close(corrupted(images, "elastic", severity, generator()), wanted, most=0.51, but=1e-3)


@ALL
@pytest.mark.parametrize("side", [8, 17, 28, 32, 60, 96, 128])
@CHANNELS
def test_pixelate_is_pils_box_filter(severity, side, channels):
    fraction = pick(side, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25), severity)
    images = torch.randint(0, 256, (2, channels, side, side), generator=generator()).to(torch.uint8)
    small = (int(side * fraction),) * 2
    got = corrupted(images, "pixelate", severity, generator())
    for image, plane in zip(images.flatten(0, 1), got.flatten(0, 1), strict=True):
        wanted = Image.fromarray(image.numpy()).resize(small, Image.Resampling.BOX)
        wanted = wanted.resize((side, side), Image.Resampling.BOX)
        np.testing.assert_array_equal(plane.numpy(), np.asarray(wanted))


@ALL
@pytest.mark.parametrize("side", [28, 96])
@CHANNELS
def test_jpeg_has_the_authors_quality(severity, side, channels):
    quality = pick(side, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7), severity)
    images = pictures(2, channels, side)
    got = corrupted(images, "jpeg", severity, generator())
    for image, decoded in zip(images, got, strict=True):
        buffer = io.BytesIO()
        given = Image.fromarray(image.permute(1, 2, 0).numpy().squeeze())
        given.save(buffer, "JPEG", quality=quality)
        np.testing.assert_array_equal(decoded.permute(1, 2, 0).numpy().squeeze(), np.asarray(Image.open(buffer)))


# ---- noise, by its moments


def moments(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


@ALL
@pytest.mark.parametrize("side", [32, 80])
@pytest.mark.parametrize("level", [0, 60, 128, 250])
def test_gaussian_noise_has_the_moments_of_the_authors(severity, side, level):
    deviation = pick(side, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38), severity)
    images = torch.full((24, 1, side, side), level, dtype=torch.uint8)
    got = corrupted(images, "gaussian_noise", severity, generator()).numpy().astype(float)
    normal = np.random.default_rng(0).normal(size=200_000, scale=deviation)
    mean, spread = moments(np.clip(level / 255 + normal, 0, 1) * 255)
    assert got.mean() == pytest.approx(mean, abs=5 * spread / math.sqrt(got.size))
    assert got.std() == pytest.approx(spread, rel=0.03)
    if level == 128 and side == 32:  # far from the ends nothing is cut off
        assert got.std() == pytest.approx(255 * deviation, rel=0.02)


@ALL
@pytest.mark.parametrize("side", [32, 80])
@pytest.mark.parametrize("level", [0, 60, 128])
def test_shot_noise_counts_photons(severity, side, level):
    photons = pick(side, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3), severity)
    images = torch.full((24, 1, side, side), level, dtype=torch.uint8)
    got = corrupted(images, "shot_noise", severity, generator()).numpy().astype(float)
    counts = np.random.default_rng(0).poisson(level / 255 * photons, size=200_000)
    mean, spread = moments(np.clip(counts / photons, 0, 1) * 255)
    assert got.mean() == pytest.approx(mean, abs=max(5 * spread / math.sqrt(got.size), 0.3))  # 0.3: rounding
    assert got.std() == pytest.approx(spread, rel=0.03)
    levels = {round(255 * count / photons) for count in range(photons + 1)}
    assert set(np.unique(got).astype(int)) <= levels  # whole photons, nothing between


@ALL
@pytest.mark.parametrize("side", [32, 80])
def test_impulse_noise_is_half_salt_half_pepper(severity, side):
    amount = pick(side, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27), severity)
    images = torch.full((24, 3, side, side), 77, dtype=torch.uint8)
    got = corrupted(images, "impulse_noise", severity, generator())
    tolerance = 5 * math.sqrt(amount / 2 / got.numel())
    for value in (0, 255):
        assert float((got == value).double().mean()) == pytest.approx(amount / 2, abs=tolerance)
    assert bool(((got == 0) | (got == 255) | (got == 77)).all())
    hit = got != 77
    together = float((hit[:, 0] & hit[:, 1]).double().mean())  # channels by themselves
    assert together == pytest.approx(amount**2, abs=5 * amount / math.sqrt(hit[:, 0].numel()))


# ---- what holds of all


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("side", [8, 28, 64, 65, 128])
@CHANNELS
def test_the_change_grows_with_severity(name, side, channels):
    rough = torch.randint(0, 256, (8, channels, side, side), generator=generator()).to(torch.uint8)
    images = pictures(8, channels, side) // 4 * 3 + rough // 4  # in smooth images it is chance which edge meets a box's
    changes = []
    for severity in SEVERITIES:
        got = corrupted(images, name, severity, generator())
        assert got.dtype == torch.uint8
        assert got.shape == images.shape
        changes.append(float((got.double() - images).abs().mean()))
    assert min(changes) > 0
    if name == "elastic":  # the authors trade smooth for rough: their own order is not by pixels
        assert len(set(changes)) == 5
    elif side == 8:  # sides of 7.6 and 7.2 pixels are 7 both
        assert all(a <= b for a, b in itertools.pairwise(changes))
        assert changes[0] < changes[-1]
    else:
        assert all(a < b for a, b in itertools.pairwise(changes)), changes


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_images_depend_on_the_seed_alone_not_on_chunks_or_threads(name, monkeypatch):
    images = pictures(37, 3, 24)
    before = images.clone()
    whole = corrupted(images, name, 4, generator())
    assert torch.equal(images, before)
    assert torch.equal(corrupted(images, name, 4, generator()), whole)
    monkeypatch.setattr(corruption, "CHUNK", 16)
    assert torch.equal(corrupted(images, name, 4, generator()), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(corrupted(images, name, 4, generator()), whole)
    finally:
        torch.set_num_threads(threads)
    other = corrupted(images, name, 4, generator(1))
    assert torch.equal(other, whole) != (name in (*NOISES, "elastic"))


@pytest.mark.parametrize("name", [*NOISES, "elastic"])
def test_each_image_has_noise_of_its_own(name):
    one = pictures(1, 1, 16)
    got = corrupted(one.expand(70, -1, -1, -1), name, 5, generator())
    assert not torch.equal(got[0], got[1])
    assert not torch.equal(got[0], got[64])  # the first of the next chunk


def test_flat_black_and_white_stay_in_range():
    for name in CORRUPTIONS:
        for level in (0, 255):
            got = corrupted(torch.full((2, 3, 16, 16), level, dtype=torch.uint8), name, 5, generator())
            if name in ("defocus_blur", "contrast", "elastic", "pixelate"):
                assert (got == level).all(), name
            elif name == "brightness":
                assert (got == min(level + 76, 255)).all()  # 0.3 * 255 = 76.5, halves to even


def test_no_images_stay_no_images():
    assert corrupted(torch.empty((0, 1, 8, 8), dtype=torch.uint8), "jpeg", 1, generator()).shape == (0, 1, 8, 8)


# ---- rotation


def test_ninety_degrees_are_a_quarter_turn_counter_clockwise():
    images = pictures(3, 3, 12)
    np.testing.assert_array_equal(rotated(images, 90).numpy(), np.rot90(images.numpy(), 1, (2, 3)))
    np.testing.assert_array_equal(rotated(images, -90).numpy(), np.rot90(images.numpy(), -1, (2, 3)))
    assert torch.equal(rotated(images, 360), images)


@pytest.mark.parametrize("degrees", [10.0, -33.3, 150.0])
def test_rotation_is_bilinear_and_black_outside(degrees):
    images = pictures(2, 1, 15)
    centre, angle = 7.0, math.radians(degrees)
    wanted = torch.zeros(2, 15, 15, dtype=torch.float64)
    for row in range(15):
        for column in range(15):
            right, up = column - centre, centre - row
            # the scene turns counter-clockwise, so an output place is read clockwise of it
            x = math.cos(angle) * right + math.sin(angle) * up + centre
            y = centre - (math.cos(angle) * up - math.sin(angle) * right)
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < 15 and 0 <= j < 15:
                        wanted[:, row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * images[:, 0, i, j]
    assert (rotated(images, degrees)[:, 0].double() - wanted).abs().max() <= 0.51


def test_rotation_works_in_chunks():
    images = pictures(3, 3, 20)
    many = images.repeat(50, 1, 1, 1)
    assert torch.equal(rotated(many, 30), rotated(images, 30).repeat(50, 1, 1, 1))
