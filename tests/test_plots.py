from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix

from dafw import plots

CLASSES = ("cat", "dog", "bird")


def check_picture(path: Path) -> None:
    """A PNG of several hundred pixels a side with something on it."""
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels[..., 1])) > 5


def clusters(count: int, classes: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (4 * np.eye(classes, width)[labels] + random.normal(size=(count, width))).astype(np.float32), labels


# ---- curves


def metrics() -> list[dict[str, float]]:
    lines = []
    for step in (10, 20, 30, 40):
        line = {
            "step": step,
            "loss/classification": 2 / step,
            "loss/domain": 0.7,
            "lr": 0.05,
            "discriminator_accuracy": 0.6,
        }
        if step % 20 == 0:
            line |= {"source/validation_accuracy": 0.9 + step / 1000, "oracle/target_accuracy": 0.7 + step / 1000}
        lines.append(line)
    return lines


def test_curves_draw_losses_left_and_accuracies_right() -> None:
    left, right = plots.curves_figure(metrics()).axes
    assert {line.get_label(): list(map(tuple, line.get_xydata())) for line in left.lines} == {
        "classification": [(10, 0.2), (20, 0.1), (30, pytest.approx(2 / 30)), (40, 0.05)],
        "domain": [(10, 0.7), (20, 0.7), (30, 0.7), (40, 0.7)],
    }
    drawn = {line.get_label(): line.get_xydata() for line in right.lines}
    assert set(drawn) == {"discriminator accuracy", "source validation", "target test (oracle, chooses nothing)"}
    np.testing.assert_allclose(drawn["target test (oracle, chooses nothing)"], [(20, 0.72), (40, 0.74)])
    np.testing.assert_allclose(drawn["source validation"], [(20, 0.92), (40, 0.94)])
    assert len({line.get_color() for line in right.lines}) == 3
    assert [axes.get_xlabel() for axes in (left, right)] == ["step", "step"]
    assert [axes.get_ylabel() for axes in (left, right)] == [
        "loss (mean over training batches)",
        "accuracy (fraction right)",
    ]


def test_curves_leave_out_what_is_not_finite_and_say_when_there_is_nothing(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss/a": float("nan"), "loss/b": None}, {"step": 2, "loss/a": 3.0, "loss/b": None}]
    left, right = plots.curves_figure(lines).axes
    assert [line.get_xydata().tolist() for line in left.lines] == [[[2.0, 3.0]]]
    assert right.texts[0].get_text() == "nothing was logged"
    check_picture(plots.curves([], tmp_path / "none.png"))
    check_picture(plots.curves(metrics(), tmp_path / "some.png"))


# ---- confusion


@pytest.mark.parametrize("size", [2, 3, 10, 15])
def test_confusion_draws_the_counts_of_sklearn(size: int, tmp_path: Path) -> None:
    random = np.random.default_rng(size)
    labels, predicted = random.integers(0, size, 200), random.integers(0, size, 200)
    expected = confusion_matrix(labels, predicted, labels=range(size))
    names = [f"name {n}" for n in range(size)]
    axes = plots.confusion_figure(labels, predicted, names).axes[0]
    written = np.zeros((size, size), dtype=int)
    for text in axes.texts:
        column, row = text.get_position()
        written[row, column] = int(text.get_text())
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_allclose(axes.images[0].get_array(), expected / expected.sum(1, keepdims=True))
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert f"{expected.trace()} of 200 right" in axes.get_title()
    check_picture(plots.confusion(labels, predicted, names, tmp_path / "confusion.png"))


def test_confusion_of_many_classes_writes_no_counts_and_names_them_all(tmp_path: Path) -> None:
    labels = np.arange(65).repeat(3)
    names = [f"class {n}" for n in range(65)]
    axes = plots.confusion_figure(labels, labels, names).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    check_picture(plots.confusion(labels, labels, names, tmp_path / "many.png"))
    check_picture(plots.confusion(labels, labels, names + ["more"] * 280, tmp_path / "more.png"))


@pytest.mark.parametrize(
    ("labels", "predicted"), [([0, 1, 2], [0, 1, 2]), ([0, 1, 2], [1, 2, 0]), ([0, 0], [0, 2]), ([1], [1])]
)
def test_confusion_of_few_examples_has_no_nan(labels: list[int], predicted: list[int], tmp_path: Path) -> None:
    axes = plots.confusion_figure(labels, predicted, CLASSES).axes[0]
    shares = np.asarray(axes.images[0].get_array())
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(1), [float(n in labels) for n in range(3)])
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 3 - len(set(labels))  # a class without an example is marked as such
    check_picture(plots.confusion(labels, predicted, CLASSES, tmp_path / "few.png"))


# ---- t-SNE


def test_tsne_draws_both_domains_in_their_colours_and_classes_in_theirs(tmp_path: Path) -> None:
    source, target = clusters(60, 3, 8, seed=0), clusters(40, 3, 8, seed=1)
    figure = plots.tsne_figure((*source, *target), (*source, *target), CLASSES)
    assert [axes.get_title() for axes in figure.axes] == [
        f"{when} adaptation, by {what}" for when in ("before", "after") for what in ("domain", "class")
    ]
    by_domain, by_class = figure.axes[2:]
    of_source, of_target = by_domain.collections
    assert (len(of_source.get_offsets()), len(of_target.get_offsets())) == (60, 40)
    assert tuple(of_source.get_facecolor()[0, :3]) == to_rgb(plots.DOMAIN_COLOURS["source"])
    drawn = {(tuple(part.get_facecolor()[0, :3]), len(part.get_offsets())) for part in by_class.collections}
    expected = {(to_rgb(plots.PALETTE[n]), count) for n in range(3) for count in (20, [14, 13, 13][n])}
    assert drawn == expected
    together = np.concatenate([of_source.get_offsets(), of_target.get_offsets()])
    by_parts = np.concatenate([part.get_offsets() for part in by_class.collections])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(by_parts, axis=0))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["source", "target", *CLASSES]
    check_picture(plots.tsne(None, (*source, *target), tmp_path / "tsne.png"))


def test_tsne_keeps_clusters_together_and_gives_the_same_places_twice() -> None:
    features, labels = clusters(90, 3, 8, seed=2)
    places = plots.embedded(features)
    np.testing.assert_array_equal(places, plots.embedded(features))
    middles = np.stack([places[labels == n].mean(0) for n in range(3)])
    nearest = ((places[:, None] - middles) ** 2).sum(2).argmin(1)
    assert (nearest == labels).mean() > 0.95


def test_tsne_numbers_the_classes_where_colours_run_out() -> None:
    source = clusters(62, 31, 40, seed=3)
    figure = plots.tsne_figure(None, (*source, *source), [f"thing {n}" for n in range(31)])
    assert [text.get_text() for text in figure.axes[1].texts] == [str(n) for n in range(31)]
    assert [text.get_text() for text in figure.legends[0].get_texts()][2:] == [f"{n} thing {n}" for n in range(31)]


def test_tsne_takes_at_most_500_examples_of_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "embedded", lambda features: features[:, :2])
    source, target = clusters(900, 3, 4, seed=4), clusters(499, 3, 4, seed=5)
    first, second = (plots.tsne_figure(None, (*source, *target)) for _ in range(2))
    of_source, of_target = first.axes[0].collections
    assert (len(of_source.get_offsets()), len(of_target.get_offsets())) == (500, 499)
    rows = {tuple(row) for row in source[0][:, :2].tolist()}
    assert {tuple(row) for row in of_source.get_offsets().tolist()} <= rows
    np.testing.assert_array_equal(of_source.get_offsets(), second.axes[0].collections[0].get_offsets())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("kind", ["random", "equal", "one column"])
def test_tsne_of_few_or_equal_features_is_finite(count: int, kind: str) -> None:
    features = clusters(count, 2, 1 if kind == "one column" else 4, seed=6)[0]
    if kind == "equal":
        features[:] = 0.5
    places = plots.embedded(features)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_tsne_without_a_source_shows_the_target_alone(tmp_path: Path) -> None:
    target = clusters(9, 3, 4, seed=7)
    figure = plots.tsne_figure(None, (None, None, *target))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["target", "0", "1", "2"]
    check_picture(plots.tsne(None, (None, None, *target), tmp_path / "target.png"))


def test_names_that_mean_something_to_matplotlib_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("$x_{$", "_hidden", "猫", "a very long name that no axis could ever hold")
    source = clusters(12, 4, 5, seed=8)
    legend = plots.tsne_figure(None, (*source, *source), names).legends[0]
    assert [text.get_text() for text in legend.get_texts()][2:] == ["$x_{$", "_hidden", "猫", "a very long name …"]
    check_picture(plots.tsne(None, (*source, *source), tmp_path / "tsne.png", names))
    check_picture(plots.confusion(source[1], source[1], names, tmp_path / "confusion.png"))
