"""The base class: predict that changes nothing, groups of the optimiser, the log."""

import copy

import pytest
import torch
from torch import nn

from dafw.classifier import Classifier
from dafw.method import Method, evaluating
from dafw.setting import Setting


class Plain(Method):
    setting = Setting.SOURCE_ONLY

    def __init__(self, model: Classifier):
        super().__init__(model)
        self.extra = nn.Linear(2, 2)
        self.fixed = nn.Parameter(torch.zeros(1), requires_grad=False)

    def losses(self, batch, progress):
        return {"a": self.extra.weight.sum(), "b": torch.tensor(float(progress.step))}


@pytest.fixture
def method(model: Classifier) -> Plain:
    return Plain(model)


def test_predict_is_the_model_in_eval_and_leaves_every_mode_and_statistic(method, batch):
    method.train()
    method.model.bottleneck.eval()
    modes = [m.training for m in method.modules()]
    before = copy.deepcopy(method.state_dict())
    output = method.predict(batch.source.inputs)
    assert [m.training for m in method.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert not output.logits.requires_grad
    wanted = copy.deepcopy(method.model).eval()(batch.source.inputs)
    assert torch.equal(output.logits, wanted.logits)
    assert torch.equal(output.features, wanted.features)


def test_a_row_of_predict_does_not_depend_on_the_others(method, batch):
    method.train()
    together = method.predict(batch.source.inputs).logits
    alone = torch.cat([method.predict(row[None]).logits for row in batch.source.inputs])
    torch.testing.assert_close(together, alone)


def test_modes_come_back_after_an_error():
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    network[1].eval()
    modes = []

    def fails() -> None:
        with evaluating(network):
            modes.extend(m.training for m in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert modes == [False] * 4
    assert [m.training for m in network.modules()] == [True, True, False, True]


def test_loaded_parameters_move_at_a_tenth_of_the_rate_and_each_stands_in_one_group(method):
    loaded = frozenset(n for n, _ in method.model.named_parameters() if n.startswith("backbone."))
    method.model.pretrained = loaded
    old, new = method.parameter_groups(0.5)
    assert (old["lr"], new["lr"]) == (0.05, 0.5)
    assert {id(p) for p in old["params"]} == {id(p) for p in method.model.backbone.parameters()}
    fresh = [method.model.bottleneck, method.model.head, method.extra]
    assert {id(p) for p in new["params"]} == {id(p) for module in fresh for p in module.parameters()}


def test_what_asks_for_no_gradient_is_in_no_group_and_empty_groups_are_left_out(method):
    (group,) = method.parameter_groups(0.5)
    assert group["lr"] == 0.5
    assert id(method.fixed) not in {id(p) for p in group["params"]}
    method.requires_grad_(False)
    assert method.parameter_groups(0.5) == []


def test_the_default_update_is_one_step_of_the_losses_and_no_answer(method, batch, progress):
    updates = method.update(batch, progress)
    step = next(updates)
    assert step.only == ()
    assert step.losses.keys() == {"a", "b"}
    assert step.losses["b"].item() == progress.step
    with pytest.raises(StopIteration) as stop:
        next(updates)
    assert stop.value.value is None


def test_a_method_without_losses_is_told_so_by_name(model, batch, progress):
    class Empty(Method):
        setting = Setting.SOURCE_ONLY

    with pytest.raises(NotImplementedError, match="Empty defines neither losses nor update"):
        next(Empty(model).update(batch, progress))


def test_the_log_keeps_the_last_value_detached_and_is_emptied_by_reading(method):
    value = torch.ones(1, requires_grad=True).sum()
    method.log(accuracy=0.25, distance=value)
    method.log(accuracy=0.5)
    logged = method.pop_logged()
    assert logged["accuracy"] == 0.5
    assert not logged["distance"].requires_grad
    assert logged["distance"].item() == 1.0
    assert method.pop_logged() == {}


def test_a_method_starts_from_init_with_no_recipe_and_as_many_steps_as_the_config_says():
    assert (Method.start, Method.steps, dict(Method.recipe)) == ("init", None, {})
