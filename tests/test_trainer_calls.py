"""What the loop calls and when, what it logs, refuses and records."""

import copy
import math
from typing import Any

import pytest
import torch
from test_trainer import Told, scripted, trained, training
from torch import nn

from dafw.classifier import Classifier
from dafw.errors import TrainingError, UsageError
from dafw.made import made_model, made_pair
from dafw.method import Method
from dafw.methods.source_only import SourceOnly
from dafw.pair import Pair, Protocol
from dafw.registry import METHODS
from dafw.setting import Output, Setting, Step
from dafw.trainer import Fitted, check_trainable

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
