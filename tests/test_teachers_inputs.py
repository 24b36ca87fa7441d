"""Teachers that read texts, and teachers of frozen networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_registry
import test_teachers
import whole
from test_bad_input import the_line
from whole import Told, files_of_runs, measured, words

from dafw.errors import UsageError

surroundings, type_here, write = whole.surroundings, whole.type_here, test_registry.write  # fixtures
place, keys, teacher = test_teachers.place, test_teachers.keys, test_teachers.teacher  # fixtures
student = test_teachers.student

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


def test_a_teacher_that_reads_other_tokens(
    tmp_path: Path, write: test_registry.Write, type_here: Callable[..., Told]
) -> None:
    """The shapes are the same, and its answers would mean nothing."""
    file = write("sayings.py", TEXTS)
    keys = {"plugins": [file], "src": "sayings", "tgt": "sayings", "tgt.seed": 5, "out": tmp_path / "runs"}
    told = type_here(words(**keys, method="source_only"))
    assert told.code == 0, told
    own = {**keys, "method": "distil", "method.teacher": told.folder}
    assert type_here(words(**own)).code == 0
    before = files_of_runs(tmp_path / "runs")
    told = type_here(words(**own, **{"backbone.shifted": 1}))
    assert told.code == 2
    assert "its backbone=letters reads these examples otherwise (other tokens" in the_line(told)
    assert files_of_runs(tmp_path / "runs") == before


@pytest.mark.slow
def test_students_of_a_frozen_teacher(keys: dict[str, Any], tmp_path: Path) -> None:
    """One on the features of the same network, one on the inputs themselves."""
    frozen = {**keys, "backbone.frozen": True, "init": "random"}
    teacher = measured(tmp_path, **{**frozen, "method": "dann"})
    same_network = measured(tmp_path, **{**frozen, "method": "distil", "method.teacher": teacher.folder})
    assert same_network.result["depends_on"] == [str(teacher.folder)]
    assert same_network.result["identity"]["weights"] == teacher.result["identity"]["weights"]
    on_inputs = measured(tmp_path, **{**keys, "method": "distil", "method.teacher": teacher.folder})
    assert on_inputs.result["depends_on"] == [str(teacher.folder)]
    other = {**frozen, "seed": 1, "method": "distil", "method.teacher": teacher.folder}
    with pytest.raises(UsageError, match="not made on the features of this frozen network"):
        measured(tmp_path, **other)
