"""The nine-convolution networks: their published shapes, what training adds, and what their inputs may vary in."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dafw.backbones.conv9 import GaussianNoise, conv9
from dafw.errors import UsageError
from dafw.registry import BACKBONES, options

PUBLISHED = {  # output channels, input channels, kernel side; padding
    "vada": [
        (96, 3, 3, 1),
        (96, 96, 3, 1),
        (96, 96, 3, 1),
        (192, 96, 3, 1),
        (192, 192, 3, 1),
        (192, 192, 3, 1),
        (192, 192, 3, 1),
        (192, 192, 3, 1),
        (192, 192, 3, 1),
    ],
    "self_ensembling": [
        (128, 3, 3, 1),
        (128, 128, 3, 1),
        (128, 128, 3, 1),
        (256, 128, 3, 1),
        (256, 256, 3, 1),
        (256, 256, 3, 1),
        (512, 256, 3, 0),
        (256, 512, 1, 0),
        (128, 256, 1, 0),
    ],
}


def by_hand(state: dict[str, Tensor], inputs: Tensor, layout: str) -> Tensor:
    """The network in evaluation, from its weights and the published table alone."""
    maps = 2 * inputs - 1
    if layout == "self_ensembling":
        mean, deviation = (f(maps.flatten(1), 1).view(-1, 1, 1, 1) for f in (torch.mean, torch.std))
        count = maps[0].numel()
        maps = (maps - mean) / (deviation**2 * (count - 1) / count + 1e-5).sqrt()
    kernels = [value for value in state.values() if value.ndim == 4]
    norms = [value for name, value in state.items() if name.endswith(("running_mean", "running_var"))]
    scales = [value for name, value in state.items() if value.ndim == 1 and "running" not in name]
    for number, (kernel, (*_, padding)) in enumerate(zip(kernels, PUBLISHED[layout], strict=True)):
        mean, variance = norms[2 * number : 2 * number + 2]
        weight, bias = scales[2 * number : 2 * number + 2]
        maps = F.conv2d(maps, kernel, padding=padding).movedim(1, -1)
        maps = ((maps - mean) / (variance + 1e-5).sqrt() * weight + bias).movedim(-1, 1)
        slope = 0.1 if layout == "vada" else 0.0
        maps = torch.where(maps > 0, maps, slope * maps)
        if number in (2, 5):
            maps = F.max_pool2d(maps, 2)
    return maps.flatten(2).mean(2)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_the_convolutions_are_the_published_ones(layout: str) -> None:
    backbone = conv9((3, 32, 32), False, layout=layout)
    layers = [layer for layer in backbone.modules() if isinstance(layer, torch.nn.Conv2d)]
    found = [(c.out_channels, c.in_channels, *set(c.kernel_size), *set(c.padding)) for c in layers]
    assert found == PUBLISHED[layout]
    weights = sum(out * into * side**2 + 2 * out for out, into, side, _ in PUBLISHED[layout])  # + batch norm
    assert sum(p.numel() for p in backbone.parameters()) == weights
    assert weights == {"vada": 1_996_128, "self_ensembling": 3_120_512}[layout]


@pytest.mark.parametrize("layout", PUBLISHED)
@pytest.mark.parametrize("size", [16, 32])
def test_features_are_those_computed_by_hand(layout: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = conv9((3, size, size), False, layout=layout)
    with torch.no_grad():
        backbone(torch.rand(4, 3, size, size))  # running statistics that are not the initial ones
        backbone.eval()
        inputs = torch.rand(2, 3, size, size)
        features = backbone(inputs)
        assert features.shape == (2, backbone.features) == (2, PUBLISHED[layout][-1][0])
        torch.testing.assert_close(features, by_hand(backbone.state_dict(), inputs, layout), atol=1e-5, rtol=1e-3)


def test_noise_and_dropout_act_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = conv9((1, 16, 16), False)
    inputs = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        assert not torch.equal(backbone(inputs), backbone(inputs))
        backbone.eval()
        assert torch.equal(backbone(inputs), backbone(inputs))
    noise = GaussianNoise(2.0)
    torch.manual_seed(1)
    noisy = noise(inputs)
    torch.manual_seed(1)
    assert torch.equal(noisy, inputs + 2.0 * torch.randn_like(inputs))
    assert torch.equal(noise.eval()(inputs), inputs)


@pytest.mark.parametrize(
    ("options_", "whole_image", "each_channel"),
    [
        ({}, False, False),
        ({"layout": "self_ensembling"}, True, False),
        ({"instance_norm": True}, True, True),
    ],
)
def test_what_brightness_and_contrast_change(options_: dict, whole_image: bool, each_channel: bool) -> None:
    """Standardised images forget one gain and offset an image; instance normalisation one a channel."""
    torch.manual_seed(0)
    backbone = conv9((3, 16, 16), False, **options_).eval()
    inputs = torch.rand(2, 3, 16, 16)
    gain = torch.tensor([0.5, 0.8, 0.3]).view(1, 3, 1, 1)
    with torch.no_grad():
        features = backbone(inputs)

        def same(changed: Tensor) -> bool:
            return torch.allclose(backbone(changed), features, atol=1e-3 * float(features.abs().max()))

        assert same(0.7 * inputs + 0.2) is whole_image
        assert same(gain * inputs + 0.1) is each_channel


@pytest.mark.parametrize("layout", PUBLISHED)
def test_every_parameter_gets_a_gradient(layout: str) -> None:
    torch.manual_seed(0)
    backbone = conv9((3, 16, 16), False, layout=layout)
    (backbone(torch.rand(4, 3, 16, 16)) * torch.randn(4, backbone.features)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(UsageError, match="conv9 has no published weights; expected init=random"):
        conv9((3, 32, 32), True)
    with pytest.raises(UsageError, match="no layout 'vad'; did you mean vada"):
        conv9((3, 32, 32), False, layout="vad")
    with pytest.raises(UsageError, match="12 pixels or more, and was made for 32; got 8: type image_size=32"):
        conv9((3, 8, 8), False)


def test_it_is_registered_with_its_options_and_recipe() -> None:
    assert BACKBONES.get("conv9") is conv9
    assert {option.name: option.default for option in options(conv9)} == {"layout": "vada", "instance_norm": False}
    assert conv9.recipe["backbone.feature_dim"] == 0
    assert conv9.input_size == 32
    assert conv9.channels is None
