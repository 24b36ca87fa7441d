"""Gradient reversal, Ganin's ramp and the discriminator, by formula."""

import math

import pytest
import torch

from dafw.layers import Discriminator, HalfDropout, ganin_ramp, reverse_gradient


@pytest.mark.parametrize("coefficient", [1.0, 0.25, 0.0])
def test_the_identity_forward_and_minus_the_coefficient_backward(coefficient):
    inputs = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    above = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    outputs = reverse_gradient(inputs, coefficient)
    assert torch.equal(outputs, inputs)
    (outputs * above).sum().backward()
    assert torch.equal(inputs.grad, -coefficient * above)


def test_the_default_turns_the_gradient_round():
    inputs = torch.ones(3, requires_grad=True)
    reverse_gradient(inputs).sum().backward()
    assert inputs.grad.tolist() == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [10.0, 2.0])
def test_the_ramp_is_the_published_one(fraction, gamma):
    assert ganin_ramp(fraction, gamma) == pytest.approx(2 / (1 + math.exp(-gamma * fraction)) - 1, abs=1e-12)
    # which is also a hyperbolic tangent
    assert ganin_ramp(fraction, gamma) == pytest.approx(math.tanh(gamma * fraction / 2), abs=1e-12)


def test_the_ramp_goes_from_0_to_1_with_gamma_10():
    assert ganin_ramp(0.0) == 0.0
    assert ganin_ramp(1.0) == pytest.approx(0.99991, abs=1e-5)


def test_the_discriminator_is_two_hidden_layers_with_relu_and_one_logit():
    torch.manual_seed(0)
    discriminator = Discriminator(5, hidden=7).eval()
    features = torch.randn(4, 5)
    parameters = [p.detach().double().numpy() for p in discriminator.parameters()]
    assert [p.shape for p in parameters] == [(7, 5), (7,), (7, 7), (7,), (1, 7), (1,)]
    flow = features.double().numpy()
    for depth, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        flow = flow @ weight.T + bias
        if depth < 2:
            flow = flow.clip(min=0)
    logits = discriminator(features)
    assert logits.shape == (4,)
    assert logits.detach().numpy() == pytest.approx(flow[:, 0], abs=1e-6)


def test_in_training_half_of_each_hidden_layer_of_the_discriminator_is_dropped():
    torch.manual_seed(0)
    discriminator = Discriminator(5, hidden=1000)
    hidden = torch.randn(20, 5)
    for depth in (0, 3):
        whole = discriminator[depth + 1](discriminator[depth](hidden))
        hidden = discriminator[depth + 2](whole)
        dropped = (hidden == 0) & (whole > 0)
        assert float(dropped.sum() / (whole > 0).sum()) == pytest.approx(0.5, abs=0.02)
        torch.testing.assert_close(hidden[~dropped], 2 * whole[~dropped])


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 1000)])
def test_half_dropout_keeps_the_double_or_nothing_and_its_gradient_is_the_mask(shape):
    torch.manual_seed(0)
    inputs = (1 + torch.rand(shape)).requires_grad_()
    outputs = HalfDropout()(inputs)
    kept = outputs > 0
    assert torch.equal(outputs, torch.where(kept, 2 * inputs, 0.0))
    outputs.sum().backward()
    assert torch.equal(inputs.grad, 2.0 * kept)


def test_half_dropout_keeps_half_each_independently_of_the_others():
    torch.manual_seed(0)
    dropout = HalfDropout()
    kept = torch.stack([dropout(torch.ones(1003)) > 0 for _ in range(1000)]).double()  # no multiple of 8
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.002)  # 4 standard errors of a fair coin
    assert float((kept.mean(0) - 0.5).abs().max()) < 0.08  # each of the places: 5 standard errors
    for away in (1, 2, 7, 8, 64):
        both = (kept[:, away:] * kept[:, :-away]).mean()
        assert float(both) == pytest.approx(0.25, abs=0.003)


def test_half_dropout_repeats_by_the_seed_and_does_nothing_outside_training():
    dropout, inputs = HalfDropout(), torch.rand(4, 9)
    torch.manual_seed(3)
    first, second = dropout(inputs), dropout(inputs)
    torch.manual_seed(3)
    assert torch.equal(dropout(inputs), first)
    assert not torch.equal(first, second)
    assert torch.equal(dropout.eval()(inputs), inputs)
    assert dropout.train()(torch.zeros(0, 9)).shape == (0, 9)
