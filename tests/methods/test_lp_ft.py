import torch

from dafw.methods.feature_extraction import FeatureExtraction
from dafw.methods.finetune import Finetune
from dafw.methods.lp_ft import LPFT
from dafw.registry import METHODS


def test_starts_from_the_run_of_the_probe():
    assert METHODS.get("lp_ft") is LPFT
    assert METHODS.get(LPFT.start) is FeatureExtraction


def test_is_otherwise_fine_tuning(model, batch, progress):
    model.pretrained = frozenset(name for name, _ in model.named_parameters())
    probed, tuned = LPFT(model), Finetune(model)
    assert (LPFT.setting, LPFT.steps, LPFT.recipe) == (Finetune.setting, Finetune.steps, Finetune.recipe)
    assert LPFT.start != Finetune.start
    mine, other = probed.losses(batch, progress), tuned.losses(batch, progress)
    assert mine.keys() == other.keys()
    assert torch.equal(mine["classification"], other["classification"])
    for group, wanted in zip(probed.parameter_groups(0.1), tuned.parameter_groups(0.1), strict=True):
        assert group["lr"] == wanted["lr"]
        assert [id(p) for p in group["params"]] == [id(p) for p in wanted["params"]]


def test_the_head_of_the_probe_moves_too(model, batch, progress):
    model.pretrained = frozenset(name for name, _ in model.named_parameters())
    method = LPFT(model)
    before = model.head.weight.detach().clone()
    optimizer = torch.optim.SGD(method.parameter_groups(1.0), lr=1.0)
    loss = method.losses(batch, progress)["classification"]
    loss.backward()
    optimizer.step()
    torch.testing.assert_close(model.head.weight.detach(), before - 0.1 * model.head.weight.grad)
    assert method.losses(batch, progress)["classification"] < loss
