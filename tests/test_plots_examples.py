"""Pictures of single examples: images, sentences, spectrograms."""

from pathlib import Path

import numpy as np
import pytest
from test_plots import CLASSES, check_picture

from dafw.modalities.text import bytes_of
from dafw.plots_examples import BAND, FIGURES, examples, frames


def test_examples_show_right_and_wrong_with_their_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(30) % 3
    predicted = np.where(np.arange(30) < 26, labels, (labels + 1) % 3)
    confidences = random.random(30)
    figure = FIGURES["image"](inputs, labels, predicted, confidences, CLASSES, None)
    right, wrong = figure.subfigs
    assert right.get_suptitle() == "right: 26 of 30, with the predicted class and the confidence in it, from 0 to 1"
    assert wrong.get_suptitle() == "wrong: 4 of 30, predicted (true)"
    assert not any(axes.axison for part in (right, wrong) for axes in part.axes)
    shown = {True: 0, False: 0}
    for part, is_right in ((right, True), (wrong, False)):
        for axes in part.axes:
            if not axes.images:
                continue
            pixels = np.asarray(axes.images[0].get_array())
            row = next(n for n in range(30) if np.array_equal(inputs[n].transpose(1, 2, 0), pixels))
            assert (labels[row] == predicted[row]) == is_right
            name, true = CLASSES[predicted[row]], CLASSES[labels[row]]
            assert axes.get_title() == (name if is_right else f"{name}\n({true})")
            assert axes.texts[0].get_text() == f"{confidences[row]:.2f}"
            shown[is_right] += 1
    assert shown == {True: 10, False: 4}
    check_picture(examples("image", inputs, labels, predicted, confidences, CLASSES, tmp_path / "examples.png"))


@pytest.mark.parametrize("predicted", [[0, 1, 2], [1, 2, 0], [0, 1, 0]])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_examples_all_right_or_all_wrong(predicted: list[int], channels: int, tmp_path: Path) -> None:
    inputs = np.arange(3 * channels * 64, dtype=np.uint8).reshape(3, channels, 8, 8)
    check_picture(examples("image", inputs, [0, 1, 2], predicted, [0.5, 0.6, 0.7], CLASSES, tmp_path / "few.png"))


def test_names_that_mean_something_to_matplotlib_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("$x_{$", "_hidden", "猫", "a very long name that no axis could ever hold")
    labels = np.arange(12) % 4
    predicted = (labels + (np.arange(12) < 4)) % 4
    texts = [f"$x_{{$ costs {n}$ 猫" for n in range(12)]
    for modality, shown in (("image", np.zeros((12, 1, 8, 8), dtype=np.uint8)), ("text", bytes_of(texts))):
        check_picture(examples(modality, shown, labels, predicted, np.ones(12), names, tmp_path / f"{modality}.png"))


def test_sentences_stand_with_their_answers(tmp_path: Path) -> None:
    texts = [f"sentence number {n} " + "word " * (60 * (n == 3)) for n in range(14)]
    labels = np.arange(14) % 3
    predicted = np.where(np.arange(14) < 12, labels, (labels + 1) % 3)
    figure = FIGURES["text"](bytes_of(texts), labels, predicted, np.linspace(0.5, 1, 14), CLASSES, None)
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[0] == "right: 12 of 14, with the predicted class and the confidence in it, from 0 to 1"
    assert said[said.index("wrong: 2 of 14, predicted (true)") + 2] == f"{CLASSES[1]} ({CLASSES[0]})  0.96"
    drawn = [text for text in said if text.startswith("sentence")]
    assert len(drawn) == 12  # ten of those answered right, and the two
    assert {"sentence number 12", "sentence number 13"} <= set(drawn)
    assert all(text.count("\n") <= 1 for text in drawn)
    check_picture(examples("text", bytes_of(texts), labels, predicted, np.ones(14), CLASSES, tmp_path / "text.png"))


def test_a_tone_is_a_line_at_its_pitch(tmp_path: Path) -> None:
    clip = (0.5 * 2**15 * np.sin(2 * np.pi * 16 / (4 * BAND) * np.arange(4000))).astype(np.int16)
    figure = FIGURES["audio"](clip[None].repeat(2, 0), [0, 1], np.array([0, 1]), np.ones(2), CLASSES, 8000)
    (picture,) = figure.subfigs[0].axes[0].images
    shown = np.asarray(picture.get_array())
    assert set(shown.argmax(0)) == {16}  # sixteen turns in a window
    np.testing.assert_allclose(shown.max(0), -6.02, atol=0.1)  # half of full scale
    np.testing.assert_allclose(picture.get_clim(), (-66.02, -6.02), atol=0.1)  # bright where the clip is loudest
    assert frames(clip).shape == ((4000 - 4 * BAND) // BAND + 1, 4 * BAND)
    clips = np.stack([clip, np.zeros_like(clip)])
    check_picture(examples("audio", clips, [0, 1], [0, 2], [0.5, 0.6], CLASSES, tmp_path / "clips.png", 8000))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_spectrograms_say_seconds_and_kilohertz_once_a_row(rate: int) -> None:
    """A tone of 1 kHz that sounds from 0.25 to 0.5 s of a second stands there by the axes' numbers."""
    times = np.arange(rate) / rate
    sounds = (times >= 0.25) & (times < 0.5)
    clip = (0.5 * 2**15 * np.sin(2 * np.pi * 1000 * times) * sounds).astype(np.int16)
    predicted = np.array([0, 1, 2, 0, 0])
    figure = FIGURES["audio"](clip[None].repeat(5, 0), np.array([0, 1, 2, 1, 2]), predicted, np.ones(5), CLASSES, rate)
    figure.canvas.draw()
    right, wrong = figure.subfigs
    assert right.get_suptitle().startswith("right: 3 of 5, spectrograms with the predicted class")
    for part in (right, wrong):
        first, *others = part.axes
        assert first.axison
        assert not any(axes.axison for axes in others)
        assert (first.get_xlabel(), first.get_ylabel()) == ("time (s)", "frequency (kHz)")
        assert (first.get_xlim(), first.get_ylim()) == ((0, 1), (0, rate / 2000))
        for axis, numbers in ((first.xaxis, first.get_xticklabels()), (first.yaxis, first.get_yticklabels())):
            drawn = {text.get_text(): place for text, place in zip(numbers, axis.get_ticklocs(), strict=True)}
            seen = {text: place for text, place in drawn.items() if 0 <= place <= max(axis.get_view_interval())}
            assert 3 <= len(seen) <= 5
            assert max(map(len, seen)) <= 3  # wider numbers would touch
            assert all(float(text) == pytest.approx(place) for text, place in seen.items())
        (picture,) = first.images
        shown = np.asarray(picture.get_array())
        start, end, low, high = picture.get_extent()
        middle = low + (shown.max(1).argmax() + 0.5) * (high - low) / shown.shape[0]
        assert middle == pytest.approx(1, abs=rate / (4 * BAND) / 2000)
        loud = np.flatnonzero(shown.max(0) > shown.max() - 6)  # windows of which half hears the tone
        edges = start + np.array([loud[0], loud[-1] + 1]) * (end - start) / shown.shape[1]
        np.testing.assert_allclose(edges, [0.25, 0.5], atol=BAND / rate)


def test_a_row_without_spectrograms_has_no_axes() -> None:
    clips = np.ones((2, 4000), dtype=np.int16)
    figure = FIGURES["audio"](clips, np.array([0, 1]), np.array([0, 1]), np.ones(2), CLASSES, 8000)
    right, wrong = figure.subfigs
    assert [axes.axison for axes in right.axes] == [True] + [False] * 9
    assert not any(axes.axison for axes in wrong.axes)


def test_a_modality_without_a_picture_has_none(tmp_path: Path) -> None:
    assert examples("features", np.zeros((2, 4)), [0, 1], [0, 1], [1, 1], CLASSES, tmp_path / "none.png") is None
    assert not list(tmp_path.iterdir())
