"""The loop: what it draws and moves."""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dafw.classifier import Classifier
from dafw.conformance import TRAINING
from dafw.errors import UsageError
from dafw.made import made_model, made_pair
from dafw.method import Method
from dafw.methods.source_only import SourceOnly
from dafw.pair import Pair
from dafw.setting import Setting, Step
from dafw.split import mixed_seed
from dafw.trainer import SCHEDULES, Fitted, Training, fit, make_optimizer, run_updates


def training(**changed: Any) -> Training:
    return dataclasses.replace(TRAINING, **changed)


@dataclass
class Told:
    """What the trainer reported, in order."""

    logs: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)


def trained(
    method: Method,
    pair: Pair,
    how: Training,
    log_every: int = 1,
    eval_every: int = 1000,
    told: Told | None = None,
    on_evaluate: Callable[[int], None] = lambda _: None,
) -> tuple[Fitted, Told]:
    told = told or Told()

    def evaluate(step: int) -> None:
        told.evaluations.append(step)
        on_evaluate(step)

    fitted = fit(
        method,
        pair,
        pair.data(lambda: None, lambda _: None),
        how,
        log_every=log_every,
        eval_every=eval_every,
        on_log=lambda step, values, _: told.logs.append((step, values)),
        on_evaluate=evaluate,
    )
    return fitted, told


class Scripted(Method):
    """A method that writes down what is asked of it; its terms are the step's number and twice that."""

    setting = Setting.SOURCE_ONLY

    def __init__(self, model: Classifier, **changed: Any):
        super().__init__(model)
        self.events: list[Any] = []
        for name, value in changed.items():
            setattr(self, name, value)

    def prepare(self, data, progress):
        self.events.append(("prepare", progress.step, progress.epoch))

    def losses(self, batch, progress):
        self.events.append(("losses", progress.step))
        zero = 0 * self.model(batch.source.inputs).logits.sum()
        terms = {"one": zero + progress.step}
        if progress.step % 2:
            terms["odd"] = zero + 2 * progress.step
        self.log(seen=progress.step)
        return terms

    def finish(self, data):
        self.events.append("finish")


def scripted(**changed: Any) -> tuple[Scripted, Pair]:
    pair = made_pair(Setting.SOURCE_ONLY)
    return Scripted(made_model(0, 3), **changed), pair


# ---- rates


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.49, 0.5, 0.74, 0.75, 0.99])
def test_schedules_by_formula(fraction):
    wanted = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * fraction)) / 2,
        "inverse": 1 / (1 + 10 * fraction) ** 0.75,
        "step": 1.0 if fraction < 0.5 else 0.1 if fraction < 0.75 else 0.01,
    }
    assert SCHEDULES.keys() == wanted.keys()
    assert {name: schedule(fraction) for name, schedule in SCHEDULES.items()} == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_step_has_the_rate_of_its_fraction(schedule):
    method, pair = scripted()
    _, told = trained(method, pair, training(schedule=schedule, steps=8, lr=0.3))
    assert [values["lr"] for _, values in told.logs] == pytest.approx(
        [0.3 * SCHEDULES[schedule](s / 8) for s in range(8)]
    )


def test_loaded_parameters_have_a_tenth_of_the_rate_at_every_step():
    rates: list[list[float]] = []

    class Watching(SourceOnly):
        def update(self, batch, progress):
            yield from super().update(batch, progress)
            rates.append([group["lr"] for group in self.optimizer.param_groups])

    method, pair = Watching(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY)
    how = training(schedule="cosine", steps=4, lr=0.2)
    method.optimizer = make_optimizer(method, how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dafw.trainer.make_optimizer", lambda *_: method.optimizer)
        trained(method, pair, how)
    for step, (old, new) in enumerate(rates):
        assert new == pytest.approx(0.2 * (1 + math.cos(math.pi * step / 4)) / 2)
        assert old == pytest.approx(0.1 * new)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_groups_own_weight_decay_wins(name):
    class Decaying(SourceOnly):
        def parameter_groups(self, lr):
            head, *rest = self.model.head, self.model.backbone, self.model.bottleneck
            groups = [{"params": list(head.parameters()), "lr": lr, "weight_decay": 0.25}]
            return [*groups, *({"params": list(part.parameters()), "lr": lr} for part in rest)]

    optimizer = make_optimizer(Decaying(made_model(0, 3)), training(optimizer=name, weight_decay=0.125))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.125, 0.125]


def test_the_optimisers_are_nesterov_sgd_and_adamw():
    method = SourceOnly(made_model(0, 3))
    sgd = make_optimizer(method, training(optimizer="sgd"))
    assert isinstance(sgd, torch.optim.SGD)
    assert all((g["momentum"], g["nesterov"]) == (0.9, True) for g in sgd.param_groups)
    assert isinstance(make_optimizer(method, training(optimizer="adamw")), torch.optim.AdamW)


def test_a_method_with_nothing_to_train_is_told_so():
    method = SourceOnly(made_model(0, 3)).requires_grad_(False)
    with pytest.raises(UsageError, match=r"SourceOnly has nothing to train here; expected .* or `steps = 0` declared"):
        make_optimizer(method, TRAINING)


def test_a_step_that_moves_nothing_is_told_by_name():
    method = SourceOnly(Classifier(made_model(0, 3).backbone, 3, feature_dim=0))
    optimizer = make_optimizer(method, TRAINING)
    with pytest.raises(
        UsageError, match=r"a step of SourceOnly moves model\.bottleneck, which has nothing to train here"
    ):
        run_updates(method, [Step({"a": method.model.head.weight.sum()}, ("model.bottleneck",))], optimizer)


# ---- the update, by hand


def test_sgd_is_bit_for_bit_a_loop_written_by_hand():
    pair, how = made_pair(Setting.SOURCE_ONLY), training(steps=7, schedule="cosine", weight_decay=0.01, lr=0.1)
    method = SourceOnly(made_model(0, 3))
    model = copy.deepcopy(method.model).train()
    trained(method, pair, how)

    momentum: dict[str, torch.Tensor] = {}
    for step in range(7):
        batch = pair.batch(step, how.batch_size)
        model.zero_grad()
        F.cross_entropy(model(batch.source.inputs).logits, batch.source.labels).backward()
        schedule = 0.5 * (1 + math.cos(math.pi * step / 7))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gradient = parameter.grad.add(parameter, alpha=0.01)
                momentum[name] = momentum[name].mul_(0.9).add_(gradient) if name in momentum else gradient.clone()
                rate = 0.1 * how.lr if name in model.pretrained else how.lr
                parameter.add_(gradient.add(momentum[name], alpha=0.9), alpha=-rate * schedule)

    by_hand = model.state_dict()
    for name, value in method.model.state_dict().items():
        assert torch.equal(value, by_hand[name]), name


class Alternating(Method):
    """Everything moves once, then only the head, then only the bottleneck."""

    setting = Setting.SOURCE_ONLY
    plan: tuple[tuple[str, ...], ...] = ((), ("model.head",), ("model.bottleneck", "model.head"))

    def __init__(self, model: Classifier):
        super().__init__(model)
        self.spare = nn.Parameter(torch.ones(2))
        self.after: list[dict[str, Any]] = []

    def update(self, batch, progress):
        for only in self.plan:
            output = self.model(batch.source.inputs)
            loss = F.cross_entropy(output.logits, batch.source.labels) + self.spare.square().sum()
            yield Step({"classification": loss}, only)
            self.after.append({name: None if p.grad is None else p.grad.clone() for name, p in self.named_parameters()})
        return None


def test_only_the_named_parts_move_and_nothing_else_has_a_gradient():
    method, pair = Alternating(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY)
    optimizer = make_optimizer(method, training(weight_decay=0.1))  # decay and momentum would move what has a gradient
    snapshots: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def updates() -> Any:
        for step in method.update(pair.batch(0, 12), None):
            yield step
            moments = {n: optimizer.state[p].get("momentum_buffer") for n, p in method.named_parameters()}
            snapshots.append(
                (
                    {n: p.detach().clone() for n, p in method.named_parameters()},
                    {n: None if m is None else m.clone() for n, m in moments.items()},
                )
            )

    run_updates(method, updates(), optimizer)
    assert len(snapshots) == 3
    for number in (1, 2):
        (before, old_moments), (after, moments) = snapshots[number - 1 : number + 1]
        for name in before:
            moves = any(name.startswith(f"{part}.") for part in method.plan[number])
            assert torch.equal(before[name], after[name]) != moves, name
            assert torch.equal(old_moments[name], moments[name]) != moves, name
            assert (method.after[number][name] is not None) == moves, name
    assert all(gradient is not None for gradient in method.after[0].values())


def test_gradients_of_one_step_do_not_add_to_the_next():
    class Twice(Method):
        setting = Setting.SOURCE_ONLY

        def update(self, batch, progress):
            for _ in range(2):
                yield Step({"sum": self.model.head.bias.sum()})
                assert torch.equal(self.model.head.bias.grad, torch.ones(3))
            return None

    method = Twice(made_model(0, 3))
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    before = method.model.head.bias.detach().clone()
    run_updates(method, method.update(None, None), optimizer)
    torch.testing.assert_close(method.model.head.bias, before - 2)


def test_the_sum_of_all_terms_is_minimised_and_each_is_returned():
    method = SourceOnly(made_model(0, 3))
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    bias = method.model.head.bias
    before = bias.detach().clone()
    terms, answer = run_updates(method, [Step({"a": bias.sum(), "b": 3 * bias[0]})], optimizer)
    torch.testing.assert_close(bias, before - torch.tensor([4.0, 1.0, 1.0]))
    assert {name: value.item() for name, value in terms.items()} == {
        "a": pytest.approx(before.sum().item()),
        "b": pytest.approx(3 * before[0].item()),
    }
    assert not any(value.requires_grad for value in terms.values())
    assert answer is None


# ---- random numbers


class Drawing(Method):
    """Records the first random number of each step, and draws as many more as `extra` says."""

    setting = Setting.SOURCE_ONLY

    def __init__(self, model: Classifier, extra: int):
        super().__init__(model)
        self.extra = extra
        self.first: list[float] = []

    def losses(self, batch, progress):
        self.first.append(torch.rand(1).item())
        torch.rand(self.extra)
        return {"a": self.model.head.weight.square().sum()}


def test_the_random_numbers_of_a_step_depend_on_seed_and_step_alone():
    def drawn(extra: int, seed: int = 0) -> list[float]:
        method = Drawing(made_model(0, 3), extra)
        torch.rand(extra)
        trained(method, made_pair(Setting.SOURCE_ONLY, seed), training(steps=4))
        return method.first

    assert drawn(0) == drawn(17)
    assert len(set(drawn(0))) == 4
    assert set(drawn(0)).isdisjoint(drawn(0, seed=1))
    torch.manual_seed(mixed_seed(0, "step", 2))
    assert drawn(0)[2] == torch.rand(1, generator=torch.Generator().manual_seed(mixed_seed(0, "step", 2))).item()
