"""Class names of different data sets meet by meaning, and only by meaning."""

import pytest

from dafw.classes import SYNONYMS, canonical, match
from dafw.datasets.cifar10 import CLASSES as CIFAR10
from dafw.datasets.cifar100 import CLASSES as CIFAR100
from dafw.datasets.stl10 import CLASSES as STL10
from dafw.errors import UsageError


def names(text: str) -> list[str]:
    return text.split()


VISDA = names("aeroplane bicycle bus car horse knife motorcycle person plant skateboard train truck")
PASCAL = names(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor"
)
OFFICE31 = names(
    "back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer file_cabinet "
    "headphones keyboard laptop_computer letter_tray mobile_phone monitor mouse mug paper_notebook pen phone printer "
    "projector punchers ring_binder ruler scissors speaker stapler tape_dispenser trash_can"
)
OFFICE_CALTECH = names("back_pack bike calculator headphones keyboard laptop_computer monitor mouse mug projector")
OFFICE_HOME = names(
    "Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair Clipboards Computer Couch "
    "Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers Folder Fork Glasses Hammer Helmet "
    "Kettle Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil "
    "Postit_Notes Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker "
    "Spoon TV Table Telephone ToothBrush Toys Trash_Can Webcam"
)
PACS = names("dog elephant giraffe guitar horse house person")
DIGITS = list("0123456789")

PUBLISHED = [CIFAR10, CIFAR100, STL10, VISDA, PASCAL, OFFICE31, OFFICE_CALTECH, OFFICE_HOME, PACS, DIGITS]


def test_cifar10_and_stl10_have_the_nine_published_classes_with_the_published_maps():
    pairs = match(CIFAR10, STL10)
    assert pairs == [(0, 0), (1, 2), (2, 1), (3, 3), (4, 4), (5, 5), (7, 6), (8, 8), (9, 9)]
    assert [CIFAR10[i] for i in range(10) if i not in dict(pairs)] == ["frog"]
    assert [STL10[j] for j in range(10) if j not in dict(pairs).values()] == ["monkey"]
    assert sorted((j, i) for i, j in pairs) == match(STL10, CIFAR10)


def test_pairs_stand_in_the_order_of_the_source():
    assert match(["c", "a", "b"], ["a", "b", "c"]) == [(0, 2), (1, 0), (2, 1)]
    assert match(["a"], ["b"]) == []


@pytest.mark.parametrize("classes", PUBLISHED, ids=lambda classes: classes[0])
def test_no_benchmark_loses_a_class_to_the_synonyms(classes):
    assert match(classes, classes) == [(i, i) for i in range(len(classes))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("automobile", "car"),
        ("aeroplane", "Airplane"),
        ("plane", "airplane"),
        ("motorbike", "motorcycle"),
        ("bike", "bicycle"),
        ("Back Pack", "Backpack"),
        ("back_pack", "back-pack"),
        ("Desk_Lamp", "desk lamp"),
        ("sofa", "Couch"),
        ("tv", "television"),
        ("phone", "Telephone"),
        ("laptop_computer", "Laptop"),
        ("seven", "7"),
        ("Zero", "0"),
    ],
)
def test_these_mean_the_same(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tv", "monitor"),
        ("phone", "mobile_phone"),
        ("truck", "pickup_truck"),
        ("bike", "bike_helmet"),
        ("cat", "cattle"),
        ("desk_chair", "chair"),
        ("10", "1"),
    ],
)
def test_these_do_not(one, other):
    assert canonical(one) != canonical(other)


def test_every_digit_is_found_by_its_word():
    words = names("zero one two three four five six seven eight nine")
    assert match(words, DIGITS) == [(i, i) for i in range(10)]


def test_office31_and_office_home_share_what_they_should():
    shared = {OFFICE31[i]: OFFICE_HOME[j] for i, j in match(OFFICE31, OFFICE_HOME)}
    assert shared["bike"] == "Bike"
    assert shared["back_pack"] == "Backpack"
    assert shared["monitor"] == "Monitor"
    assert shared["phone"] == "Telephone"
    assert "mobile_phone" not in shared
    assert "ring_binder" not in shared
    assert len(match(OFFICE_CALTECH, OFFICE31)) == 10


def test_no_word_stands_in_two_groups_of_synonyms_and_each_is_written_plainly():
    words = [word for group in SYNONYMS for word in group]
    assert len(words) == len(set(words))
    for group in SYNONYMS:
        assert {canonical(word) for word in group} == {group[0]}


@pytest.mark.parametrize("side", [0, 1])
def test_two_names_of_one_data_set_that_mean_the_same_are_an_error(side):
    pair = [["cat", "dog"], ["car", "cat", "Auto-Mobile"]]
    with pytest.raises(UsageError, match="'car' and 'Auto-Mobile'"):
        match(*(pair if side else pair[::-1]))
