"""Which channels and weights go, what is left of the network, and that it loads again."""

import copy
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones.convnet import ConvNet
from dafw.backbones.timm_model import timm_backbone
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.method import Method
from dafw.pruning import Mask, prune, size
from dafw.trainer import OPTIMIZERS

SHAPE = (1, 8, 8)


class Body(Backbone):
    """Layers in a row, averaged over all positions."""

    def __init__(self, *layers: nn.Module, features: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.features = features

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(self.normalise(inputs)).mean((2, 3))


def drawn(*layers: nn.Module, features: int, feature_dim: int = 3) -> Classifier:
    """A classifier of five classes with these layers; batch norm differs from channel to channel."""
    model = Classifier(Body(*layers, features=features), 5, feature_dim)
    return with_statistics(model)


def with_statistics(model: Classifier) -> Classifier:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model


def two_layers(feature_dim: int = 3) -> Classifier:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()]
    return drawn(*layers, features=6, feature_dim=feature_dim)


def with_norms(convolution: nn.Conv2d, norms: Sequence[float]) -> None:
    """Filters of these L1 norms, of both signs."""
    with torch.no_grad():
        for channel, norm in enumerate(norms):
            convolution.weight[channel] *= norm / convolution.weight[channel].abs().sum()


def images(count: int = 4, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(5))


def answers(model: Classifier, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(inputs).logits


@pytest.fixture
def library() -> None:
    pytest.importorskip("torch_pruning", reason='channels need pip install "dafw[prune]"')


# ---- channels


@pytest.mark.usefixtures("library")
def test_the_channels_of_the_smallest_filters_go_by_hand():
    model = two_layers()
    first, norm, _, second, _ = model.backbone.layers
    joint = model.bottleneck[0]
    with_norms(first, [4, 1, 3, 2])
    with_norms(second, [1, 6, 2, 5, 4, 3])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prune(model, 0.5, "channels", SHAPE)
    left, left_after = [0, 2], [1, 3, 4]
    expected = {
        "backbone.layers.0.weight": before["backbone.layers.0.weight"][left],
        "backbone.layers.0.bias": before["backbone.layers.0.bias"][left],
        **{
            f"backbone.layers.1.{name}": before[f"backbone.layers.1.{name}"][left]
            for name in ("weight", "bias", "running_mean", "running_var")
        },
        "backbone.layers.3.weight": before["backbone.layers.3.weight"][left_after][:, left],
        "backbone.layers.3.bias": before["backbone.layers.3.bias"][left_after],
        "bottleneck.0.weight": before["bottleneck.0.weight"][:, left_after],
    }
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, expected.get(name, before[name])), name
    assert (first.out_channels, norm.num_features, second.in_channels, second.out_channels) == (2, 2, 2, 3)
    assert (joint.in_features, joint.out_features, model.backbone.features, model.feature_dim) == (3, 3, 3, 3)


@pytest.mark.usefixtures("library")
def test_of_equal_filters_the_first_go():
    model = two_layers()
    with_norms(model.backbone.layers[0], [1, 1, 1, 1])
    with torch.no_grad():
        model.backbone.layers[0].weight.fill_(-0.25)
    bias = model.backbone.layers[0].bias.clone()
    prune(model, 0.25, "channels", SHAPE)
    assert torch.equal(model.backbone.layers[0].bias, bias[1:])


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("amount", "left"), [(0.01, (4, 6)), (0.2, (3, 5)), (0.3, (3, 4)), (0.7, (1, 2)), (0.99, (1, 1))]
)
def test_the_same_share_of_each_layer_goes_and_one_channel_stays(amount: float, left: tuple[int, int]):
    model = two_layers()
    prune(model, amount, "channels", SHAPE)
    assert (model.backbone.layers[0].out_channels, model.backbone.layers[3].out_channels) == left


@pytest.mark.usefixtures("library")
def test_without_a_bottleneck_what_the_head_reads_stays():
    model = two_layers(feature_dim=0)
    head = model.head.weight.clone()
    prune(model, 0.5, "channels", SHAPE)
    assert (model.backbone.layers[0].out_channels, model.backbone.layers[3].out_channels) == (2, 6)
    assert torch.equal(model.head.weight, head)
    assert model.feature_dim == model.backbone.features == 6


def norms_of(convolution: nn.Conv2d) -> np.ndarray[Any, Any]:
    """The L1 norm of each filter, by loops."""
    filters = convolution.weight.detach().numpy().astype(np.float64)
    return np.array([sum(abs(value) for value in one.ravel()) for one in filters])


def smallest(scores: np.ndarray[Any, Any], share: float) -> list[int]:
    return sorted(np.argsort(scores, kind="stable")[: round(share * len(scores))].tolist())


def silenced(norm: nn.BatchNorm2d, channels: Sequence[int]) -> None:
    """These channels are 0 after the batch norm, whatever comes in."""
    with torch.no_grad():
        norm.weight[channels] = 0
        norm.bias[channels] = 0


@pytest.mark.usefixtures("library")
def test_the_convnet_answers_as_if_its_channels_were_silent():
    torch.manual_seed(0)
    model = with_statistics(Classifier(ConvNet(1, 4), 3, feature_dim=8))
    silent = copy.deepcopy(model)
    layers = list(silent.backbone.layers)
    for convolution, norm in itertools.pairwise(layers):
        if isinstance(convolution, nn.Conv2d):
            silenced(norm, smallest(norms_of(convolution), 0.5))
    before = answers(model, images())
    prune(model, 0.5, "channels", SHAPE)
    torch.testing.assert_close(answers(model, images()), answers(silent, images()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(answers(model, images()), before, atol=1e-2)
    assert model.bottleneck[0].weight.shape == (8, 4 * 8)  # four positions of each of the last eight channels


@pytest.mark.usefixtures("library")
def test_channels_that_a_residual_network_adds_go_together():
    torch.manual_seed(0)
    shape = (3, 32, 32)
    model = with_statistics(Classifier(timm_backbone("resnet18")(shape, False), 3, feature_dim=8))
    silent = copy.deepcopy(model)
    network = silent.backbone.network
    streams = [[(network.conv1, network.bn1)], [], [], []]
    alone = []
    for number, stage in enumerate((network.layer1, network.layer2, network.layer3, network.layer4)):
        for block in stage:
            alone.append((block.conv1, block.bn1))
            streams[number].append((block.conv2, block.bn2))
            if block.downsample is not None:
                streams[number].append((block.downsample[0], block.downsample[1]))
    for group in [*streams, *([pair] for pair in alone)]:
        channels = smallest(sum(norms_of(convolution) for convolution, _ in group), 0.25)
        for _, norm in group:
            silenced(norm, channels)
    prune(model, 0.25, "channels", shape)
    inputs = images(2, shape)
    torch.testing.assert_close(answers(model, inputs), answers(silent, inputs), rtol=1e-3, atol=1e-4)
    assert model.backbone.network.layer4[1].conv2.weight.shape == (384, 384, 3, 3)
    assert model.bottleneck[0].in_features == model.backbone.features == 384


@pytest.mark.usefixtures("library")
def test_a_depthwise_convolution_goes_with_the_one_before_it():
    torch.manual_seed(0)
    deep = [nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)]
    model = drawn(*deep, features=4)
    with_norms(model.backbone.layers[0], [1, 2, 3, 4, 5, 6])
    with_norms(model.backbone.layers[1], [9, 1, 9, 1, 9, 1])  # sums: 10, 3, 12, 5, 14, 7
    before = copy.deepcopy(model.backbone.layers)
    prune(model, 0.5, "channels", SHAPE)
    point, depthwise, norm, last = model.backbone.layers
    left = [0, 2, 4]
    assert torch.equal(point.weight, before[0].weight[left])
    assert torch.equal(depthwise.weight, before[1].weight[left])
    assert torch.equal(norm.running_mean, before[2].running_mean[left])
    last_left = [channel for channel in range(4) if channel not in smallest(norms_of(before[3]), 0.5)]
    assert torch.equal(last.weight, before[3].weight[last_left][:, left])
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (3, 3, 3)


@pytest.mark.usefixtures("library")
def test_a_grouped_convolution_loses_the_same_places_of_each_group():
    torch.manual_seed(0)
    model = drawn(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2), features=4)
    with_norms(model.backbone.layers[0], [8, 1, 5, 5, 1, 4, 5, 6])  # by place: 9, 5, 10, 11
    with_norms(model.backbone.layers[2], [1, 2, 3, 1])  # by place: 4, 3
    first, second = model.backbone.layers[0].weight.clone(), model.backbone.layers[2].weight.clone()
    prune(model, 0.5, "channels", SHAPE)
    assert torch.equal(model.backbone.layers[0].weight, first[[2, 3, 6, 7]])
    assert torch.equal(model.backbone.layers[2].weight, second[[0, 2]][:, [2, 3]])
    assert (model.backbone.layers[2].groups, model.backbone.layers[2].in_channels) == (2, 4)


@pytest.mark.usefixtures("library")
def test_modes_and_what_is_trained_stay_as_they_were():
    model = two_layers()
    model.backbone.layers[0].requires_grad_(False)
    model.backbone.layers[1].eval()
    prune(model, 0.5, "channels", SHAPE)
    assert [p.requires_grad for p in model.backbone.layers.parameters()] == [False, False, True, True, True, True]
    assert [m.training for m in model.backbone.layers] == [True, False, True, True, True]
    assert model.pruned_from == size(two_layers().backbone)


class Reshaped(Backbone):
    """A network that counts on its four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.features = nn.Conv2d(1, 4, 3), 4

    def forward(self, inputs: Tensor) -> Tensor:
        return self.first(inputs).reshape(len(inputs), 4, -1).mean(2)


class Words(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear, self.features = nn.Embedding(7, 4), nn.Linear(4, 4), 4

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.table(inputs[:, 0])).mean(1)


@pytest.mark.usefixtures("library")
def test_channels_that_cannot_go_are_refused():
    with pytest.raises(UsageError, match=r"cannot be taken out .*; expected prune\.kind=magnitude"):
        prune(Classifier(Reshaped(), 3, 4), 0.5, "channels", SHAPE)
    with pytest.raises(UsageError, match=r"no convolutions; expected prune\.kind=magnitude"):
        prune(Classifier(Words(), 3, 4), 0.5, "channels", (2, 5))
    model = two_layers()
    prune(model, 0.5, "magnitude", SHAPE)
    with pytest.raises(UsageError, match="pruned already"):
        prune(model, 0.5, "channels", SHAPE)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(UsageError, match=r'prune.kind=channels needs .* pip install "dafw\[prune\]"'):
        prune(two_layers(), 0.5, "channels", SHAPE)


# ---- single weights


def weights_of(model: Classifier) -> list[np.ndarray[Any, Any]]:
    return [m.weight.detach().numpy().copy() for m in model.backbone.layers if isinstance(m, nn.Conv2d)]


def test_the_smallest_weights_of_all_layers_together_go():
    model = two_layers()
    others = {
        n: t.clone() for n, t in model.state_dict().items() if "layers.0.weight" not in n and "layers.3.weight" not in n
    }
    before = weights_of(model)
    ranked = sorted(
        (abs(v), layer, place) for layer, array in enumerate(before) for place, v in enumerate(array.ravel())
    )
    prune(model, 0.3, "magnitude", SHAPE)
    expected = [array.copy() for array in before]
    for _, layer, place in ranked[: round(0.3 * (36 + 216))]:
        expected[layer].ravel()[place] = 0
    for now, then in zip(weights_of(model), expected, strict=True):
        assert np.array_equal(now, then)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in others.items())
    assert size(model) == size(two_layers()) - round(0.3 * 252)


def test_a_second_round_takes_its_share_of_what_is_left():
    model = two_layers()
    before = weights_of(model)
    prune(model, 0.5, "magnitude", SHAPE)
    prune(model, 0.5, "magnitude", SHAPE)
    threshold = sorted(abs(v) for array in before for v in array.ravel())[126 + 63 - 1]
    for now, then in zip(weights_of(model), before, strict=True):
        assert np.array_equal(now, np.where(abs(then) > threshold, then, 0))
    assert sum(isinstance(m, Mask) for m in model.modules()) == 2


def test_linear_layers_are_pruned_too_and_a_table_of_words_is_not():
    model = Classifier(Words(), 3, 4)
    table = model.backbone.table.weight.clone()
    prune(model, 0.5, "magnitude", (2, 5))
    assert int((model.backbone.linear.weight == 0).sum()) == 8
    assert torch.equal(model.backbone.table.weight, table)
    bare = Classifier(Words(), 3, 4)
    bare.backbone.linear = nn.Identity()
    with pytest.raises(UsageError, match="neither convolutions nor linear layers"):
        prune(bare, 0.5, "magnitude", (2, 5))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_gone_stays_gone_in_training_and_the_rest_is_trained(optimizer: str):
    model = two_layers()
    prune(model, 0.6, "magnitude", SHAPE)
    zero = [array == 0 for array in weights_of(model)]
    before = weights_of(model)
    method = Method(model)
    stepper = OPTIMIZERS[optimizer](method.parameter_groups(0.05), lr=0.05, weight_decay=1e-2)
    for _ in range(4):
        stepper.zero_grad()
        F.cross_entropy(model(images()).logits, torch.tensor([0, 1, 2, 3])).backward()
        stepper.step()
    for now, then, gone in zip(weights_of(model), before, zero, strict=True):
        assert np.array_equal(now == 0, gone)
        assert (now[~gone] != then[~gone]).all()
    held = {n: t for n, t in model.state_dict().items() if n.endswith("original")}
    assert [bool((tensor == 0).numpy()[gone].all()) for tensor, gone in zip(held.values(), zero, strict=True)] == [
        True
    ] * 2


def test_a_copy_is_pruned_and_goes_its_own_way():
    model = two_layers()
    prune(model, 0.5, "magnitude", SHAPE)
    other = copy.deepcopy(model)
    assert torch.equal(answers(other, images()), answers(model, images()))
    with torch.no_grad():
        other.backbone.layers[0].parametrizations.weight.original.fill_(1.0)
    assert int((other.backbone.layers[0].weight == 0).sum()) == int((model.backbone.layers[0].weight == 0).sum()) > 0
    assert not torch.equal(other.backbone.layers[0].weight, model.backbone.layers[0].weight)


def test_a_loaded_weight_moves_at_a_tenth_of_the_rate_after_pruning_too():
    model = two_layers()
    model.load(two_layers().state_dict(), head=False)
    slow = sum(p.numel() for p in Method(model).parameter_groups(1.0)[0]["params"])
    prune(model, 0.5, "magnitude", SHAPE)
    groups = Method(model).parameter_groups(1.0)
    assert [(group["lr"], sum(p.numel() for p in group["params"])) for group in groups] == [(0.1, slow), (1.0, 20)]
    assert model.pretrained <= {name for name, _ in model.named_parameters()}
