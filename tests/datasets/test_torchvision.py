"""torchvision's data sets on archives in their published formats, with the table of checksums substituted."""

import bz2
import gzip
import hashlib
import pickle
import shutil
import struct
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, USPS

from dafw.classes import match
from dafw.datasets.cifar10 import cifar10
from dafw.datasets.cifar100 import CLASSES as CIFAR100_CLASSES
from dafw.datasets.cifar100 import cifar100
from dafw.datasets.mnist import mnist
from dafw.datasets.stl10 import stl10
from dafw.datasets.svhn import svhn
from dafw.datasets.usps import usps
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.place import Place

RANDOM = np.random.default_rng(0)
GREY = {part: RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8) for part, count in (("train", 12), ("t10k", 7))}
LABELS = {"train": np.arange(12) % 10, "t10k": np.arange(7)[::-1] % 10, "test": np.arange(7)[::-1] % 10}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def archives(made, make_archives, tmp_path, monkeypatch):
    """A `data=` folder of its own with the made archives of CIFAR-10 and STL-10, whose checksums are the table's."""
    make_archives.substitute_checksums(made, monkeypatch.setattr)
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def mnist_files(tmp_path, monkeypatch):
    """The four .gz files of MNIST in a folder."""
    folder = tmp_path / "mnist_files"
    folder.mkdir()
    resources = []
    for part in ("train", "t10k"):
        images, labels = GREY[part], LABELS[part].astype(np.uint8)
        contents = {
            f"{part}-images-idx3-ubyte.gz": struct.pack(">IIII", 2051, *images.shape) + images.tobytes(),
            f"{part}-labels-idx1-ubyte.gz": struct.pack(">II", 2049, len(labels)) + labels.tobytes(),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(gzip.compress(content))
            resources.append((name, md5(folder / name)))
    monkeypatch.setattr(MNIST, "resources", resources)
    return folder


@pytest.fixture
def usps_files(tmp_path, monkeypatch):
    folder = tmp_path / "usps"
    folder.mkdir()
    table = {}
    for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        levels = RANDOM.integers(0, 256, (len(LABELS[part]), 256))
        lines = [
            f"{label + 1} " + " ".join(f"{i + 1}:{2 * value / 255 - 1:.6f}" for i, value in enumerate(row))
            for label, row in zip(LABELS[part], levels, strict=True)
        ]
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))
        table[part] = ["https://example.org/multiclass/" + name, name, md5(folder / name)]
        np.save(tmp_path / f"usps_{part}.npy", levels)
    monkeypatch.setattr(USPS, "split_list", table)
    return folder


@pytest.fixture
def svhn_files(tmp_path, monkeypatch):
    folder = tmp_path / "svhn"
    folder.mkdir()
    table = {}
    for part, count in (("train", 12), ("test", 7)):
        name = f"{part}_32x32.mat"
        images = RANDOM.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.where(LABELS[part] == 0, 10, LABELS[part]).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / name, {"X": images, "y": labels})
        table[part] = [f"http://example.org/housenumbers/{name}", name, md5(folder / name)]
    monkeypatch.setattr(SVHN, "split_list", table)
    return folder


def refused(dataset, place):
    with pytest.raises(UsageError) as error:
        dataset(place)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cifar10_is_unpacked_and_read_as_it_was_written(archives, make_archives):
    domain = cifar10(Place(data=archives))
    assert (domain.name, domain.flip) == ("cifar10", True)
    assert domain.classes == make_archives.CIFAR10_CLASSES
    assert (len(domain.train), len(domain.test), domain.shape) == (300, 60, (3, 32, 32))
    with (archives / "cifar10" / "cifar-10-batches-py" / "data_batch_2").open("rb") as stream:
        batch = pickle.load(stream)
    for row in (0, 17, 59):
        assert domain.train.inputs[60 + row].flatten().tolist() == batch["data"][row].tolist()
        assert domain.train.labels[60 + row] == batch["labels"][row]
    again = cifar10(Place(data=archives))
    assert again.fingerprint == domain.fingerprint


def test_cifar10_declares_its_recipe():
    assert cifar10.recipe["image_size"] == 32
    assert cifar10.recipe["train.steps"] > 500


@pytest.mark.parametrize("layout", ["own", "shared", "root", "inner"])
def test_cifar10_is_found_where_people_have_it(archives, tmp_path, layout):
    expected = cifar10(Place(data=archives)).fingerprint
    unpacked = archives / "cifar10" / "cifar-10-batches-py"
    shared = tmp_path / "shared"
    if layout == "shared":  # as torchvision's users keep all in one folder
        shutil.copytree(unpacked, shared / "cifar-10-batches-py")
    place = {
        "own": Place(data=archives),
        "shared": Place(data=shared if layout == "shared" else None),
        "root": Place(root=unpacked.parent),
        "inner": Place(root=unpacked),
    }[layout]
    assert cifar10(place).fingerprint == expected


def test_an_old_pickle_is_read_without_a_warning(archives, monkeypatch):
    """The published batches were pickled by an old NumPy, of whose types newer ones may warn."""
    cifar10(Place(data=archives))
    folder = archives / "cifar10" / "cifar-10-batches-py"
    expected = cifar10(Place(root=folder.parent)).fingerprint
    table = [list(entry) for entry in CIFAR10.train_list]
    for entry in table:
        file = folder / entry[0]
        new = file.read_bytes()
        old = new.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")  # dtype("u1", False, True) → dtype("u1", 0, 1)
        assert old != new
        file.write_bytes(old)
        entry[1] = md5(file)
    monkeypatch.setattr(CIFAR10, "train_list", table)
    assert cifar10(Place(root=folder.parent)).fingerprint == expected


def test_stl10_needs_no_unlabelled_images(archives, make_archives):
    domain = stl10(Place(data=archives))
    assert domain.classes == make_archives.STL10_CLASSES
    assert (len(domain.train), len(domain.test), domain.shape, domain.flip) == (100, 80, (3, 96, 96), True)
    folder = archives / "stl10" / "stl10_binary"
    raw = np.fromfile(folder / "test_X.bin", dtype=np.uint8).reshape(-1, 3, 96, 96)
    assert np.array_equal(domain.test.inputs.numpy(), raw.transpose(0, 1, 3, 2))
    assert domain.test.labels.tolist() == (np.fromfile(folder / "test_y.bin", dtype=np.uint8) - 1).tolist()
    theirs = STL10(folder.parent, "train")
    assert np.array_equal(domain.train.inputs.numpy(), theirs.data)
    (folder / "unlabeled_X.bin").unlink()
    assert stl10(Place(data=archives)).fingerprint == domain.fingerprint


def spectra(images):
    """What of a picture does not depend on where its stripes stand: its amplitudes, (N, 32 * 17)."""
    grey = resize(images, 32, 1)[:, 0].float()
    amplitudes = torch.fft.rfft2(grey - grey.mean((1, 2), keepdim=True)).abs().flatten(1)
    return amplitudes / amplitudes.norm(dim=1, keepdim=True)


def test_the_classes_of_the_made_pair_look_alike_across_the_domains(archives):
    """A trial on made archives has something to learn, and something to adapt to."""
    source, target = cifar10(Place(data=archives)), stl10(Place(data=archives))
    pairs = match(source.classes, target.classes)
    of_source, of_target = spectra(source.train.inputs), spectra(target.test.inputs)
    means = torch.stack([of_source[source.train.labels == i].mean(0) for i, _ in pairs])
    right = [
        ((of_target[target.test.labels == j] @ means.T).argmax(1) == number).float().mean()
        for number, (_, j) in enumerate(pairs)
    ]
    assert torch.stack(right).mean() > 0.5
    assert source.train.inputs.float().mean() - target.train.inputs.float().mean() > 50


def test_cifar100_has_its_hundred_classes(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    contents = {"meta": {"fine_label_names": list(CIFAR100_CLASSES)}}
    for part, count in (("train", 100), ("test", 100)):
        data = RANDOM.integers(0, 256, (count, 3072), dtype=np.uint8)
        contents[part] = {"data": data, "fine_labels": list(range(100)), "coarse_labels": [0] * 100}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, 2))
    for part in ("train", "test"):
        monkeypatch.setattr(CIFAR100, f"{part}_list", [[part, md5(folder / part)]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(folder / "meta")})
    domain = cifar100(Place(root=tmp_path))
    assert len(domain.classes) == len(set(domain.classes)) == 100
    assert list(domain.classes) == sorted(domain.classes)
    assert domain.flip
    assert domain.test.labels.tolist() == list(range(100))
    assert domain.train.inputs[3].flatten().tolist() == contents["train"]["data"][3].tolist()


@pytest.mark.parametrize("inner", ["", "MNIST/raw", "raw"])
def test_mnist_is_unpacked_where_it_lies(mnist_files, tmp_path, inner):
    folder = tmp_path / "data" / "mnist" / inner
    shutil.copytree(mnist_files, folder)
    domain = mnist(Place(data=tmp_path / "data"))
    assert np.array_equal(domain.train.inputs[:, 0].numpy(), GREY["train"])
    assert np.array_equal(domain.test.inputs[:, 0].numpy(), GREY["t10k"])
    assert domain.test.labels.tolist() == LABELS["t10k"].tolist()
    assert (domain.name, domain.classes, domain.flip) == ("mnist", tuple("0123456789"), False)
    for file in folder.glob("*.gz"):
        file.unlink()
    assert mnist(Place(data=tmp_path / "data")).fingerprint == domain.fingerprint


def test_mnist_with_a_cut_or_wrong_file_is_told(mnist_files):
    mnist(Place(root=mnist_files))
    labels = mnist_files / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for damaged, reason in ((whole[:-3], "invalid"), (b"", ""), (whole[:-1] + b"\x63", "labels beyond the classes")):
        labels.write_bytes(damaged)
        text = refused(mnist, Place(root=mnist_files))
        assert f"the files in {mnist_files} are incomplete or damaged" in text
        assert reason in text


def test_usps_is_read_as_it_was_written(usps_files, tmp_path):
    domain = usps(Place(root=usps_files))
    for part, table in (("train", domain.train), ("test", domain.test)):
        levels = np.load(tmp_path / f"usps_{part}.npy").reshape(-1, 16, 16)
        assert np.abs(table.inputs[:, 0].numpy().astype(int) - levels).max() <= 1  # torchvision rounds down
        assert table.labels.tolist() == LABELS[part].tolist()
    assert not domain.flip


def test_svhn_calls_10_a_zero(svhn_files):
    domain = svhn(Place(root=svhn_files))
    images = scipy.io.loadmat(svhn_files / "train_32x32.mat")["X"]
    for row in (0, 5, 11):
        assert np.array_equal(domain.train.inputs[row].numpy(), images[..., row].transpose(2, 0, 1))
    assert domain.train.labels.tolist() == LABELS["train"].tolist()
    assert domain.classes == tuple("0123456789")
    assert not domain.flip


def test_a_damaged_archive_is_named_and_not_read(archives, usps_files, svhn_files, mnist_files):
    for dataset, path in (
        (cifar10, archives / "cifar10" / "cifar-10-python.tar.gz"),
        (stl10, archives / "stl10" / "stl10_binary.tar.gz"),
        (usps, usps_files / "usps.t.bz2"),
        (svhn, svhn_files / "test_32x32.mat"),
        (mnist, mnist_files / "t10k-images-idx3-ubyte.gz"),
    ):
        path.write_bytes(path.read_bytes()[:-20])
        text = refused(dataset, Place(root=path.parent))
        assert f"{path} is damaged (its md5 is not" in text
        assert "delete it, and put it there again" in text
        assert {file for file in path.parent.iterdir() if file.is_dir()} == set()


def test_made_archives_are_refused_without_the_substitution(made):
    assert "cifar-10-python.tar.gz is damaged" in refused(cifar10, Place(data=made))


def test_a_damaged_unpacked_file_is_told(archives):
    cifar10(Place(data=archives))
    batch = archives / "cifar10" / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    text = refused(cifar10, Place(data=archives))
    assert f"the files in {archives}/cifar10 are incomplete or damaged" in text
    batch.unlink()
    assert "incomplete or damaged" in refused(cifar10, Place(data=archives))


def test_a_half_of_the_files_is_told(usps_files):
    (usps_files / "usps.t.bz2").unlink()
    text = refused(usps, Place(root=usps_files))
    assert text == f"usps: {usps_files} lacks usps.t.bz2; put it there, from https://example.org/multiclass"


def test_a_folder_that_cannot_be_written_is_told(archives, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    text = refused(cifar10, Place(data=archives))
    assert f"cannot be unpacked in {archives}/cifar10 (Permission denied)" in text


PUBLIC = [mnist, usps, svhn, cifar10, cifar100, stl10]


@pytest.mark.parametrize("dataset", PUBLIC, ids=lambda dataset: dataset.__name__)
def test_what_is_nowhere_and_may_not_be_downloaded_is_told(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", None)
    name = dataset.__name__
    text = refused(dataset, Place(data=tmp_path, download=False))
    assert text.startswith(f"{name}: not found in {tmp_path}/{name} or ")
    assert f"into {tmp_path}/{name} (" in text
    assert text.endswith("or allow download=true)")
    text = refused(dataset, Place(root=tmp_path))  # a root is the user's: nothing is downloaded into it
    assert text.startswith(f"{name}: not found in {tmp_path}; put ")


@pytest.mark.parametrize("dataset", PUBLIC, ids=lambda dataset: dataset.__name__)
def test_without_a_network_one_line_says_what_to_put_where(dataset, cache_folder, monkeypatch, capsys):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    name = dataset.__name__
    text = refused(dataset, Place())
    assert "the download failed: " in text
    assert "no network" in text
    assert f"into {cache_folder}/{name} (" in text
    assert capsys.readouterr().out.startswith(f"{name}: downloading ")
    assert [entry for entry in cache_folder.iterdir() if entry.is_dir()] == []


def test_a_download_is_announced_verified_and_kept(archives, cache_folder, monkeypatch, capsys):
    asked = []

    def deliver(url, filename, **_):
        asked.append(url)
        shutil.copy(archives / "cifar10" / "cifar-10-python.tar.gz", filename)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", deliver)
    domain = cifar10(Place())
    assert capsys.readouterr().out == (
        "cifar10: downloading cifar-10-python.tar.gz, 170 MB from "
        f"https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz, to {cache_folder}/cifar10\n"
    )
    assert domain.fingerprint == cifar10(Place(data=archives)).fingerprint
    assert cifar10(Place(download=False)).fingerprint == domain.fingerprint
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]


def test_a_damaged_download_leaves_nothing_behind(cache_folder, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda _, filename, **__: Path(filename).touch())
    text = refused(cifar10, Place())
    assert "the download failed: File not found or corrupted" in text
    assert [entry for entry in cache_folder.iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize("dataset", [mnist, usps, svhn, cifar10, stl10], ids=lambda dataset: dataset.__name__)
def test_an_npz_of_the_name_is_taken(dataset, tmp_path):
    name = dataset.__name__
    images = RANDOM.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    labels = np.array([0, 1, 1, 0])
    np.savez(
        tmp_path / f"{name}.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        classes=["a", "b"],
    )
    domain = dataset(Place(data=tmp_path))
    assert (domain.name, domain.classes, domain.shape) == (name, ("a", "b"), (3, 6, 6))
    assert domain.flip == (name in ("cifar10", "stl10"))


def test_the_real_samples_are_read(real_data):
    counts = {mnist: (10000, 5000), usps: (7291, 2007), svhn: (5000, 2000), cifar10: (8000, 3000)}
    for dataset, count in counts.items():
        domain = dataset(Place(data=real_data, download=False))
        assert (len(domain.train), len(domain.test)) == count
