"""The loop: what it draws, moves, records and refuses, and the loss curve of every method.

The curves of 20 steps stand in tests/assets/losses/<method>.json. Where a loss, or a view, is meant to change, rewrite
them by

    DAFW_REWRITE_LOSSES=1 python -m pytest tests/test_trainer.py -k curve

and look at the difference before it is committed.
"""

import copy
import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dafw import conformance
from dafw.classifier import Classifier
from dafw.conformance import TRAINING, made_model, made_pair
from dafw.errors import TrainingError, UsageError
from dafw.method import Method
from dafw.methods.source_only import SourceOnly
from dafw.pair import Pair, Protocol
from dafw.registry import METHODS, source_file
from dafw.setting import Output, Setting, Step
from dafw.split import mixed_seed
from dafw.trainer import SCHEDULES, Fitted, Training, check_trainable, fit, make_optimizer, run_updates

LOSSES = Path(__file__).parent / "assets" / "losses"


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
        pair.data(lambda *_: None),
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


# ---- what is called when


def test_prepare_is_called_before_each_pass_and_finish_once_after_the_last_step():
    method, pair = scripted()
    fitted, told = trained(method, pair, training(steps=8, batch_size=12), eval_every=3)
    assert pair.batches(12) == 3
    prepared = [event for event in method.events if event[0] == "prepare"]
    assert prepared == [("prepare", 0, 0), ("prepare", 3, 1), ("prepare", 6, 2)]
    assert method.events[:2] == [("prepare", 0, 0), ("losses", 0)]
    assert method.events.index(("prepare", 3, 1)) == method.events.index(("losses", 3)) - 1
    assert [event for event in method.events if event[0] == "losses"] == [("losses", s) for s in range(8)]
    assert method.events[-1] == "finish"
    assert method.events.count("finish") == 1
    assert told.evaluations == [3, 6, 8]
    assert fitted == Fitted(8, 8 * 12, None)


def test_progress_is_counted_in_batches():
    seen = []

    class Counting(SourceOnly):
        def losses(self, batch, progress):
            seen.append(tuple(progress))
            return super().losses(batch, progress)

    trained(Counting(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY), training(steps=5, batch_size=12))
    assert seen == [(s, 5, s / 5, s // 3) for s in range(5)]


def test_the_last_step_is_evaluated_once_and_after_finish():
    method, pair = scripted()
    at_end: list[list[Any]] = []
    _, told = trained(
        method, pair, training(steps=6), eval_every=3, on_evaluate=lambda _: at_end.append([*method.events])
    )
    assert told.evaluations == [3, 6]
    assert "finish" not in at_end[0]
    assert at_end[1][-1] == "finish"


def test_a_closed_form_takes_no_step():
    method, pair = scripted(steps=0)
    before = copy.deepcopy(method.state_dict())
    fitted, told = trained(method, pair, training(steps=100))
    assert method.events == ["finish"]
    assert told == Told([], [0])
    assert fitted == Fitted(0, 0, None)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_methods_own_number_of_steps_goes_before_the_configs():
    method, pair = scripted(steps=3)
    assert trained(method, pair, training(steps=100))[0].steps == 3


def test_training_is_in_train_mode_even_after_an_evaluation():
    modes = []

    class Watching(SourceOnly):
        def losses(self, batch, progress):
            modes.append({m.training for m in self.modules()})
            return super().losses(batch, progress)

    method, pair = Watching(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY)
    method.eval()
    trained(
        method, pair, training(steps=4), eval_every=2, on_evaluate=lambda _: method.predict(pair.target_test.inputs)
    )
    assert modes == [{True}] * 4


def test_examples_of_all_parts_are_counted():
    pair = made_pair(Setting.UNSUPERVISED)
    fitted, _ = trained(METHODS.get("dann")(made_model(0, 3)), pair, training(steps=3, batch_size=8))
    assert fitted.examples == 3 * (8 + 8)


# ---- what is logged


def test_logged_terms_are_means_since_the_last_call():
    method, pair = scripted()
    _, told = trained(method, pair, training(steps=8), log_every=3)
    assert [step for step, _ in told.logs] == [3, 6, 8]
    ones = [values["loss/one"] for _, values in told.logs]
    assert ones == pytest.approx([(0 + 1 + 2) / 3, (3 + 4 + 5) / 3, (6 + 7) / 2])
    odd = [values["loss/odd"] for _, values in told.logs]  # a term that only some steps have
    assert odd == pytest.approx([2 * 1, 2 * (3 + 5) / 2, 2 * 7])
    assert [values["seen"] for _, values in told.logs] == [2, 5, 7]
    assert told.logs[0][1].keys() == {"loss/one", "loss/odd", "lr", "seen"}


def test_an_evaluation_has_a_log_before_it():
    method, pair = scripted()
    _, told = trained(method, pair, training(steps=10), log_every=4, eval_every=5)
    assert [step for step, _ in told.logs] == [4, 5, 8, 10]
    assert [values["loss/one"] for _, values in told.logs] == pytest.approx([1.5, 4, 6, 8.5])


# ---- what is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_step_before_the_next_evaluation(value):
    class Wobbling(SourceOnly):
        def losses(self, batch, progress):
            terms = super().losses(batch, progress)
            return {**terms, "wobble": terms["classification"] * (value if progress.step == 5 else 1.0)}

    method, pair, told = Wobbling(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY), Told()
    with pytest.raises(TrainingError, match=rf"the loss 'wobble' became {value} at step 5; .* try a smaller train\.lr"):
        trained(method, pair, training(steps=8), log_every=4, eval_every=3, told=told)
    assert told.evaluations == [3]  # the state of step 6 is never saved as good
    assert [step for step, _ in told.logs] == [3, 4]


def test_the_first_term_that_went_wrong_is_named():
    class Falling(Method):
        setting = Setting.SOURCE_ONLY

        def losses(self, batch, progress):
            good = self.model.head.weight.square().sum()
            return {term: good * (math.nan if progress.step >= wrong else 1) for term, wrong in (("a", 3), ("b", 2))}

    with pytest.raises(TrainingError, match="the loss 'b' became nan at step 2"):
        trained(Falling(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY), training(steps=6), log_every=6)


def test_batch_norm_refuses_batches_of_one():
    method, pair = scripted()
    with pytest.raises(UsageError, match=r"train\.batch_size=1: batch norm needs 2 examples of each part; expected 2"):
        check_trainable(method, pair, training(batch_size=1))
    check_trainable(method, pair, training(batch_size=2))


def test_a_stream_whose_last_batch_has_one_example_is_refused_with_a_size_that_works():
    pair = made_pair(Setting.TEST_TIME)  # 24 test examples
    method = METHODS.get("tent")(made_model(0, 3))
    with pytest.raises(UsageError) as error:
        check_trainable(method, pair, training(batch_size=23))
    assert str(error.value) == (
        "train.batch_size=23: the last batch of the stream of 24 has one example, too few for batch norm; "
        "expected another size, as in train.batch_size=24"
    )
    check_trainable(method, pair, training(batch_size=24))
    assert trained(method, pair, training(batch_size=24))[0].steps == 1


def test_without_batch_norm_a_batch_of_one_is_a_batch():
    class Flat(nn.Module):
        features = 64

        def forward(self, inputs):
            return inputs.flatten(1)

    method, pair = SourceOnly(Classifier(Flat(), 3, feature_dim=0)), made_pair(Setting.SOURCE_ONLY)
    check_trainable(method, pair, training(batch_size=1))
    assert trained(method, pair, training(batch_size=1, steps=2))[0].examples == 2


def test_two_sources_of_one_example_each_are_a_batch_of_two():
    made = made_pair(Setting.SOURCE_ONLY)
    domains = [*made.sources, made.target]
    pair = Pair(domains, made.target, Setting.SOURCE_ONLY, 0, Protocol(), made.views, made.device)
    assert len(pair.batch(0, 2).source) == 2
    method = SourceOnly(made_model(0, 3))
    check_trainable(method, pair, training(batch_size=2))
    assert trained(method, pair, training(batch_size=2, steps=2))[0].examples == 4


def test_what_cannot_move_or_does_not_fit_is_refused_but_for_closed_forms():
    method, pair = scripted()
    with pytest.raises(UsageError, match=r"train\.batch_size=44: there are 43 source training examples"):
        check_trainable(method, pair, training(batch_size=44))
    with pytest.raises(UsageError, match="Scripted has nothing to train here"):
        check_trainable(method.requires_grad_(False), pair, training())
    check_trainable(scripted(steps=0)[0].requires_grad_(False), pair, training(batch_size=1000))


# ---- precision


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32():
    seen = set()
    method, pair = SourceOnly(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY)
    method.model.backbone.register_forward_hook(lambda _m, _i, output: seen.add(output.dtype))
    before = copy.deepcopy(method.state_dict())
    _, told = trained(method, pair, training(steps=6, precision="bf16"))
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    assert all(math.isfinite(values["loss/classification"]) for _, values in told.logs)
    assert not torch.equal(before["model.head.weight"], method.model.head.weight)

    _, exact = trained(SourceOnly(made_model(0, 3)), made_pair(Setting.SOURCE_ONLY), training(steps=6))
    first, wanted = (logs[0][1]["loss/classification"] for logs in (told.logs, exact.logs))
    assert first == pytest.approx(wanted, rel=0.02)
    assert first != wanted
    last = told.logs[-1][1]["loss/classification"]
    assert last < 0.9 * first


# ---- test streams


class Answering(Method):
    """Answers a batch with its inputs' mean and the step."""

    setting = Setting.TEST_TIME

    def update(self, batch, progress):
        logits = batch.target.inputs.mean((1, 2, 3))[:, None].expand(-1, 3) + progress.step
        yield Step({"a": self.model.head.weight.square().sum()})
        return Output(logits, logits)


def test_a_stream_is_answered_once_an_example_and_ends_with_the_stream():
    pair = made_pair(Setting.TEST_TIME)
    fitted, told = trained(Answering(made_model(0, 3)), pair, training(steps=100, batch_size=10))
    assert fitted.steps == 3
    assert [step for step, _ in told.logs] == [1, 2, 3]
    index, logits = fitted.answers
    assert index.tolist() == [i for step in range(3) for i in pair.batch(step, 10).target.index.tolist()]
    assert sorted(index.tolist()) == list(range(24))
    means = (pair.target_test.inputs[index].float() / 255).mean((1, 2, 3))
    steps = torch.tensor([0] * 10 + [1] * 10 + [2] * 4)
    torch.testing.assert_close(logits[:, 0], means + steps)
    assert not logits.requires_grad


def test_a_test_time_method_must_answer():
    class Silent(Answering):
        def update(self, batch, progress):
            yield Step({"a": self.model.head.weight.square().sum()})
            return None

    with pytest.raises(TypeError, match=r"Silent\.update returned no Output; a test-time method returns its answer"):
        trained(Silent(made_model(0, 3)), made_pair(Setting.TEST_TIME), training())


# ---- the loss curve of every method


def built_in() -> list[str]:
    folder = Path(conformance.__file__).parent / "methods"
    return [name for name in METHODS.names() if source_file(METHODS.get(name)).parent == folder]


def curve(name: str, **values: Any) -> dict[str, list[float]]:
    """The terms of each of 20 steps; of a stream of 24, those of 8 batches of three."""
    method_class = METHODS.get(name)
    made = conformance.case(method_class, 0, None, **values)
    told = Told()
    fit(
        made.method,
        made.pair,
        made.data,
        training(steps=20, batch_size=3 if made.pair.stream else 12),
        log_every=1,
        eval_every=1000,
        on_log=lambda step, terms, _: told.logs.append((step, terms)),
        on_evaluate=lambda _: None,
    )
    names = sorted({term for _, terms in told.logs for term in terms if term.startswith("loss/")})
    return {term: [terms[term] for _, terms in told.logs if term in terms] for term in names}


def differences(found: dict[str, list[float]], stored: dict[str, list[float]]) -> list[str]:
    """The terms whose curves are not the same to a thousandth."""
    wrong = sorted(found.keys() ^ stored.keys())
    for term in sorted(found.keys() & stored.keys()):
        if found[term] != pytest.approx(stored[term], rel=1e-3, abs=1e-6):
            wrong.append(term)
    return wrong


@pytest.mark.parametrize("name", [n for n in built_in() if METHODS.get(n).steps != 0])
def test_the_loss_curve_is_the_stored_one(name):
    found, file = curve(name), LOSSES / f"{name}.json"
    if os.environ.get("DAFW_REWRITE_LOSSES"):
        LOSSES.mkdir(parents=True, exist_ok=True)
        rounded = {term: [float(f"{value:.7g}") for value in values] for term, values in found.items()}
        file.write_text(json.dumps(rounded, indent=1) + "\n")
    assert file.is_file(), f"no stored curve of {name}; DAFW_REWRITE_LOSSES=1 writes it"
    stored = json.loads(file.read_text())
    lengths = {len(values) for values in found.values()}
    assert lengths == ({8} if METHODS.get(name).setting is Setting.TEST_TIME else {20})
    assert differences(found, stored) == []


def test_a_curve_is_stored_for_every_method_that_takes_steps_and_for_no_other():
    assert sorted(f.stem for f in LOSSES.glob("*.json")) == [n for n in built_in() if METHODS.get(n).steps != 0]


def test_a_loss_that_changes_by_a_hundredth_is_seen_in_its_curve():
    stored = json.loads((LOSSES / "dann.json").read_text())
    assert "loss/domain" in differences(curve("dann", weight=1.01), stored)
    assert differences(curve("dann", hidden=255), stored) == ["loss/classification", "loss/domain"]
