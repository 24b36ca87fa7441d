"""Corruptions of images in five severities (Hendrycks and Dietterich 2019, ICLR), as batched tensor operations.

Each is a function of uint8 images (N, C, H, W), C = 1 or 3, a severity from 1 to 5 and a generator, and returns uint8
of the same shape. Constants and steps are the authors' (github.com/hendrycks/robustness): those of CIFAR-10-C up to 64
pixels, those of ImageNet-C above. Ours are:

- lengths in pixels grow with the image, by side / 32 or side / 224, the sides that the authors chose them for;
- results are rounded, where the authors' conversion cuts off and so darkens by half a level;
- grey images stay one channel.

Sums are of whole numbers, or in double precision, so that the images do not depend on the number of threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64  # pixels: the largest side that takes the constants of CIFAR-10-C
UNITS = 64_000  # of a blur's weights: all sums are then whole numbers below 2^24, exact in float32 in any order
CHUNK = 64  # images at a time; a multiple of 16, in which torch draws normal numbers, so that chunks draw as the whole


def corrupted(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """uint8 images (N, C, H, W) with the corruption of this name; floats exist of a few images at a time."""
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].contiguous()
        result[start : start + CHUNK] = CORRUPTIONS[name](part, severity, generator)
    return result


def rotated(images: Tensor, degrees: float) -> Tensor:
    """uint8 images (N, C, H, W) turned counter-clockwise about their centre, bilinear, black outside."""
    from torchvision.transforms.v2 import InterpolationMode  # slow to import, and seldom asked for
    from torchvision.transforms.v2.functional import rotate

    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), CHUNK):
        result[start : start + CHUNK] = rotate(images[start : start + CHUNK], degrees, InterpolationMode.BILINEAR)
    return result


# ---- the constants' scale


def side_of(images: Tensor) -> int:
    return min(images.shape[2:])


def _constant(images: Tensor, severity: int, cifar: Sequence[T], imagenet: Sequence[T]) -> T:
    return (cifar if side_of(images) <= SMALL else imagenet)[severity - 1]


def length_scale(side: int) -> float:
    """By how much lengths differ from those that the authors chose for 32 or 224 pixels."""
    return side / (32 if side <= SMALL else 224)


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


# ---- noise


def gaussian_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Normal noise, its standard deviation a fraction of the whole range."""
    deviation = _constant(images, severity, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
    return _to_uint8(images + 255 * deviation * torch.randn(images.shape, generator=generator))


def shot_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Poisson noise of so many photons a white pixel."""
    photons = _constant(images, severity, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    return _to_uint8(torch.poisson(images * (photons / 255), generator=generator) * (255 / photons))


def impulse_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A fraction of all values becomes, by equal chances, 0 or 255; each channel by itself."""
    amount = _constant(images, severity, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    drawn = torch.rand(images.shape, generator=generator)
    return images.masked_fill(drawn < amount, 0).masked_fill(drawn < amount / 2, 255)


# ---- blur


def defocus_blur(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """The image of a lens out of focus: a mean over a disk, past the edges a mirror."""
    kernel = torch.from_numpy(defocus_kernel(side_of(images), severity))
    reach = len(kernel) // 2
    planes = F.pad(images.flatten(0, 1).unsqueeze(1).float(), (reach,) * 4, mode="reflect")
    units = (kernel * UNITS).round().float()
    return _to_uint8(F.conv2d(planes, units.view(1, 1, *units.shape)) / UNITS).view(images.shape)


def defocus_kernel(side: int, severity: int) -> np.ndarray[Any, Any]:
    """The authors' kernel, resampled for images of this side; (K, K) float64, K odd.

    A pixel of the authors' kernel becomes a box as wide as it is now, at least as wide as a pixel. So kernels narrower
    than a pixel still differ, and at 32 and 224 pixels they are the authors' own.
    """
    small = side <= SMALL
    radius, smoothing = (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
        if small
        else ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    )[severity - 1]
    kernel = _smoothed_disk(radius, smoothing)
    reach, scale = len(kernel) // 2, length_scale(side)
    width, new_reach = max(scale, 1.0), int(np.ceil(reach * scale + max(scale, 1.0) / 2 - 0.5))
    places = np.arange(-reach, reach + 1) * scale
    pixels = np.arange(-new_reach, new_reach + 1)[:, None]
    upper, lower = np.minimum(places + width / 2, pixels + 0.5), np.maximum(places - width / 2, pixels - 0.5)
    shares = np.clip(upper - lower, 0, None) / width  # of each old pixel's box in each new pixel
    resampled = shares @ kernel @ shares.T
    empty = int(
        (resampled.max(0) < 0.5 / UNITS).argmin()
    )  # lines at each edge that would only be multiplied by nothing
    return resampled[empty : len(resampled) - empty, empty : len(resampled) - empty]


def _smoothed_disk(radius: float, smoothing: float) -> np.ndarray[Any, Any]:
    """Pixels whose centre is at most `radius` away, together 1, then a Gaussian blur over 3 or 5 pixels."""
    reach, taps = (8, 3) if radius <= 8 else (int(radius), 5)
    line = np.arange(-reach, reach + 1)
    disk = (line**2 + line[:, None] ** 2 <= radius**2).astype(np.float64)
    weights = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * smoothing**2))
    weights /= weights.sum()
    from scipy import ndimage  # slow to import, and seldom asked for

    once = ndimage.convolve1d(disk / disk.sum(), weights, axis=0, mode="mirror")
    smoothed: np.ndarray[Any, Any] = ndimage.convolve1d(once, weights, axis=1, mode="mirror")
    return smoothed


# ---- light


def brightness(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """A constant added to the value of HSV: the largest channel; the others keep their ratio to it."""
    added = 255 * _constant(images, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = images.amax(1, keepdim=True).float()
    brighter = (value + added).clamp(max=255)
    # black has no hue: it becomes grey
    return _to_uint8(torch.where(value == 0, brighter, images * (brighter / value.clamp_min(1))))


def contrast(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Towards the mean of each channel of each image."""
    factor = _constant(images, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = images.sum((2, 3), keepdim=True, dtype=torch.int64).double() / images[0, 0].numel()
    return _to_uint8((images - mean) * factor + mean)


# ---- geometry


def elastic(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A random affine map, then every pixel moved by smoothed noise.

    The authors' severities mix large smooth with small rough displacements: the pixels change more or less, not always
    more, from one to the next.
    """
    amplitude, sigma, jitter = _constant(
        images,
        severity,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    )
    count, _, height, width = images.shape
    side = side_of(images)
    unit = side if side <= SMALL else side * 244 / 224  # 244 is the authors' slip, which ImageNet-C was made with
    drawn = torch.rand(count, 6 + 2 * height * width, generator=generator).double() * 2 - 1
    corners, noise = drawn[:, :6].view(count, 3, 2), drawn[:, 6:].view(count, 2, height, width)

    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=2).view(-1, 3)
    sources = (places @ _affine_maps(height, width, corners * (jitter * unit))).view(count, height, width, 2)
    # reflection about the centres of the border pixels, as OpenCV's default
    grid = 2 * sources / torch.tensor([width - 1, height - 1]) - 1
    mapped = F.grid_sample(images.float(), grid.float(), padding_mode="reflection", align_corners=True)

    down, across = (_smoothing(length, sigma * unit) for length in (height, width))
    moved = amplitude * unit * (down @ noise @ across.T)
    sources = torch.stack([x + moved[:, 0], y + moved[:, 1]], dim=3)
    # reflection about the border itself, as SciPy's "reflect"
    grid = (2 * sources + 1) / torch.tensor([width, height]) - 1
    return _to_uint8(F.grid_sample(mapped, grid.float(), padding_mode="reflection", align_corners=False))


def _affine_maps(height: int, width: int, jitter: Tensor) -> Tensor:
    """(N, 3, 2): [x, y, 1] of the output → [x, y] of the input; three points moved by jitter (N, 3, 2) come from."""
    reach = min(height, width) // 3
    offsets = torch.tensor([[reach, reach], [reach, -reach], [-reach, -reach]], dtype=torch.float64)
    points = torch.tensor([width // 2, height // 2], dtype=torch.float64) + offsets
    moved = torch.cat([points + jitter, torch.ones(len(jitter), 3, 1, dtype=torch.float64)], dim=2)
    return torch.linalg.solve(moved, points.expand(len(jitter), 3, 2))


def _smoothing(length: int, sigma: float) -> Tensor:
    """The matrix (length, length) of a Gaussian filter along one axis, cut at three sigma, past the edges a mirror."""
    from scipy import ndimage  # as above

    return torch.from_numpy(ndimage.gaussian_filter(np.eye(length), (sigma, 0), mode="reflect", truncate=3))


# ---- resolution and compression


def pixelate(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Shrunk to a fraction of the side by PIL's box filter, then enlarged by repetition."""
    fraction = _constant(images, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    height, width = (_boxes(length, int(length * fraction)) for length in images.shape[2:])
    lines = _box_means(images.float(), width)
    small = _box_means(lines.transpose(2, 3), height).transpose(2, 3).to(torch.uint8)
    return small[:, :, _repeated(images.shape[2], len(height))][:, :, :, _repeated(images.shape[3], len(width))]


def _boxes(length: int, boxes: int) -> Tensor:
    """(boxes, length) of 0 and 1: the pixels whose centre lies in each of so many equal boxes."""
    scale = length / boxes
    centres = (np.arange(boxes)[:, None] + 0.5) * scale
    distance = (np.arange(length) - centres + 0.5) * (1.0 / scale)  # in PIL's order, for it decides ties
    return torch.from_numpy((distance > -0.5) & (distance <= 0.5)).float()


def _box_means(lines: Tensor, boxes: Tensor) -> Tensor:
    """Means along the last axis, halves rounded up: PIL rounds to whole levels after each axis."""
    return (lines @ boxes.T / boxes.sum(1) + 0.5).floor()


def _repeated(length: int, boxes: int) -> Tensor:
    return ((torch.arange(length).double() + 0.5) * (boxes / length)).long()


def jpeg(images: Tensor, severity: int, _: torch.Generator) -> Tensor:
    """Encoded and decoded by PIL, one image after the other: a codec is no tensor operation."""
    quality = _constant(images, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
    return torch.stack([_through_jpeg(image, quality) for image in images])


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(C, H, W) uint8 → the same."""
    from PIL import Image  # as above

    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return torch.from_numpy(np.array(decoded)).view(image.shape[1], image.shape[2], -1).permute(2, 0, 1)


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "brightness": brightness,
    "contrast": contrast,
    "elastic": elastic,
    "pixelate": pixelate,
    "jpeg": jpeg,
}
