"""Backbone, bottleneck and head; weights that are taken from other runs."""

import pytest
import torch
from torch import nn

from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError


def made(seed: int = 0, classes: int = 3, **options) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(ConvNet(1, 2), classes, **{"feature_dim": 8, **options})


def inputs(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 1, 8, 8), generator=torch.Generator().manual_seed(seed))


def test_features_are_linear_batch_norm_and_relu_of_the_backbone_and_logits_are_linear_in_them():
    model = made().eval()
    linear, norm, _ = model.bottleneck
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    body = model.backbone(inputs())
    assert linear.bias is None
    scaled = (body @ linear.weight.T - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    features = (scaled * norm.weight + norm.bias).clamp_min(0)
    got = model(inputs())
    assert got.features.shape == (6, 8)
    torch.testing.assert_close(got.features, features)
    torch.testing.assert_close(got.logits, features @ model.head.weight.T + model.head.bias)


def test_without_a_bottleneck_the_head_sits_on_the_backbone():
    model = made(feature_dim=0).eval()
    assert model.feature_dim == model.backbone.features == model.head.in_features == 32
    assert torch.equal(model(inputs()).features, model.backbone(inputs()))


def test_dropout_is_in_the_bottleneck_and_only_in_training():
    assert not any(isinstance(m, nn.Dropout) for m in made().modules())
    model = made(dropout=0.5)
    ungated = made().train()
    kept = model.train()(inputs()).features
    whole = ungated(inputs()).features
    positive = whole > 0
    assert (kept[positive] == 0).any()
    passed = kept != 0
    torch.testing.assert_close(kept[passed], 2 * whole[passed])
    model.load_state_dict(ungated.state_dict())
    assert torch.equal(model.eval()(inputs()).logits, ungated.eval()(inputs()).logits)


def test_uint8_and_floats_in_0_1_are_the_same_inputs():
    model = made().eval()
    pixels = torch.randint(0, 256, (4, 1, 8, 8)).to(torch.uint8)
    before = pixels.clone()
    assert torch.equal(model(pixels).logits, model(pixels.float() / 255).logits)
    assert torch.equal(pixels, before)


def test_outputs_are_float32_under_autocast():
    model = made().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.backbone(inputs()).dtype == torch.bfloat16
        output = model(inputs())
    assert output.features.dtype == output.logits.dtype == torch.float32


def test_together_is_one_pass_whose_batch_norm_sees_the_mixture():
    parts = inputs(4, seed=1), 0.3 * inputs(2, seed=2)
    model = made().train()
    first, second = model.together(*parts)
    whole = made().train()(torch.cat(parts))
    assert torch.equal(torch.cat([first.logits, second.logits]), whole.logits)
    assert torch.equal(torch.cat([first.features, second.features]), whole.features)
    assert (len(first.logits), len(second.features)) == (4, 2)
    assert not torch.allclose(made().train()(parts[0]).logits, first.logits)


def test_weights_are_taken_whole_where_the_classes_are_the_same():
    model, other = made(0), made(1)
    model.load(other.state_dict(), head=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert model.pretrained == {name for name, _ in model.named_parameters()}


def test_a_head_of_other_classes_stays_new():
    model, other = made(0), made(1, classes=5)
    head = model.head.weight.clone()
    model.load(other.state_dict(), head=False)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.bottleneck[0].weight, other.bottleneck[0].weight)
    assert model.pretrained == {n for n, _ in model.named_parameters() if not n.startswith("head.")}


def test_batch_norms_statistics_are_taken_too():
    model, other = made(0), made(1)
    other.train()(inputs())
    model.load(other.state_dict(), head=True)
    assert torch.equal(model.eval()(inputs()).logits, other.eval()(inputs()).logits)


@pytest.mark.parametrize(
    ("other", "head", "named"),
    [
        (lambda: made(feature_dim=4), False, "bottleneck.0.weight differs"),
        (lambda: made(feature_dim=0), False, "bottleneck.0.weight differs"),
        (lambda: Classifier(ConvNet(3, 2), 3, feature_dim=8), False, "backbone.layers.0.weight differs"),
        (lambda: made(classes=4), True, "head.bias differs"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(other, head, named):
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=named) as error:
        model.load(other().state_dict(), head=head)
    assert "expected a run with the same backbone, image size and feature_dim" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.pretrained == frozenset()


def test_a_new_head_has_the_shape_of_the_old_and_other_weights():
    model = made()
    head = model.new_head()
    assert head.weight.shape == model.head.weight.shape
    assert not torch.equal(head.weight, model.head.weight)
    assert head is not model.head
