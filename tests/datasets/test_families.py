"""Benchmarks of several domains, in the layouts that their archives have."""

import pytest

from dafw.datasets.office31 import office31
from dafw.datasets.office_caltech import office_caltech
from dafw.datasets.office_home import office_home
from dafw.datasets.pacs import pacs
from dafw.errors import UsageError
from dafw.place import Place


@pytest.fixture
def write_domain(write_image):
    """Ten images of two classes in a folder; the red says where they came from."""

    def write(folder, red=0):
        for number in range(10):
            write_image(folder / ("mug", "pen")[number % 2] / f"{number}.jpg", (red, 0, 0))

    return write


LAYOUTS = [
    (office31, "amazon", "office31/amazon"),
    (office31, "webcam", "office31/webcam/images"),
    (office31, "dslr", "office31/domain_adaptation_images/dslr/images"),
    (office31, "dslr", "domain_adaptation_images/dslr/images"),
    (office_caltech, "caltech", "office_caltech/caltech"),
    (office_caltech, "caltech", "office_caltech_10/caltech"),
    (office_home, "art", "office_home/Art"),
    (office_home, "real_world", "office_home/Real World"),
    (office_home, "real_world", "office_home/real_world"),
    (office_home, "clipart", "OfficeHomeDataset_10072016/Clipart"),
    (office_home, "product", "office_home/OfficeHomeDataset_10072016/Product"),
    (pacs, "photo", "pacs/photo"),
    (pacs, "art_painting", "PACS/art_painting"),
    (pacs, "cartoon", "pacs/PACS/kfold/cartoon"),
    (pacs, "sketch", "pacs/kfold/sketch"),
]


@pytest.mark.parametrize(
    ("family", "domain", "folder"), LAYOUTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_domain_is_found_where_people_have_it(tmp_path, write_domain, family, domain, folder):
    write_domain(tmp_path / folder)
    found = family(Place(data=tmp_path, domain=domain))
    assert found.name == f"{family.__name__}/{domain}"
    assert found.classes == ("mug", "pen")
    assert found.train.labels.bincount().tolist() == [3, 3]  # round(.3 * 5) of each are for the test
    assert found.test.labels.bincount().tolist() == [2, 2]
    assert found.flip
    first = folder.split("/")[0]
    assert family(Place(root=tmp_path / first, domain=domain)).fingerprint == found.fingerprint


def test_every_domain_is_its_own_folder(tmp_path, write_domain):
    for number, domain in enumerate(office31.domains):
        write_domain(tmp_path / "office31" / domain, red=80 * number)
    for number, domain in enumerate(office31.domains):
        inputs = office31(Place(data=tmp_path, domain=domain)).train.inputs
        assert abs(float(inputs[:, 0].float().mean()) - 80 * number) < 4


def test_another_familys_domain_of_the_same_name_is_not_taken(tmp_path, write_domain):
    write_domain(tmp_path / "office31" / "amazon")
    write_domain(tmp_path / "amazon")
    with pytest.raises(UsageError, match="office_caltech/amazon: not found"):
        office_caltech(Place(data=tmp_path, domain="amazon"))


def test_families_name_their_domains():
    assert office31.domains == ("amazon", "dslr", "webcam")
    assert office_caltech.domains == ("amazon", "caltech", "dslr", "webcam")
    assert office_home.domains == ("art", "clipart", "product", "real_world")
    assert pacs.domains == ("art_painting", "cartoon", "photo", "sketch")


@pytest.mark.parametrize("family", [office31, office_caltech, office_home, pacs])
def test_an_absent_domain_is_told_with_where_to_get_it(tmp_path, family):
    domain, name = family.domains[0], family.__name__
    with pytest.raises(UsageError) as error:
        family(Place(data=tmp_path, domain=domain))
    text = str(error.value)
    assert text.startswith(f"{name}/{domain}: not found in {tmp_path}/{name} or ")
    assert f"put {domain}/<class>/*.jpg into {tmp_path}/{name} (https://" in text
    assert "\n" not in text


def test_a_larger_test_part_can_be_asked_for(tmp_path, write_domain):
    write_domain(tmp_path / "pacs" / "photo")
    assert len(pacs(Place(data=tmp_path, domain="photo"), test_fraction=0.6).test) == 6


def test_the_real_office31_and_pacs_are_read(real_data):
    sizes = {"amazon": 2817, "dslr": 498, "webcam": 795}
    for domain, size in sizes.items():
        found = office31(Place(data=real_data, domain=domain))
        assert len(found.train) + len(found.test) == size
        assert len(found.classes) == 31
        assert found.shape == (3, 128, 128)
