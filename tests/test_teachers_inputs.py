"""Teachers whose inputs are not the student's: other sizes, channels, tokens, features of a frozen network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_registry
import test_teachers
import torch
import whole
from test_bad_input import the_line
from whole import Told, files_of_runs, made_npz, measured, words

import dafw
from dafw.assembly import build_pair, data_of
from dafw.checkpoint import load as load_checkpoint
from dafw.config import Config, config_of, resolve
from dafw.record import Record
from dafw.setting import Output
from dafw.store import as_typed, compose

surroundings, type_here, write = whole.surroundings, whole.type_here, test_registry.write  # fixtures
place, keys, teacher = test_teachers.place, test_teachers.keys, test_teachers.teacher  # fixtures

TEXTS = """
import torch
from torch import nn

from dafw import register_backbone, register_dataset
from dafw.backbone import Backbone
from dafw.domain import Domain, Table
from dafw.modalities.text import bytes_of


def texts(*, seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(48) % 2
    drawn = (2 * labels + torch.randint(2, (48,), generator=generator)).tolist()
    return Table(bytes_of([f"a {('good', 'fine', 'poor', 'grim')[word]} day" for word in drawn]), labels)


@register_dataset("sayings")
def sayings(place, *, seed: int = 0):
    return Domain("sayings", ("up", "down"), texts(seed=seed), texts(seed=seed + 1), modality="text")


sayings.backbone = "letters"


class Letters(Backbone):
    features = 8

    def __init__(self):
        nn.Module.__init__(self)
        self.table = nn.Embedding(300, 8)

    def forward(self, inputs):
        return self.table(inputs[:, 0]).mean(1)


@register_backbone("letters")
def letters(shape, pretrained, *, shifted: int = 0):
    return Letters()


def tokens(given, *, shifted: int = 0):
    rows = torch.tensor([[ord(letter) + shifted for letter in text[:8]] for text in given])
    return torch.stack([rows, torch.ones_like(rows)], dim=1), 0


letters.modality = "text"
letters.tokens = tokens
"""


def answers(config: Config) -> tuple[Output, Output]:
    """What the teacher says of a batch as the student is told it, and as it says itself of the same examples.

    The latter by hand: the inputs that it was trained on, in the rows of the batch, one after the other.
    """
    folder = Path(config.method["teacher"])
    config = resolve(config)
    config, pair, network = build_pair(config, None, lambda _: None)
    examples = pair.batch(3, 8).target
    told = data_of(config, pair, network, None).teacher(folder).answer(examples)
    saved = config_of(load_checkpoint(folder / "checkpoint.pt")["config"])
    _, own, _ = build_pair(replace(saved, backbone={**saved.backbone, "frozen": False}), None, lambda _: None)
    method = dafw.load(folder)
    said = [method.predict(own.target_train.clean(row[None])) for row in examples.index]
    return told, Output(*(torch.cat(parts) for parts in zip(*said, strict=True)))


@pytest.mark.parametrize(
    ("of_teacher", "of_student"),
    [
        ({}, {"image_size": 24}),
        ({}, {"backbone": "published", "backbone.width": None}),  # in colour
        ({}, {"backbone.frozen": True, "init": "random"}),
        ({"backbone.frozen": True, "init": "random"}, {}),
        ({"backbone.frozen": True, "init": "random"}, {"backbone.frozen": True, "init": "random", "seed": 1}),
    ],
    ids=["size", "channels", "features", "frozen teacher", "other features"],
)
def test_a_student_with_other_inputs(
    of_teacher: dict[str, Any], of_student: dict[str, Any], place: Path, keys: dict[str, Any]
) -> None:
    teacher = measured(place / "runs", **{**keys, "method": "dann", **of_teacher})
    own = {**keys, "method": "distil", "method.teacher": teacher.folder, **of_student}
    own = {key: value for key, value in own.items() if value is not None}
    told, said = answers(compose([as_typed(key, value) for key, value in own.items()]))
    torch.testing.assert_close(told.logits, said.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(told.features, said.features, rtol=1e-4, atol=1e-4)
    assert not told.logits.requires_grad
    record = measured(place / "runs", **own)
    assert record.result["depends_on"] == [str(teacher.folder)]


@pytest.mark.parametrize(
    ("method", "of_both"),
    [("dann", {"backbone.frozen": True, "init": "random", "backbone.views": 2}), ("mcd", {})],
    ids=["features of the same network", "answers of two heads"],
)
def test_both_are_shown_the_view_that_was_drawn(
    method: str, of_both: dict[str, Any], place: Path, keys: dict[str, Any]
) -> None:
    """Where they take the same inputs."""
    teacher = measured(place / "runs", **{**keys, **of_both, "method": method})
    config = compose(words(**{**keys, **of_both, "method": "distil", "method.teacher": teacher.folder}))
    config, pair, network = build_pair(resolve(config), None, lambda _: None)
    assert pair.weights == teacher.result["identity"]["weights"]
    examples = pair.batch(3, 8).target
    told = data_of(config, pair, network, None).teacher(teacher.folder).answer(examples)
    torch.testing.assert_close(told.logits, dafw.load(teacher.folder).predict(examples.inputs).logits)


def test_a_teacher_that_reads_other_tokens(
    tmp_path: Path, write: test_registry.Write, type_here: Callable[..., Told]
) -> None:
    """The shapes are the same, and it must be given its own."""
    file = write("sayings.py", TEXTS)
    keys = {"plugins": [file], "src": "sayings", "tgt": "sayings", "tgt.seed": 5, "out": tmp_path / "runs"}
    told = type_here(words(**keys, method="source_only"))
    assert told.code == 0, told
    own = {**keys, "method": "distil", "method.teacher": told.folder}
    assert type_here(words(**own)).code == 0
    other = {**own, "backbone.shifted": 1}
    assert type_here(words(**other)).code == 0
    heard, said = answers(compose(words(**other)))
    torch.testing.assert_close(heard.logits, said.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("sayings", "its backbone=convnet takes image and this pair holds text; expected a run on text"),
        ("colour", "it takes inputs of 1x16x16 and would be given 3x16x16 here; expected a run on as many channels"),
    ],
)
def test_a_teacher_that_cannot_read_what_there_is(
    data: str,
    says: str,
    teacher: Record,
    tmp_path: Path,
    write: test_registry.Write,
    type_here: Callable[..., Told],
) -> None:
    own = {"method": "distil", "method.teacher": teacher.folder, "out": tmp_path / "runs"}
    if data == "colour":
        for name, shift in (("one", 0), ("two", 60)):
            made_npz(tmp_path / f"{name}.npz", colour=True, shift=shift)
        own |= {"src": "npz", "src.path": tmp_path / "one.npz", "tgt": "npz", "tgt.path": tmp_path / "two.npz"}
    else:
        three = (
            TEXTS.replace('("up", "down")', '("a", "b", "c")')
            .replace("% 2", "% 3")
            .replace("'grim'", "'grim', 'so', 'it'")
        )
        own |= {"plugins": [write("sayings.py", three)], "src": "sayings", "tgt": "sayings", "tgt.seed": 5}
    told = type_here(words(**own))
    assert told.code == 2
    assert says in the_line(told)
    assert files_of_runs(tmp_path / "runs") == []
