"""Teachers whose inputs are not the student's: other sizes, channels, tokens, features of a frozen network."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_registry
import test_teachers
import torch
import whole
from safetensors.torch import save_file
from test_bad_input import the_line
from whole import Told, files_of_runs, made_npz, measured, words

import dafw
from dafw.assembly import build_pair, data_of
from dafw.checkpoint import load as load_checkpoint
from dafw.config import Config, config_of, resolve
from dafw.errors import UsageError
from dafw.record import Record
from dafw.registry import METHODS, load_plugin
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

    The latter by hand: inputs as it was trained on, of the target as the student has it, in the rows of the batch.
    """
    folder = Path(config.method["teacher"])
    config = resolve(config)
    config, pair, network = build_pair(config, None, lambda _: None)
    examples = pair.batch(3, 8).target
    told = data_of(config, pair, network, None).teacher(folder).answer(examples)
    saved = config_of(load_checkpoint(folder / "checkpoint.pt")["config"])
    asked = replace(saved, backbone={**saved.backbone, "frozen": False}, tgt=config.tgt, method=config.method)
    _, own, _ = build_pair(asked, None, lambda _: None)
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
        ({"backbone.frozen": True, "init": "source"}, {"tgt.fraction": 0.6, "tgt.label_shift": 0.5}),
        ({"init": "source"}, {"image_size": 24, "tgt.transductive": True}),
        ({}, {"image_size": 24, "tgt.validation": 0.0}),
    ],
    ids=[
        *["size", "channels", "features", "frozen teacher", "other features", "frozen after a run and stress"],
        *["after a run and transductive", "no validation"],
    ],
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


STREAM = """
from pathlib import Path

from dafw import Method, Setting, register_method
from dafw.setting import Step


@register_method("listener")
class Listener(Method):
    setting = Setting.TEST_TIME
    runs = ("teacher",)
    told = []

    def __init__(self, model, *, teacher: Path):
        super().__init__(model)
        self.teacher = teacher

    def setup(self, data):
        self.ask = data.teacher(self.teacher).answer

    def update(self, batch, progress):
        said = self.ask(batch.target)
        self.told.append((batch.target.index, said.logits))
        yield Step({"nothing": 0 * sum(p.sum() for p in self.model.parameters())})
        return self.model(batch.target.inputs)


@register_method("curious")
class Curious(Method):
    setting = Setting.UNSUPERVISED
    runs = ("teacher",)

    def __init__(self, model, *, teacher: Path):
        super().__init__(model)
        self.teacher = teacher

    def setup(self, data):
        self.ask = data.teacher(self.teacher).answer

    def losses(self, batch, progress):
        return {"nothing": 0 * self.ask(batch.source).logits.sum()}
"""


@pytest.mark.parametrize("size", [16, 24])
def test_a_stream_is_answered_row_by_row(
    size: int, place: Path, keys: dict[str, Any], teacher: Record, write: test_registry.Write
) -> None:
    """In the test-time setting the examples are those of the test split."""
    load_plugin(file := write("listener.py", STREAM))
    own = {"plugins": [file], "method": "listener", "method.teacher": teacher.folder, "image_size": size}
    measured(place / "runs", **{**keys, **own})
    told = METHODS.get("listener").told
    probabilities = torch.cat([logits for _, logits in told]).softmax(1).numpy()
    index = torch.cat([rows for rows, _ in told]).numpy()
    assert sorted(index) == list(range(30))
    np.testing.assert_allclose(probabilities, teacher.predictions()["probabilities"][index], atol=1e-4)


@pytest.mark.parametrize("setting", ["UNSUPERVISED", "SELF_SUPERVISED"])
@pytest.mark.parametrize("size", [16, 24])
def test_a_teacher_is_asked_about_the_target_alone(
    size: int, setting: str, place: Path, keys: dict[str, Any], teacher: Record, write: test_registry.Write
) -> None:
    """Not about the source, with its labels or, in the self-supervised setting, without."""
    load_plugin(file := write("curious.py", STREAM.replace("UNSUPERVISED", setting)))
    own = {"plugins": [file], "method": "curious", "method.teacher": teacher.folder, "image_size": size}
    with pytest.raises(
        UsageError, match=r"asked about the target's unlabelled examples; expected answer\(batch\.target"
    ):
        measured(place / "runs", **{**keys, **own})


def test_what_a_trained_teacher_started_from_may_be_gone(keys: dict[str, Any], tmp_path: Path) -> None:
    teacher = measured(tmp_path, **{**keys, "method": "dann", "init": "source"})
    shutil.rmtree(teacher.result["depends_on"][0])
    assert measured(tmp_path, **{**keys, "method": "distil", "method.teacher": teacher.folder}).accuracy > 0


FLAT = """
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from dafw import register_backbone
from dafw.backbone import Backbone


class Flat(Backbone):
    features = 6

    def __init__(self, shape, path):
        super().__init__()
        self.linear = nn.Linear(16 * 16 * shape[0], 6)
        if path is not None:
            self.linear.load_state_dict(load_file(path))

    def forward(self, inputs):
        return self.linear(inputs.flatten(1))


@register_backbone
def flat(shape, pretrained, *, path: Path):
    return Flat(shape, path if pretrained else None)


flat.published = True
"""


def test_a_frozen_run_whose_weights_were_exchanged_answers_no_more(
    keys: dict[str, Any], tmp_path: Path, write: test_registry.Write
) -> None:
    file, path = write("flat.py", FLAT), tmp_path / "flat.safetensors"
    load_plugin(file)
    save_file({"weight": torch.randn(6, 256), "bias": torch.zeros(6)}, path)
    own = {**keys, "plugins": [file], "backbone": "flat", "backbone.path": path, "backbone.frozen": True}
    own.pop("backbone.width")
    teacher = measured(tmp_path, **{**own, "method": "dann"})
    inputs = torch.zeros((1, 1, 16, 16), dtype=torch.uint8)
    answer = dafw.load(teacher.folder).predict(inputs).logits
    torch.testing.assert_close(dafw.load(teacher.folder).predict(inputs).logits, answer)
    save_file({"weight": torch.randn(6, 256), "bias": torch.ones(6)}, path)
    says = "its frozen backbone=flat is no longer the network that it was trained on .* put it back, or repeat its comm"
    with pytest.raises(UsageError, match=says):
        dafw.load(teacher.folder)
    with pytest.raises(UsageError, match=says):
        measured(tmp_path, **{**keys, "plugins": [file], "method": "distil", "method.teacher": teacher.folder})


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
