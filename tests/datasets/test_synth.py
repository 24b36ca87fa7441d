"""The rendered source and the real digits of the default pair."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from dafw.datasets.digits import digits
from dafw.datasets.imagenet import imagenet
from dafw.datasets.synth import crop, drawn, font_files, synth
from dafw.place import Place


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAFW_CACHE", str(tmp_path_factory.mktemp("cache")))
        return synth(Place(split_seed=0))


def test_synth_has_5000_and_1000_images_as_many_of_each_digit(domain):
    assert domain.train.inputs.shape == (5000, 1, 8, 8)
    assert domain.test.inputs.shape == (1000, 1, 8, 8)
    assert domain.train.inputs.dtype == torch.uint8
    assert domain.train.labels.bincount().tolist() == [500] * 10
    assert domain.test.labels.bincount().tolist() == [100] * 10
    assert (domain.name, domain.classes, domain.flip) == ("synth", tuple("0123456789"), False)


def test_synth_draws_every_image_anew(domain):
    every = torch.cat([domain.train.inputs, domain.test.inputs]).flatten(1)
    assert len(every.unique(dim=0)) > 0.999 * len(every)


def test_synth_is_white_ink_on_black_cropped_to_the_ink(domain):
    images = domain.train.inputs[:, 0].float()
    assert 70 < images.mean() < 120
    assert 85 < images.std() < 115
    assert images.amax((1, 2)).min() > 100
    touched = (images > 30).float()
    assert touched.amax(2)[:, [0, 1]].amax(1).mean() > 0.99  # the ink reaches the upper edge ...
    assert touched.amax(2)[:, [6, 7]].amax(1).mean() > 0.99  # ... and the lower
    ones, zeros = (touched[domain.train.labels == digit].mean((0, 1)) for digit in (1, 0))
    assert ones[[0, 7]].mean() < 0.35  # a 1 is not stretched to the box's width
    assert zeros[[1, 6]].mean() > 0.6


def test_the_box_is_the_ink_with_jitter_and_a_thin_digit_is_not_stretched():
    thin, wide = Image.new("L", (300, 300)), Image.new("L", (300, 300))
    ImageDraw.Draw(thin).rectangle((145, 100, 154, 199), fill=255)  # 10 x 100
    ImageDraw.Draw(wide).rectangle((100, 120, 199, 169), fill=255)  # 100 x 50
    random = np.random.default_rng(0)
    widths = {}
    for name, canvas, height in (("thin", thin, 100), ("wide", wide, 50)):
        boxes = np.array([crop(canvas, random) for _ in range(500)])
        left, top, right, bottom = boxes.T
        centre, middle = (150, 150) if name == "thin" else (150, 145)
        widths[name] = right - left
        assert np.abs(((left + right) / 2).mean() - centre) < 1
        assert np.abs(((top + bottom) / 2).mean() - middle) < 1
        assert 1.1 * height < (bottom - top).max() <= 1.16 * height
        assert 0.84 * height <= (bottom - top).min() < 0.9 * height
    assert 0.84 * 60 <= widths["thin"].min() < 60
    assert 100 < widths["thin"].max() <= 116
    assert abs(widths["thin"].mean() - 80) < 3
    assert abs(widths["wide"].mean() - 100) < 2
    assert widths["wide"].min() >= 84


def test_synth_is_learnable_and_unlike_the_real_digits(domain):
    real = digits(Place())
    nearest = KNeighborsClassifier(3).fit(domain.train.inputs.flatten(1).numpy(), domain.train.labels.numpy())
    assert nearest.score(domain.test.inputs.flatten(1).numpy(), domain.test.labels.numpy()) > 0.95
    on_real = nearest.score(real.test.inputs.flatten(1).numpy(), real.test.labels.numpy())
    assert 0.3 < on_real < 0.9


def test_every_font_draws_and_draws_differ():
    assert len(font_files()) == 20
    first, labels = drawn(40, np.random.default_rng(0))
    again, _ = drawn(40, np.random.default_rng(0))
    other, _ = drawn(40, np.random.default_rng(1))
    assert np.array_equal(first, again)
    assert (first != other).any((1, 2)).all()
    assert labels.tolist() == [*range(10)] * 4


def test_synth_is_cached_by_its_seed(monkeypatch, cache_folder):
    monkeypatch.setattr("dafw.datasets.synth.TRAIN", 20)
    monkeypatch.setattr("dafw.datasets.synth.TEST", 10)
    first = synth(Place(split_seed=0))
    (file,) = cache_folder.glob("synth-*.npz")
    monkeypatch.setattr("dafw.datasets.synth.drawn", None)  # what is cached is not drawn again
    assert synth(Place(split_seed=0)).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("DAFW_CACHE", str(cache_folder.parent))
    monkeypatch.setattr("dafw.datasets.synth.TRAIN", 20)
    monkeypatch.setattr("dafw.datasets.synth.TEST", 10)
    assert synth(Place(split_seed=1)).fingerprint != first.fingerprint
    assert len(list(cache_folder.glob("synth-*.npz"))) == 2
    file.unlink()
    assert synth(Place(split_seed=0)).fingerprint == first.fingerprint


def test_the_draws_of_test_are_not_those_of_train(domain):
    assert (domain.train.inputs[:1000] == domain.test.inputs).flatten(1).all(1).sum() == 0


def test_digits_are_scikit_learns_split_stratified():
    domain = digits(Place(split_seed=0))
    assert (len(domain.train), len(domain.test)) == (1078, 719)
    images, labels = load_digits(return_X_y=True)
    counts = np.bincount(labels)
    assert domain.test.labels.bincount().tolist() == [round(0.4 * n) for n in counts]
    expected = sorted(
        (tuple(np.rint(row * 255 / 16).astype(int)), label) for row, label in zip(images, labels, strict=True)
    )
    both = [(t.inputs.flatten(1).tolist(), t.labels.tolist()) for t in (domain.train, domain.test)]
    found = sorted((tuple(row), label) for rows, of in both for row, label in zip(rows, of, strict=True))
    assert found == expected
    assert domain.shape == (1, 8, 8)
    assert not domain.flip


def test_the_split_of_digits_is_that_of_its_seed():
    first, again, other = (digits(Place(split_seed=seed)).test.fingerprint for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_imagenet_has_no_images_but_names_its_network():
    domain = imagenet(Place())
    assert (domain.train, domain.test, domain.classes) == (None, None, ())
    assert imagenet.backbone == "published"
    assert imagenet.recipe == {"image_size": 128, "backbone.feature_dim": 0}
