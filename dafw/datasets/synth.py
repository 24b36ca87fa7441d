"""Digits rendered from the fonts that come with matplotlib: a source that needs no download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dafw import cache
from dafw.datasets._arrays import read_npz
from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

TRAIN, TEST = 5000, 1000
FONTS = ("DejaVu*.ttf", "STIXGeneral*.ttf", "cmb10.ttf", "cmr10.ttf", "cmss10.ttf", "cmtt10.ttf")
POINTS = 44
CANVAS = 128  # holds a rotated, sheared glyph of that size with its jittered box
SIDE = 8


@register_dataset
def synth(place: Place) -> Domain:
    """Digits in 20 fonts, slanted, turned, thickened and cropped at random, white on black, 8x8."""
    import matplotlib
    import PIL

    recipe = (Path(__file__).read_text(encoding="utf-8"), place.split_seed, matplotlib.__version__, PIL.__version__)
    key = hashlib.blake2b(repr(recipe).encode(), digest_size=8).hexdigest()
    path = cache.folder("datasets") / f"synth-{key}.npz"
    if not path.is_file():
        train = drawn(TRAIN, np.random.default_rng((place.split_seed, 0)))
        test = drawn(TEST, np.random.default_rng((place.split_seed, 1)))
        with cache.written_whole(path) as temporary:
            np.savez(
                temporary,
                train_images=train[0],
                train_labels=train[1],
                test_images=test[0],
                test_labels=test[1],
                classes=np.array(list("0123456789")),
            )
    return read_npz(path, "synth")


def font_files() -> list[Path]:
    """The fonts in matplotlib with upright, slanted, thin and thick digits in the usual shapes."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(file for pattern in FONTS for file in folder.glob(pattern) if "Display" not in file.name)


def drawn(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (count, 8, 8) and labels (count,), as many of each digit; every image has a draw of its own."""
    from PIL import ImageFont

    fonts = [ImageFont.truetype(str(file), POINTS) for file in font_files()]
    labels = np.arange(count, dtype=np.int64) % 10
    images = [digit(int(label), fonts[random.integers(len(fonts))], random) for label in labels]
    return np.stack(images), labels


def digit(label: int, font: FreeTypeFont, random: np.random.Generator) -> np.ndarray:
    """One digit, uint8 (8, 8): stroke 0 to 2 px, turn up to 15 degrees, shear up to .25, cropped to its ink."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (CANVAS, CANVAS))
    centre = CANVAS / 2
    stroke = int(random.integers(3))
    ImageDraw.Draw(canvas).text((centre, centre), str(label), fill=255, font=font, anchor="mm", stroke_width=stroke)
    angle, shear = np.deg2rad(random.uniform(-15, 15)), random.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, 1]]
    offset = centre - turn @ [centre, centre]
    matrix = (*turn[0], offset[0], *turn[1], offset[1])
    canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX, box=crop(canvas, random)))


def crop(canvas: Image, random: np.random.Generator) -> tuple[float, float, float, float]:
    """A box around the ink, each side moved by up to 8 % and never much narrower than high (a "1" stays thin)."""
    left, top, right, bottom = canvas.getbbox() or (0, 0, CANVAS, CANVAS)
    height = bottom - top
    width = max(right - left, random.uniform(0.6, 1) * height)
    middle = (left + right) / 2
    moved = random.uniform(-0.08, 0.08, 4)
    return (
        middle - width * (0.5 + moved[0]),
        top - height * moved[1],
        middle + width * (0.5 + moved[2]),
        bottom + height * moved[3],
    )
