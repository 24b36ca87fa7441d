"""MNIST-M in the two forms in which people have it."""

import numpy as np
import pytest

from dafw.datasets.mnistm import mnistm
from dafw.errors import UsageError
from dafw.place import Place


@pytest.fixture
def files(tmp_path, write_image):
    """mnist_m_train and mnist_m_test with their lists; the red of an image is 20 times its label."""
    folder = tmp_path / "mnistm"
    for part, labels in (("train", [3, 1, 4, 1, 5]), ("test", [9, 2])):
        for number, label in enumerate(labels):
            write_image(folder / f"mnist_m_{part}" / f"{number:08d}.png", (20 * label, 0, 0), size=(32, 32))
        lines = [f"{number:08d}.png {label}" for number, label in enumerate(labels)]
        (folder / f"mnist_m_{part}_labels.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("nested", [False, True])
def test_the_folders_are_read_by_their_lists(files, nested):
    if nested:
        (files / "mnist_m").mkdir()
        for entry in list(files.glob("mnist_m_*")):
            entry.rename(files / "mnist_m" / entry.name)
    domain = mnistm(Place(data=files.parent))
    assert (domain.name, domain.classes, domain.flip) == ("mnistm", tuple("0123456789"), False)
    assert domain.shape == (3, 32, 32)
    assert domain.train.labels.tolist() == [3, 1, 4, 1, 5]
    assert domain.test.labels.tolist() == [9, 2]
    for table in (domain.train, domain.test):
        assert (table.inputs[:, 0, 0, 0] // 20).tolist() == table.labels.tolist()
    assert mnistm(Place(root=files)).fingerprint == domain.fingerprint


def test_the_npz_is_read(tmp_path):
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "mnistm.npz", **arrays, classes=["0", "1"])
    assert mnistm(Place(data=tmp_path)).name == "mnistm"


def message(place):
    with pytest.raises(UsageError) as error:
        mnistm(place)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_which_files_go_where_is_told(tmp_path):
    text = message(Place(data=tmp_path))
    assert "put mnistm.npz, or mnist_m_train/, mnist_m_train_labels.txt, mnist_m_test/ and" in text
    assert f"into {tmp_path}/mnistm (mnist_m.tar.gz from" in text


def test_a_missing_list_is_told(files):
    (files / "mnist_m_test_labels.txt").unlink()
    assert message(Place(root=files)) == (
        f"mnistm: {files} lacks mnist_m_test_labels.txt; put it there, beside mnist_m_test/"
    )


@pytest.mark.parametrize("line", ["00000001.png 10", "00000001.png", "missing.png 3", "00000001.png x", " 3"])
def test_a_line_that_names_no_image_and_digit_is_told(files, line):
    listing = files / "mnist_m_train_labels.txt"
    listing.write_text(f"00000000.png 3\n{line}\n")
    assert message(Place(root=files)).startswith(f"{listing}:2: {line!r}; expected the name of a file")


def test_an_empty_list_is_told(files):
    (files / "mnist_m_train_labels.txt").write_text("")
    assert "mnist_m_train_labels.txt is empty" in message(Place(root=files))


def test_the_real_sample_is_read(real_data):
    domain = mnistm(Place(data=real_data))
    assert (len(domain.train), len(domain.test)) == (5000, 2000)
