"""The pictures of a diagnosis: what they draw, read back from matplotlib."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from dafw import plots_diagnosis
from dafw.diagnosis import plain, reliability


def found(temperature: float | None = 2.0, source: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 3, (300, 4)), random.integers(0, 4, 300)
    counts = random.integers(0, 20, (2, 20)).tolist()
    return plain(
        {
            "calibration": {
                "before": reliability(logits, labels),
                "after": reliability(logits / temperature, labels) if temperature else None,
                "temperature": temperature,
                "at_bound": temperature == 20.0,
            },
            "entropy": {
                "edges": np.linspace(0, np.log(4), 21),
                "source": counts[0] if source else None,
                "target": counts[1],
                "source_mean": 0.25 if source else None,
                "target_mean": 0.5,
            },
        }
    )


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_label(): axes for axes in figure.axes}


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_reliability_draws_the_bins_that_have_examples():
    given = found()
    curve = panels(plots_diagnosis.calibration_figure(given))["curve"]
    diagonal, before, after = (line.get_xydata() for line in curve.lines)
    assert diagonal.tolist() == [[0, 0], [1, 1]]
    for drawn, name in ((before, "before"), (after, "after")):
        bins = given["calibration"][name]["bins"]
        pairs = zip(bins["confidence"], bins["accuracy"], strict=True)
        assert drawn.tolist() == [[c, a] for c, a in pairs if c is not None]
    ece, nll = given["calibration"]["after"]["ece"], given["calibration"]["after"]["nll"]
    assert legend(curve)[1] == f"temperature 2.00: ECE {ece:.3f}, NLL {nll:.3f}"


def test_the_end_of_the_search_and_a_missing_temperature_are_seen():
    assert (
        "temperature 20.00, the search's end"
        in legend(panels(plots_diagnosis.calibration_figure(found(20.0)))["curve"])[1]
    )
    curve = panels(plots_diagnosis.calibration_figure(found(None)))["curve"]
    assert len(curve.lines) == 2
    assert len(legend(curve)) == 1


def test_entropies_are_shares_of_each_domain():
    given = found()
    axes = panels(plots_diagnosis.calibration_figure(given))["entropy"]
    shares = np.array(given["entropy"]["source"]) / sum(given["entropy"]["source"])
    np.testing.assert_allclose(axes.patches[0].get_data().values, shares)
    assert legend(axes) == ["source test: mean 0.250", "target test: mean 0.500"]
    alone = panels(plots_diagnosis.calibration_figure(found(source=False)))["entropy"]
    assert legend(alone) == ["target test: mean 0.500"]


def rows(changes: list[float]) -> list[dict[str, Any]]:
    return [
        {"class": f"class {i}", "examples": 10 + i, "accuracy": 0.5 + c, "lower": 0.5, "change": c, "p": 0.01 + 0.3 * i}
        for i, c in enumerate(changes)
    ]


def test_bars_say_who_is_helped_and_who_is_harmed():
    figure = plots_diagnosis.changes_figure({"per_class": rows([0.3, 0.0, -0.25])}, np.zeros((3, 3)), ["a", "b", "c"])
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([30, 0, -25])
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [
        plots_diagnosis.CHANGE_COLOURS[word].lower() for word in ("helped", "unchanged", "harmed")
    ]
    assert [text.get_text() for text in axes.texts] == ["+30*", "0", "-25"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 0 (10)", "class 1 (11)", "class 2 (12)"]
    assert legend(axes) == ["helped: 1", "harmed: 1", "unchanged: 1"]
    assert axes.yaxis_inverted()  # the most helped on top


def test_the_difference_is_centred_at_zero():
    difference = np.array([[0.2, -0.2], [-0.4, 0.4]])
    axes = plots_diagnosis.changes_figure({"per_class": rows([0.2, 0.4])}, difference, ["a", "b"]).axes[1]
    image = axes.images[0]
    np.testing.assert_array_equal(image.get_array(), difference)
    assert (image.norm.vmin, image.norm.vmax) == (-0.4, 0.4)
    written = {tuple(int(v) for v in text.get_position()): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "+20", (1, 0): "-20", (0, 1): "-40", (1, 1): "+40"}


def test_no_change_is_drawn_as_none():
    figure = plots_diagnosis.changes_figure({"per_class": rows([0.0, 0.0])}, np.zeros((2, 2)), ["a", "b"])
    image = figure.axes[1].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-plots_diagnosis.LEAST_SCALE, plots_diagnosis.LEAST_SCALE)
    assert list(figure.axes[1].texts) == []


def check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20


@pytest.mark.parametrize("size", [2, 65, 200])
def test_pictures_are_written_and_names_do_not_overlap(size: int, tmp_path: Path):
    names = [f"a name that is rather long ${i}_" for i in range(size)]
    changes = np.linspace(0.5, -0.5, size)
    given = {"per_class": rows(changes.tolist())}
    path = plots_diagnosis.changes(given, np.diag(changes), names, tmp_path / "changes.png")
    check_picture(path)
    figure = plots_diagnosis.changes_figure(given, np.diag(changes), names)
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        boxes = sorted((t.get_window_extent().y0, t.get_window_extent().y1) for t in axes.get_yticklabels())
        assert all(low[1] <= high[0] + 1 for low, high in itertools.pairwise(boxes))
    check_picture(plots_diagnosis.calibration(found(), tmp_path / "calibration.png"))
