import copy

import numpy as np
import pytest
import torch
from by_hand import cross_entropy

from dafw.methods.l2sp import L2SP
from dafw.registry import METHODS
from dafw.setting import Setting


def made(model, loaded=lambda name: not name.startswith("head."), **values):
    """L2-SP set up on the model, of which the parameters that `loaded` names had a start; the start beside it."""
    model.pretrained = frozenset(name for name, _ in model.named_parameters() if loaded(name))
    method = L2SP(model, **values)
    method.setup(None)
    return method, copy.deepcopy(dict(model.named_parameters()))


def moved(model, by=0.1):
    """Every parameter away from where it was, by different amounts."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def test_equation_3_recomputed_in_numpy(model, batch, progress):
    method, start = made(model, start_weight=0.3, head_weight=0.07)
    moved(model)
    losses = method.losses(batch, progress)
    of_start = of_head = 0.0
    for name, parameter in model.named_parameters():
        now = parameter.detach().double().numpy()
        if name.startswith("head."):
            of_head += 0.07 / 2 * np.sum(now**2)
        else:
            of_start += 0.3 / 2 * np.sum((now - start[name].detach().double().numpy()) ** 2)
    assert losses["start"].item() == pytest.approx(of_start, rel=1e-5)
    assert losses["head"].item() == pytest.approx(of_head, rel=1e-5)
    logits = model(batch.shots.inputs).logits
    assert losses["classification"].item() == pytest.approx(cross_entropy(logits, batch.shots.labels), abs=1e-5)
    assert list(losses) == ["classification", "start", "head"]


def test_the_start_term_is_zero_at_the_start(model, batch, progress):
    method, _ = made(model)
    assert method.losses(batch, progress)["start"] == 0


def test_one_step_of_the_start_term_moves_every_loaded_weight_towards_its_start(model, batch, progress):
    method, start = made(model, start_weight=0.5)
    moved(model)
    before = copy.deepcopy(dict(model.named_parameters()))
    method.losses(batch, progress)["start"].backward()
    torch.optim.SGD(model.parameters(), lr=0.4).step()
    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            assert torch.equal(parameter, before[name])
        else:  # lr x alpha = 0.2 of the way
            torch.testing.assert_close(parameter - start[name], 0.8 * (before[name] - start[name]))


def test_one_step_of_the_head_term_shrinks_the_head_alone(model, batch, progress):
    method, _ = made(model, head_weight=0.5)
    before = copy.deepcopy(dict(model.named_parameters()))
    method.losses(batch, progress)["head"].backward()
    torch.optim.SGD(model.parameters(), lr=0.4).step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, (0.8 if name.startswith("head.") else 1.0) * before[name])


def test_a_term_without_parameters_is_left_out(model, batch, progress):
    nothing_loaded, _ = made(copy.deepcopy(model), loaded=lambda _: False)
    assert list(nothing_loaded.losses(batch, progress)) == ["classification", "head"]
    norm = sum(p.detach().double().square().sum() for p in nothing_loaded.model.parameters())
    assert nothing_loaded.losses(batch, progress)["head"].item() == pytest.approx(0.005 * norm.item(), rel=1e-5)
    all_loaded, _ = made(copy.deepcopy(model), loaded=lambda _: True)
    assert list(all_loaded.losses(batch, progress)) == ["classification", "start"]


def test_frozen_parameters_are_not_held(model):
    model.backbone.requires_grad_(False)
    method, _ = made(model)
    assert len(method.start_point) == sum(p.numel() for p in model.bottleneck.parameters())


@pytest.mark.parametrize("term", ["start", "head"])
def test_a_weight_of_zero_leaves_the_gradient_of_the_rest_bit_for_bit(term, model, batch, progress):
    method, _ = made(model, **{f"{term}_weight": 0.0})
    moved(model)
    losses = method.losses(batch, progress)
    parameters = list(model.parameters())
    rest = torch.stack([loss for name, loss in losses.items() if name != term]).sum()
    total = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, retain_graph=True)
    for got, wanted in zip(total, torch.autograd.grad(rest, parameters), strict=True):
        assert torch.equal(got, wanted)


def test_no_group_has_weight_decay(model):
    method, _ = made(model)
    loaded, new = method.parameter_groups(0.1)
    assert (loaded["lr"], loaded["weight_decay"]) == (pytest.approx(0.01), 0.0)
    assert (new["lr"], new["weight_decay"]) == (0.1, 0.0)
    assert len(new["params"]) == 2


def test_the_start_is_saved_and_does_not_follow_training(model, batch, progress):
    method, start = made(model)
    moved(model)
    other, _ = made(copy.deepcopy(model))
    other.load_state_dict(method.state_dict())
    flat = torch.cat([p.flatten() for name, p in start.items() if not name.startswith("head.")])
    assert torch.equal(other.start_point, flat)
    assert torch.equal(other.losses(batch, progress)["start"], method.losses(batch, progress)["start"])


def test_channels_last_weights_are_the_same_weights(model, batch, progress):
    method, _ = made(model)
    method.model.to(memory_format=torch.channels_last)
    assert method.losses(batch, progress)["start"] == 0


def test_is_registered():
    assert METHODS.get("l2sp") is L2SP
    assert (L2SP.setting, L2SP.start, L2SP.steps) == (Setting.TRANSFER, "init", None)
