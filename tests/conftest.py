"""Small fixed inputs that the tests of several parts share."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.setting import Batch, Examples, Labelled, Progress

torch.set_num_threads(1)  # the networks are tiny, and the tests run side by side

CLASSES = 3
SHAPE = (1, 8, 8)


def draw_of(inputs: Tensor):
    """A draw whose weak view is the inputs, and whose others are the inputs with noise that depends on the draw."""

    def draw(view: str, number: int) -> Tensor:
        if view == "weak":
            return inputs
        generator = torch.Generator().manual_seed(number)
        return (inputs + 0.1 * torch.rand(inputs.shape, generator=generator)).clamp(0, 1)

    return draw


@pytest.fixture
def batch() -> Batch:
    """Six source, six target and three labelled target examples of three classes, fixed."""
    generator = torch.Generator().manual_seed(0)
    source, target, shots = (torch.rand((n, *SHAPE), generator=generator) for n in (6, 6, 3))
    index = torch.arange(6)
    return Batch(
        source=Labelled(draw_of(source), index, torch.zeros(6, dtype=torch.long), torch.tensor([0, 1, 2, 0, 1, 2])),
        target=Examples(draw_of(target), index, torch.full((6,), -1)),
        shots=Labelled(draw_of(shots), index[:3], torch.full((3,), -1), torch.tensor([0, 1, 2])),
    )


@pytest.fixture
def model() -> Classifier:
    """A classifier small enough to differentiate by hand, the same at each call."""
    torch.manual_seed(0)
    return Classifier(ConvNet(1, 2), CLASSES, feature_dim=8)


@pytest.fixture
def progress() -> Progress:
    return Progress(step=5, steps=10, fraction=0.5, epoch=0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets for development; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DAFW_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DAFW_TEST_DATA")
    return folder
