"""Views of images: split (N, C, S, S) uint8 → (B, C, S, S) float32 in [0, 1], with a draw for every image.

Past its edges an image is black where it is shifted (torchvision's RandomCrop with padding, the habit of the field),
and repeats its edge where it is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def weak(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
    """Shifted by at most an eighth of the size in each direction and, where `flip`, mirrored half of the time."""
    images = data.index_select(0, rows).to(device)
    reach = images.shape[-1] // 8
    offsets = torch.randint(-reach, reach + 1, (2, len(rows)), generator=generator)
    mirrored = torch.rand(len(rows), generator=generator) < (0.5 if flip else 0.0)
    return shifted(images, offsets.to(device), mirrored.to(device), reach).float().div_(255)


def strong(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
    """The weak view, then a random affine map, brightness, contrast, saturation (of colour images), a square cut out.

    It plays the part of RandAugment and Cutout in FixMatch (Sohn et al. 2020, appendix D): rotation of up to 30
    degrees and shear of up to .3 as there, scale .8 to 1.25, factors .5 to 1.5, and the square, grey, up to half as
    wide as the image. Unlike RandAugment, which draws two operations, every one applies, each with its own strength.
    """
    images = weak(data, rows, generator, flip, device)
    draw = _drawing(len(rows), generator, device)
    angle = draw(-math.pi / 6, math.pi / 6)
    matrix = linear_map(angle, draw(-0.3, 0.3), draw(math.log(0.8), math.log(1.25)).exp())
    images = resampled(images, F.pad(matrix, (0, 1)))
    images = brightened(images, draw(0.5, 1.5))
    images = contrasted(images, draw(0.5, 1.5))
    if images.shape[1] == 3:
        images = saturated(images, draw(0.5, 1.5))
    return cut_out(images, draw(0.0, 1.0), draw(0.0, 1.0), draw(0.0, 0.5))


def ssl(data: Tensor, rows: Tensor, generator: torch.Generator, flip: bool, device: torch.device) -> Tensor:
    """The view of SimCLR (Chen et al. 2020, appendix A): crop and resize, flip, colour jitter, grey, blur.

    As in its appendix B.9 on CIFAR-10: strength .5, and no blur, here below 64 pixels. Three things differ: crops
    cover .2 to 1 of the area and not .08 to 1 (MoCo v2, Chen et al. 2020, arXiv:2003.04297; a .08 crop of a small
    image is a few pixels), they end between pixels, and the jitter has the fixed order brightness, contrast,
    saturation, hue. Grey images have only the first two, and never turn grey.
    """
    images = data.index_select(0, rows).to(device).float().div_(255)
    draw = _drawing(len(rows), generator, device)
    sides, corner = drawn_crops(len(rows), generator)
    mirrored = draw(0.0, 1.0) < (0.5 if flip else 0.0)
    images = cropped(images, sides.to(device), corner.to(device), mirrored)
    jittered = brightened(images, draw(0.6, 1.4))
    jittered = contrasted(jittered, draw(0.6, 1.4))
    if images.shape[1] == 3:
        jittered = saturated(jittered, draw(0.6, 1.4))
        jittered = hue_turned(jittered, draw(-0.1, 0.1))
    images = torch.where(_each(draw(0.0, 1.0) < 0.8), jittered, images)
    if images.shape[1] == 3:
        images = torch.where(_each(draw(0.0, 1.0) < 0.2), luminance(images), images)
    if images.shape[-1] >= 64:
        images = torch.where(_each(draw(0.0, 1.0) < 0.5), blurred(images, draw(0.1, 2.0)), images)
    return images.clamp_(0, 1)


VIEWS = {"weak": weak, "strong": strong, "ssl": ssl}


def _drawing(count: int, generator: torch.Generator, device: torch.device | str) -> Callable[[float, float], Tensor]:
    """draw(low, high): uniform numbers (count,), drawn on the CPU whatever the device."""
    return lambda low, high: (torch.rand(count, generator=generator) * (high - low) + low).to(device)


def _each(values: Tensor) -> Tensor:
    """One value an image, (B,) → (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def shifted(images: Tensor, offsets: Tensor, mirrored: Tensor, reach: int) -> Tensor:
    """out[b, :, y, x] = images[b, :, y + offsets[0, b], x + offsets[1, b]], where `mirrored` read from right to left.

    images (B, C, S, S) of any type, 0 outside; offsets (2, B) int64 in [-reach, reach], mirrored (B,) bool.
    """
    batch, channels, size, _ = images.shape
    padded, wide = F.pad(images, (reach, reach, reach, reach)), size + 2 * reach
    places = torch.arange(reach, reach + size, device=images.device)
    down, across = places + offsets.unsqueeze(2)  # (B, S) each
    across = torch.where(mirrored.unsqueeze(1), across.flip(1), across)
    # whole lines are copied first: several times faster than picking pixels by two indices
    first = torch.arange(0, batch * channels * wide, wide, device=images.device).view(batch, channels, 1)
    lines = padded.view(-1, wide).index_select(0, (first + down.unsqueeze(1)).view(-1))
    return lines.view(batch, channels, size, wide).gather(3, across.view(batch, 1, 1, size).expand(images.shape))


def linear_map(angle: Tensor, shear: Tensor, scale: Tensor) -> Tensor:
    """scale x rotation x horizontal shear as matrices (B, 2, 2); angle (B,) in radians."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cos, shear * cos - sin, sin, shear * sin + cos], dim=1).view(-1, 2, 2)


def resampled(images: Tensor, matrices: Tensor) -> Tensor:
    """Each image read, bilinearly, where its matrix (2, 3) sends the places of the output: -1 and 1 are its borders."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    edge = 1 - 1 / images.shape[-1]  # clamped here because MPS lacks padding_mode="border"
    return F.grid_sample(images, grid.clamp_(-edge, edge), align_corners=False)


def drawn_crops(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops: sides (2, count), height and width, and corner (2, count), top and left, fractions of the image."""
    draw = _drawing(count, generator, "cpu")
    area, ratio = draw(0.2, 1.0), draw(math.log(3 / 4), math.log(4 / 3)).exp()
    ratio = torch.minimum(torch.maximum(ratio, area), 1 / area)  # so that the crop fits and keeps its area
    sides = torch.stack([area / ratio, area * ratio]).sqrt().clamp_(max=1)
    return sides, torch.stack([draw(0.0, 1.0), draw(0.0, 1.0)]) * (1 - sides)


def cropped(images: Tensor, sides: Tensor, corner: Tensor, mirrored: Tensor) -> Tensor:
    """The crop of these sides (2, B) at this corner (2, B), fractions of the image, resized to the whole."""
    (height, width), (y, x) = sides, 2 * corner + sides - 1
    none = torch.zeros_like(width)
    rows = [torch.where(mirrored, -width, width), none, x, none, height, y]
    return resampled(images, torch.stack(rows, dim=1).view(-1, 2, 3))


def brightened(images: Tensor, factor: Tensor) -> Tensor:
    """factor (B,) x images, clamped."""
    return (images * _each(factor)).clamp_(0, 1)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards the mean luminance of each image, clamped."""
    return torch.lerp(luminance(images).mean((1, 2, 3), keepdim=True), images, _each(factor)).clamp_(0, 1)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards the luminance of each pixel, clamped."""
    return torch.lerp(luminance(images), images, _each(factor)).clamp_(0, 1)


def luminance(images: Tensor) -> Tensor:
    """(B, C, S, S) → (B, 1, S, S): ITU-R 601 luma of RGB, the mean of any other number of channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def hue_turned(images: Tensor, turns: Tensor) -> Tensor:
    """RGB images in [0, 1] with their hue in HSV moved by `turns` (B,), -1/3 to 1/3 of the whole circle."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = chroma.clamp_min(1e-8)  # a grey pixel has no hue: any will do
    from_green = (blue - red).div_(divisor).add_(2)
    from_blue = (red - green).div_(divisor).add_(4)
    from_red = (green - blue).div_(divisor)
    sixths = torch.where(red == value, from_red, torch.where(green == value, from_green, from_blue))
    sixths.add_(6 * turns.view(-1, 1, 1))
    # a channel lacks all chroma opposite its own hue (0, 2, 4) and none within a sixth of it: a wave of period 6
    lacks = [(sixths - own).abs_().sub_(3).abs_().neg_().add_(2).clamp_(0, 1) for own in (0, 2, 4)]
    return torch.stack([value - chroma * lack for lack in lacks], dim=1)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with sigma (B,) in pixels; the kernel is about a tenth of the size wide."""
    radius = images.shape[-1] // 20
    distance = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.softmax(-(distance**2) / (2 * sigma.unsqueeze(1) ** 2), dim=1)  # (B, 2 radius + 1)
    batch, channels, height, width = images.shape
    planes = F.pad(images, (radius, radius, radius, radius), mode="replicate").flatten(0, 1).unsqueeze(0)
    kernels = kernels.repeat_interleave(channels, dim=0).unsqueeze(1)  # one group of the convolution a plane
    planes = F.conv2d(planes, kernels.unsqueeze(3), groups=batch * channels)
    return F.conv2d(planes, kernels.unsqueeze(2), groups=batch * channels).view(batch, channels, height, width)


def cut_out(images: Tensor, y: Tensor, x: Tensor, side: Tensor) -> Tensor:
    """A grey square of this side around (y, x) in each image, all (B,) and fractions of the image's size."""
    size = images.shape[-1]
    centres = (torch.arange(size, device=images.device) + 0.5) / size
    down, across = ((centres - place.unsqueeze(1)).abs() < side.unsqueeze(1) / 2 for place in (y, x))
    return images.masked_fill((down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1), 0.5)
