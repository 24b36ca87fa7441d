"""The small convolutional network, recomputed layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.backbones.convnet import convnet
from dafw.errors import UsageError


def by_hand(state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Convolution, batch norm in evaluation and ReLU, five times; pooling after the second and the fourth."""
    maps = 2 * inputs - 1
    convolutions = [name[: -len(".weight")] for name, value in state.items() if value.ndim == 4]
    for number, name in enumerate(convolutions):
        prefix, place = name.rsplit(".", 1)
        norm = f"{prefix}.{int(place) + 1}"
        maps = F.conv2d(maps, state[f"{name}.weight"], padding=1)
        mean, variance = (state[f"{norm}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var"))
        weight, bias = (state[f"{norm}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        maps = ((maps - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)
        if number in (1, 3):
            maps = F.max_pool2d(maps, 2)
    halves = [maps.tensor_split(2, dim=2)[i].tensor_split(2, dim=3)[j].mean((2, 3)) for i in (0, 1) for j in (0, 1)]
    return torch.stack(halves, dim=2).flatten(1)


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_computed_by_hand(size: int, channels: int) -> None:
    torch.manual_seed(0)
    backbone = convnet((channels, size, size), False, width=4)
    backbone(torch.rand(16, channels, size, size))  # running statistics that are not the initial ones
    backbone.eval()
    inputs = torch.rand(3, channels, size, size)
    features = backbone(inputs)
    assert features.shape == (3, backbone.features) == (3, 64)
    torch.testing.assert_close(features, by_hand(backbone.state_dict(), inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [8, 16, 28, 32])
def test_the_number_of_features_does_not_depend_on_the_size(size: int) -> None:
    backbone = convnet((1, size, size), False)
    assert backbone.features == 256
    assert backbone(torch.rand(2, 1, size, size)).shape == (2, 256)


def test_parameters_are_counted() -> None:
    backbone = convnet((3, 32, 32), False, width=16)
    convolutions = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64)
    norms = 2 * (16 + 16 + 32 + 32 + 64)
    assert sum(p.numel() for p in backbone.parameters()) == convolutions + norms


def test_inputs_are_normalised_once() -> None:
    """Mid-grey becomes 0, which convolutions without bias keep; normalised twice it would be -1."""
    backbone = convnet((1, 8, 8), False).eval()
    assert backbone(torch.full((1, 1, 8, 8), 0.5)).abs().max() == 0
    assert backbone(torch.full((1, 1, 8, 8), 0.75)).abs().max() > 0


def test_there_are_no_published_weights() -> None:
    with pytest.raises(UsageError, match="convnet has no published weights; expected init=random"):
        convnet((1, 8, 8), True)
