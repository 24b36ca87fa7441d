"""The picture of single examples, right and wrong: images, sentences or spectrograms."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dafw.modalities.text import texts_of
from dafw.plots import blank, save, short

MOST = 10  # examples in a row of the strip, or in a column of sentences
LINE = 124  # characters of a sentence in a line, of which there are at most two
BAND = 128  # samples from one column of a spectrogram to the next
RIGHT = "right: {} of {}, {}with the predicted class and the confidence in it, from 0 to 1"
WRONG = "wrong: {} of {}, predicted (true)"

Array = NDArray[Any]
Draw = Callable[[Axes, Array], object]


def examples(
    modality: str,
    shown: Any,
    labels: Any,
    predicted: Any,
    confidences: Any,
    classes: Sequence[str],
    path: Path,
    rate: int | None = None,
) -> Path | None:
    """Examples that were answered right and some answered wrong, each up to ten drawn with a fixed seed.

    shown (N, ...): images (N, C, H, W) uint8, bytes of texts (N, bytes) or clips (N, samples) int16; labels and
    predicted (N,), confidences (N,) in [0, 1]; rate: samples a second, of clips. None, and no picture, for a modality
    that has none.
    """
    if modality not in FIGURES:
        return None
    rows = tuple(map(np.asarray, (labels, predicted, confidences)))
    return save(FIGURES[modality](shown, *rows, classes, rate), path)


def images_figure(shown: Any, labels: Array, predicted: Array, confidences: Array, classes: Any, _: Any) -> Figure:
    figure = blank(11, 3.9)
    strips(figure, image, "", shown, labels, predicted, confidences, classes)
    return figure


def clips_figure(shown: Any, labels: Array, predicted: Array, confidences: Array, classes: Any, rate: int) -> Figure:
    """Spectrograms; all clips are of one length, so the axes of the first in a row hold for the row."""
    figure = blank(11, 4.5)
    draw = partial(spectrogram, rate=rate)
    for first in strips(figure, draw, "spectrograms ", shown, labels, predicted, confidences, classes):
        first.axis("on")
        first.spines[["top", "right"]].set_visible(False)
        first.spines["left"].set_position(("outward", 3))
        first.spines["bottom"].set_position(("outward", 15))  # below the confidence
        first.locator_params(nbins=4, steps=[1, 2, 5, 10])  # steps of 2.5 have numbers too wide for a panel
        first.tick_params(labelsize=7)
        first.set_xlabel("time (s)", fontsize=7)
        first.set_ylabel("frequency (kHz)", fontsize=7)
    return figure


def strips(
    figure: Figure, draw: Draw, what: str, shown: Any, labels: Array, predicted: Array, confidences: Array, classes: Any
) -> list[Axes]:
    """A row of pictures answered right and a row of those answered wrong; the first of each row that has any."""
    pictures, is_right, firsts = np.asarray(shown), labels == predicted, []
    parts: Any = figure.subfigures(2, 1)
    for part, chosen, title in ((parts[0], is_right, RIGHT), (parts[1], ~is_right, WRONG)):
        part.suptitle(title.format(int(chosen.sum()), len(labels), what), fontsize=10, x=0.01, ha="left")
        strip = part.subplots(1, MOST)
        for axes in strip:
            axes.axis("off")
        for axes, row in zip(strip, some(chosen), strict=False):
            draw(axes, pictures[row])
            name = short(classes[predicted[row]], 15)
            name += "" if is_right[row] else f"\n({short(classes[labels[row]], 15)})"
            axes.set_title(name, fontsize=7, parse_math=False)
            axes.text(
                0.5, -0.04, f"{confidences[row]:.2f}", transform=axes.transAxes, ha="center", va="top", fontsize=7
            )
        if chosen.any():
            firsts.append(strip[0])
    return firsts


def some(chosen: Array) -> Array:
    """At most `MOST` of the rows chosen (N,) bool, in their order, the same at each call."""
    return np.sort(np.random.default_rng(0).permutation(chosen.nonzero()[0])[:MOST])


def image(axes: Axes, pixels: Array) -> None:
    """(C, H, W) as imshow wants it: colour last, and the first channel alone where they are not three."""
    axes.imshow(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0], cmap="gray", vmin=0, vmax=255)


def spectrogram(axes: Axes, clip: Array, rate: int) -> None:
    """Seconds to the right, kHz upwards, decibels as brightness, of int16 samples: 60 below the clip's loudest."""
    floor = 1e-9  # silence: -90 dB
    powers = np.abs(np.fft.rfft(frames(clip / 2**15), axis=1)) ** 2 / BAND**2  # 0 dB: a sine of full scale
    decibels = 10 * np.log10(powers.T + floor)
    top = decibels.max()
    # a column lies around the middle of its window, a row around its frequency
    times = (np.array([-0.5, decibels.shape[1] - 0.5]) * BAND + 2 * BAND) / rate
    pitches = np.array([-0.5, 2 * BAND + 0.5]) * rate / (4 * BAND) / 1000
    place = (*times, *pitches)
    axes.imshow(decibels, origin="lower", aspect="auto", extent=place, cmap="magma", vmin=top - 60, vmax=top)
    axes.set(xlim=(0, max(len(clip), 4 * BAND) / rate), ylim=(0, rate / 2000))


def frames(clip: Array) -> Array:
    """Windows (count, 4 BAND) of a clip (T,), each BAND samples after the one before."""
    padded = np.pad(clip, (0, max(0, 4 * BAND - len(clip))))
    return np.lib.stride_tricks.sliding_window_view(padded, 4 * BAND)[::BAND] * np.hanning(4 * BAND)


def sentences_figure(shown: Any, labels: Array, predicted: Array, confidences: Array, classes: Any, _: Any) -> Figure:
    """Sentences answered right above, answered wrong below: predicted (and true), confidence, the sentence."""
    is_right = labels == predicted
    lines: list[tuple[str, str]] = []
    for chosen, title in ((is_right, RIGHT), (~is_right, WRONG)):
        lines.append((title.format(int(chosen.sum()), len(labels), ""), ""))
        rows = some(chosen)
        for row, text in zip(rows, texts_of(shown[rows]), strict=True):
            name = short(classes[predicted[row]], 15)
            name += "" if is_right[row] else f" ({short(classes[labels[row]], 15)})"
            wrapped = textwrap.wrap(" ".join(text.split()), LINE, max_lines=2, placeholder=" …")
            lines.append((f"{name}  {confidences[row]:.2f}", "\n".join(wrapped)))
    figure = blank(11, 0.35 + 0.3 * len(lines) + 0.12 * sum("\n" in text for _, text in lines))
    axes = figure.subplots()
    axes.axis("off")
    axes.set_ylim(sum(map(height, lines)), 0)
    place = 0.0
    for line in lines:
        heading = not line[1]
        for text, across in zip(line, (0.0, 0.18), strict=True):
            axes.text(across, place, text, fontsize=10 if heading else 8, va="top", parse_math=False)
        place += height(line)
    return figure


def height(line: tuple[str, str]) -> float:
    return 1.0 + 0.6 * line[1].count("\n")


FIGURES: dict[str, Callable[..., Figure]] = {
    "image": images_figure,
    "text": sentences_figure,
    "audio": clips_figure,
}
