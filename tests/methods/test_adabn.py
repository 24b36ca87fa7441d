import copy

import numpy as np
import pytest
import torch
from by_hand import Rows, same_state
from torch import nn

from dafw.backbone import Backbone
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.methods import adabn
from dafw.methods.adabn import AdaBN
from dafw.pair import Data
from dafw.registry import METHODS
from dafw.setting import Setting

COUNT = 10


class Given(Backbone):
    """Features that are the inputs."""

    def __init__(self, width: int):
        super().__init__()
        self.features = width

    def forward(self, inputs):
        return inputs


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (COUNT, 1, 8, 8), generator=generator).to(torch.uint8)


def adapted(model, inputs):
    method = AdaBN(copy.deepcopy(model)).train()
    method.finish(Data(None, Rows(inputs), None, ("a", "b", "c"), None, None))
    return method


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]


def by_hand(model, parts):
    """For each batch norm the mean and variance, in NumPy, of what enters it, with each part normalised by itself."""
    entering: dict[int, list[np.ndarray]] = {}
    for part in parts:
        flow = (part.float() / 255 - 0.5) / 0.5
        depth = 0
        for layer in (*model.backbone.layers, "pool", *model.bottleneck):
            if layer == "pool":
                flow = nn.functional.adaptive_avg_pool2d(flow, 2).flatten(1)
            elif isinstance(layer, nn.Dropout):
                continue
            elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                axes = (0, 2, 3) if flow.ndim == 4 else (0,)
                x = flow.detach().double().numpy()
                entering.setdefault(depth, []).append(np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]))
                depth += 1
                x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + layer.eps)
                shape = (1, -1, 1, 1)[: x.ndim]
                weight, bias = (p.detach().double().numpy().reshape(shape) for p in (layer.weight, layer.bias))
                flow = torch.from_numpy(x * weight + bias).float()
            else:
                flow = layer(flow)
    together = [np.concatenate(entering[depth]) for depth in sorted(entering)]
    return [(x.mean(axis=0), x.var(axis=0, ddof=1)) for x in together]


def assert_statistics(model, wanted):
    assert len(norms_of(model)) == len(wanted) == 6
    for norm, (mean, variance) in zip(norms_of(model), wanted, strict=True):
        np.testing.assert_allclose(norm.running_mean.numpy(), mean, atol=1e-5)
        np.testing.assert_allclose(norm.running_var.numpy(), variance, atol=1e-5, rtol=1e-5)


def test_statistics_are_those_of_the_target_layer_by_layer(model):
    assert_statistics(adapted(model, images()).model, by_hand(model, [images()]))


def test_statistics_are_exact_over_batches_of_different_size(model, monkeypatch):
    monkeypatch.setattr(adabn, "BATCH", 4)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    parts = [images()[rows] for rows in (order[:4], order[4:7], order[7:])]
    assert_statistics(adapted(model, images()).model, by_hand(model, parts))


def test_dropout_is_off_in_the_pass():
    torch.manual_seed(0)
    model = Classifier(ConvNet(1, 2), 3, feature_dim=8, dropout=0.5)
    model.bottleneck.append(nn.Linear(8, 8)).append(nn.BatchNorm1d(8))  # behind the dropout
    without = copy.deepcopy(model)
    without.bottleneck[3].p = 0.0
    assert same_state(adapted(model, images()), adapted(without, images()))


def test_no_weight_moves_and_modes_stay(model):
    method = adapted(model, images())
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert same_state(method.model, model, but=lambda name: name.endswith(statistics))
    assert method.training
    assert all(m.training for m in method.modules())
    assert all(norm.momentum == 0.1 and not norm._forward_pre_hooks for norm in norms_of(method))
    assert not any(p.grad is not None for p in method.parameters())


def test_the_same_bits_whatever_the_seed(model):
    torch.manual_seed(1)
    first = adapted(model, images())
    torch.manual_seed(2)
    assert same_state(first, adapted(model, images()))


def test_the_target_decides(model):
    assert not same_state(adapted(model, images(0)), adapted(model, images(1)))


def test_undoes_a_change_of_scale_and_place_of_the_features():
    torch.manual_seed(0)
    source = torch.randn(400, 6)
    model = Classifier(Given(6), 3, feature_dim=8)
    wanted = adapted(model, source).predict(source).logits
    changed = 3 * source + torch.linspace(-4, 4, 6)
    got = adapted(model, changed).predict(changed).logits
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-3)
    unadapted = adapted(model, source).predict(changed).logits
    assert (unadapted - wanted).abs().max() > 0.1


def test_a_network_without_batch_norm_stays_and_says_so():
    torch.manual_seed(0)
    model = Classifier(Given(6), 3, feature_dim=0)
    method = adapted(model, torch.randn(5, 6))
    assert same_state(method.model, model)
    assert len(method.notes) == 1
    assert "no batch norm" in method.notes[0]


def test_says_nothing_where_there_is_batch_norm(model):
    assert adapted(model, images()).notes == []


def test_is_a_closed_form_that_starts_from_the_source_model():
    assert METHODS.get("adabn") is AdaBN
    assert (AdaBN.setting, AdaBN.start, AdaBN.steps) == (Setting.UNSUPERVISED, "source_only", 0)


@pytest.mark.parametrize("count", [2, 3])
def test_a_very_small_target_is_one_batch(count, model, monkeypatch):
    monkeypatch.setattr(adabn, "BATCH", 4)
    assert_statistics(adapted(model, images()[:count]).model, by_hand(model, [images()[:count]]))
