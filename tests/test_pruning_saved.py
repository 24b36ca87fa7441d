"""A pruned network loads again, bit for bit, and its file is smaller."""

import copy
from pathlib import Path

import pytest
import test_pruning
import torch
from test_pruning import SHAPE, images, two_layers

from dafw import checkpoint
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.method import Method
from dafw.pruning import KINDS, fitted_to, packed, prune, size, unpacked

library = test_pruning.library  # a fixture


@pytest.mark.parametrize("kinds", [("magnitude",), ("channels",), ("channels", "magnitude"), ("channels", "channels")])
def test_a_whole_network_takes_the_weights_of_a_pruned_one(kinds: tuple[str, ...]):
    if "channels" in kinds:
        pytest.importorskip("torch_pruning", reason='channels need pip install "dafw[prune]"')
    model = two_layers()
    for kind in kinds:
        prune(model, 0.4, kind, SHAPE)
    torch.manual_seed(9)
    fresh = Classifier(two_layers().backbone, 7, 3)  # other classes: the head is its own
    head = fresh.head.weight.clone()
    fitted_to(fresh, model.state_dict(), model.pruned_from)
    fresh.load(model.state_dict(), head=False)
    assert torch.equal(fresh.head.weight, head)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(images()).features, copy.deepcopy(model).eval()(images()).features)
    assert fresh.pruned_from == model.pruned_from == size(two_layers().backbone)
    assert fresh.backbone.features == model.backbone.features
    fresh.train()(images()).logits.sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in fresh.parameters())
    prune(fresh, 0.5, kinds[-1], SHAPE)  # and it is pruned on


@pytest.mark.usefixtures("library")
def test_weights_that_do_not_fit_are_still_refused():
    model = two_layers()
    prune(model, 0.5, "channels", SHAPE)
    state, whole = model.state_dict(), size(two_layers().backbone)
    wider = Classifier(two_layers().backbone, 5, 4)
    others = [(two_layers(), None), (two_layers(), whole + 1), (Classifier(ConvNet(1, 2), 5, 3), whole), (wider, whole)]
    for fresh, pruned_from in others:
        fitted_to(fresh, state, pruned_from)
        with pytest.raises(UsageError, match="the weights do not fit this network"):
            fresh.load(state, head=True)


def test_a_packed_state_is_the_same_state():
    model = two_layers()
    prune(model, 0.5, "magnitude", SHAPE)
    state = model.to(memory_format=torch.channels_last).state_dict()
    state["other"] = torch.tensor([-0.0, torch.inf])
    small = packed(state)
    assert small["backbone.layers.3.pruned.kept"].numel() + small["backbone.layers.0.pruned.kept"].numel() == 126
    assert [small[f"backbone.layers.{n}.pruned.bits"].numel() for n in (0, 3)] == [5, 27]  # 36 and 216 bits
    again = unpacked(small)
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert again[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name


@pytest.mark.usefixtures("library")
def test_a_pruned_network_is_smaller_in_its_file(tmp_path: Path):
    sizes = {}
    for kind in ("none", *KINDS):
        torch.manual_seed(0)
        model = Classifier(ConvNet(1, 32), 3, feature_dim=8)
        if kind != "none":
            prune(model, 0.5, kind, SHAPE)
        checkpoint.save(tmp_path / kind, {"method": Method(model).state_dict()})
        sizes[kind] = (tmp_path / kind).stat().st_size
        read = checkpoint.load(tmp_path / kind)["method"]
        assert read.keys() == Method(model).state_dict().keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in Method(model).state_dict().items())
    convolutions = 9 * (32 * (1 + 32) + 64 * (32 + 64) + 128 * 64)
    left = 9 * (16 * (1 + 16) + 32 * (16 + 32) + 64 * 32)
    saved = {"magnitude": 4 * convolutions / 2 - convolutions / 8, "channels": 4 * (convolutions - left + 8 * 256)}
    for kind in KINDS:
        assert sizes["none"] - sizes[kind] == pytest.approx(saved[kind], rel=0.03)  # a file has tables of its own
