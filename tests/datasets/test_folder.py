"""Folders of class folders: layouts, the split, decoding, the cache, and what is wrong with a folder."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from dafw.datasets._folders import decoded
from dafw.datasets.folder import folder
from dafw.errors import UsageError
from dafw.place import Place


@pytest.fixture
def pets(tmp_path, write_image):
    """pets/<cat|dog|eel>/<number>.png, with 4, 6 and 5 images, the red of each its class, the green its number."""
    for label, (name, count) in enumerate({"cat": 4, "dog": 6, "eel": 5}.items()):
        for number in range(count):
            write_image(tmp_path / "pets" / name / f"{number}.png", (100 * label, number, 7))
    return tmp_path / "pets"


def colours(table):
    """(class, number) of every row, as painted."""
    return [(int(image[0, 0, 0]) // 100, int(image[1, 0, 0])) for image in table.inputs]


def test_a_single_folder_is_split_stratified_by_the_split_seed(pets):
    domain = folder(Place(root=pets, split_seed=1))
    assert (domain.name, domain.classes, domain.flip) == ("pets", ("cat", "dog", "eel"), True)
    assert domain.train.labels.bincount().tolist() == [3, 4, 3]
    assert domain.test.labels.bincount().tolist() == [1, 2, 2]
    for table in (domain.train, domain.test):
        assert [label for label, _ in colours(table)] == table.labels.tolist()
    every = [(label, number) for label, count in enumerate((4, 6, 5)) for number in range(count)]
    assert sorted(colours(domain.train) + colours(domain.test)) == every
    assert folder(Place(root=pets, split_seed=1)).fingerprint == domain.fingerprint
    assert colours(folder(Place(root=pets, split_seed=2)).test) != colours(domain.test)
    assert len(folder(Place(root=pets), test_fraction=0.5).test) == 7


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_train_and_test_folders_are_kept_as_they_are(tmp_path, write_image, test):
    for part, numbers in (("train", (0, 1, 2)), (test, (3,))):
        for label, name in enumerate(("cat", "dog")):
            for number in numbers:
                write_image(tmp_path / "pets" / part / name / f"{number}.jpg", (100 * label, 80 * number, 0))
    (tmp_path / "pets" / "README.txt").touch()
    domain = folder(Place(root=tmp_path / "pets"))
    assert domain.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert domain.test.labels.tolist() == [0, 1]
    assert np.abs(domain.test.inputs[:, 1].float().mean((1, 2)).numpy() - 240).max() < 4  # JPEG is not exact
    assert np.abs(domain.train.inputs[3:, 0].float().mean((1, 2)).numpy() - 100).max() < 4


def test_a_class_may_be_called_train(tmp_path, write_image):
    for name in ("train", "truck"):
        for number in range(2):
            write_image(tmp_path / name / f"{number}.png")
    assert folder(Place(root=tmp_path)).classes == ("train", "truck")


def test_images_of_one_small_size_keep_it(tmp_path, write_image):
    for number in range(2):
        write_image(tmp_path / "a" / f"{number}.png", size=(20, 10))
        write_image(tmp_path / "b" / f"{number}.png", size=(20, 10))
    assert folder(Place(root=tmp_path)).shape == (3, 10, 20)
    write_image(tmp_path / "b" / "2.png", size=(20, 11))
    assert folder(Place(root=tmp_path)).shape == (3, 224, 224)
    assert folder(Place(root=tmp_path), size=16).shape == (3, 16, 16)


def test_large_images_become_224(tmp_path, write_image):
    for number in range(4):
        write_image(tmp_path / "ab"[number % 2] / f"{number}.jpg", size=(257, 257))
    assert folder(Place(root=tmp_path)).shape == (3, 224, 224)


def test_down_is_area_averaging_and_up_is_smooth(tmp_path):
    random = np.random.default_rng(0)
    large = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    small = decoded([tmp_path / "large.png"], tmp_path, "x", 4)[0].permute(1, 2, 0)
    for row in range(4):
        for column in range(4):
            block = large[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].astype(float).mean((0, 1))
            assert np.abs(small[row, column].numpy() - block).max() <= 1  # PIL rounds after rows and after columns
    Image.fromarray(np.array([[[0] * 3, [200] * 3]], dtype=np.uint8)).save(tmp_path / "small.png")
    wide = decoded([tmp_path / "small.png"], tmp_path, "x", 8)[0, 0, 0].tolist()
    assert wide == sorted(wide)
    assert len(set(wide)) > 2


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "ppm", "webp"])
def test_every_kind_of_file_is_read(tmp_path, write_image, suffix):
    write_image(tmp_path / f"one.{suffix}", (200, 100, 50))
    image = decoded([tmp_path / f"one.{suffix}"], tmp_path, "x", None)[0].float().mean((1, 2))
    assert (image - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 6


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 90, (90, 90, 90)), ("RGBA", (1, 2, 3, 9), (1, 2, 3))])
def test_grey_and_transparent_images_become_rgb(tmp_path, write_image, mode, colour, expected):
    write_image(tmp_path / "one.png", colour, mode=mode)
    assert tuple(decoded([tmp_path / "one.png"], tmp_path, "x", None)[0, :, 0, 0].tolist()) == expected


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    palette = Image.new("P", (4, 4))
    palette.putpalette([9, 8, 7] * 256)
    palette.save(tmp_path / "one.png", transparency=bytes([0, 255] * 128))
    assert decoded([tmp_path / "one.png"], tmp_path, "x", None)[0, :, 0, 0].tolist() == [9, 8, 7]


def test_images_are_decoded_once_and_memory_mapped(pets, cache_folder, capsys, monkeypatch):
    first = folder(Place(root=pets))
    assert "pets: decoding 15 images into the data cache, once" in capsys.readouterr().out
    (file,) = (cache_folder / "images").iterdir()
    assert np.load(file).shape == (15, 3, 12, 12)
    monkeypatch.setattr(Image, "open", None)
    again = folder(Place(root=pets))
    assert capsys.readouterr().out == ""
    assert again.fingerprint == first.fingerprint
    assert again.train.inputs.untyped_storage().data_ptr() == again.test.inputs.untyped_storage().data_ptr()
    again.train.inputs[:] = 0  # a copy of what is written, never the file
    assert folder(Place(root=pets)).fingerprint == first.fingerprint


def test_a_changed_file_is_decoded_anew(pets, write_image):
    before = folder(Place(root=pets))
    write_image(pets / "cat" / "0.png", (0, 0, 99))
    os.utime(pets / "cat" / "0.png", ns=(1, 1))
    after = folder(Place(root=pets))
    blue = torch.cat([after.train.inputs, after.test.inputs])[:, 2, 0, 0]
    assert sorted(blue.tolist()) == [7] * 14 + [99]
    assert before.fingerprint != after.fingerprint


def test_the_same_names_in_another_folder_are_other_images(tmp_path, write_image):
    for base, blue in (("one", 1), ("two", 2)):
        for number in range(4):
            os.utime(write_image(tmp_path / base / "ab"[number % 2] / f"{number}.bmp", (0, 0, blue)), ns=(1, 1))
    for base, blue in (("one", 1), ("two", 2)):
        assert set(folder(Place(root=tmp_path / base)).train.inputs[:, 2].flatten().tolist()) == {blue}


def test_hidden_files_and_clutter_are_passed_over(pets):
    for name in (".DS_Store", "Thumbs.db", "._1.png", "desktop.ini"):
        (pets / "cat" / name).write_text("clutter")
    (pets / ".git").mkdir()
    assert len(folder(Place(root=pets)).train) == 10


def message(place, **options):
    with pytest.raises(UsageError) as error:
        folder(place, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_folder_is_told_with_the_layout(tmp_path):
    assert f"root={tmp_path}/none: no such folder" in message(Place(root=tmp_path / "none"))
    assert "root=DIR; expected train/<class>/*.jpg" in message(Place())
    assert f"{tmp_path} has no class folders; expected train/<class>/*.jpg" in message(Place(root=tmp_path))


def test_an_empty_class_folder_is_named(pets):
    (pets / "fox").mkdir()
    assert f"the class folder {pets}/fox is empty" in message(Place(root=pets))


def test_a_train_folder_without_a_test_folder_is_told(tmp_path, write_image):
    write_image(tmp_path / "train" / "cat" / "0.png")
    assert "has train/ but none of test/, val/, validation/" in message(Place(root=tmp_path))
    write_image(tmp_path / "test" / "dog" / "0.png")
    assert "the class 'cat' is in only one of train/ and test/" in message(Place(root=tmp_path))


def test_a_class_of_one_image_cannot_be_split(pets, write_image):
    write_image(pets / "fox" / "0.png")
    assert f"{pets}/fox: one image; expected two or more of 'fox'" in message(Place(root=pets))


def test_a_truncated_image_is_named_and_leaves_nothing_half_written(pets, cache_folder):
    for suffix, quality in (("jpg", {"quality": 95}), ("png", {})):
        file = pets / "dog" / f"half.{suffix}"
        pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, **quality)
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 3 // 4])
        text = message(Place(root=pets))
        assert text.startswith(f"{file} is not a whole image")
        assert text.endswith("delete it or replace it")
        file.unlink()
    assert list((cache_folder / "images").iterdir()) == []


@pytest.mark.parametrize("size", [None, 8])
def test_a_file_that_is_no_image_is_named(pets, size):
    (pets / "dog" / "text.png").write_text("hello")
    assert message(Place(root=pets), size=size).startswith(f"{pets}/dog/text.png is not a whole image")


@pytest.mark.parametrize("name", ["notes.txt", "inner"])
def test_what_should_not_be_in_a_class_folder_is_named(pets, name):
    if name == "inner":
        (pets / "eel" / name).mkdir()
    else:
        (pets / "eel" / name).touch()
    assert message(Place(root=pets)).startswith(f"{pets}/eel/{name} is not a whole image")


def test_options_out_of_range_are_told(pets):
    assert "size=0: expected the side of the images in pixels" in message(Place(root=pets), size=0)
    assert "test_fraction=1.0: expected a number between 0 and 1" in message(Place(root=pets), test_fraction=1.0)
