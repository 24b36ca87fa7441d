"""What each setting may see, and how examples are handed out."""

import pytest
import torch

from dafw.registry import METHODS
from dafw.setting import RULES, Batch, Examples, Labelled, Reference, Setting, Step

SEEN = {  # source, target, shots, lower, upper: the table of the design
    "source_only": ("labelled", "none", False, None, "joint_supervised"),
    "unsupervised": ("labelled", "train", False, "source_only", "joint_supervised"),
    "semi_supervised": ("labelled", "train", True, "joint_supervised", "joint_supervised"),
    "source_free": ("none", "train", False, "source_only", "joint_supervised"),
    "test_time": ("none", "stream", False, "source_only", "joint_supervised"),
    "transfer": ("none", "none", True, "finetune", None),
    "self_supervised": ("inputs", "train", False, "source_only", "joint_supervised"),
    "target_supervised": ("none", "none", True, "source_only", "joint_supervised"),
    "joint_supervised": ("labelled", "none", True, "source_only", None),
}


def test_the_table_is_the_published_one():
    written = {
        setting.value: (
            rule.source,
            rule.target,
            rule.shots,
            rule.lower and rule.lower.method,
            rule.upper and rule.upper.method,
        )
        for setting, rule in RULES.items()
    }
    assert written == SEEN


def test_a_reference_with_the_runs_own_shots_stands_where_shots_are_rationed():
    assert RULES[Setting.SEMI_SUPERVISED].lower == Reference("joint_supervised", same_shots=True)
    assert RULES[Setting.TRANSFER].lower == Reference("finetune", init="random", same_shots=True)
    others = [r for s, r in RULES.items() if s not in (Setting.SEMI_SUPERVISED, Setting.TRANSFER)]
    assert not any(r.same_shots for rule in others for r in (rule.lower, rule.upper, *rule.baselines) if r)


def test_cheap_baselines_stand_in_every_table_of_unsupervised_adaptation():
    cheap = (Reference("adabn"), Reference("coral"), Reference("subspace_alignment"))
    probe = Reference("source_probe", frozen=True)
    for setting in (Setting.UNSUPERVISED, Setting.SEMI_SUPERVISED, Setting.SOURCE_FREE):
        assert RULES[setting].baselines == (*cheap, probe)
    for reference in (*cheap, probe):
        assert METHODS.get(reference.method).steps == 0


def test_transfer_alone_starts_from_the_source_model():
    assert {s for s, rule in RULES.items() if rule.init == "source"} == {Setting.TRANSFER}
    assert {rule.init for rule in RULES.values()} == {"source", "random"}


@pytest.mark.parametrize("setting", list(Setting), ids=lambda s: s.value)
def test_every_reference_is_a_method_that_sees_no_more_than_it_bounds_may(setting):
    rule = RULES[setting]
    for reference in (rule.lower, rule.upper, *rule.baselines):
        if reference is not None:
            method = METHODS.get(reference.method)
            assert not reference.same_shots or RULES[method.setting].shots
    if rule.lower is not None and not rule.shots:
        assert not RULES[METHODS.get(rule.lower.method).setting].shots


def counted_examples() -> tuple[Examples, list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []

    def draw(view: str, number: int) -> torch.Tensor:
        asked.append((view, number))
        return torch.full((2, 1), float(len(asked)))

    return Examples(draw, torch.tensor([4, 7]), torch.tensor([-1, -1])), asked


def test_inputs_are_the_weak_view_drawn_once():
    examples, asked = counted_examples()
    assert asked == []  # nothing is drawn that nobody looks at
    assert examples.inputs is examples.inputs
    assert asked == [("weak", 0)]
    assert len(examples) == 2


def test_each_view_is_a_new_draw_whether_or_not_inputs_were_looked_at():
    examples, asked = counted_examples()
    first, second = examples.view("strong"), examples.view("strong")
    assert not torch.equal(first, second)
    _ = examples.inputs
    examples.view("weak")
    assert asked == [("strong", 1), ("strong", 2), ("weak", 0), ("weak", 3)]


def test_only_labelled_examples_have_labels():
    examples, _ = counted_examples()
    assert not hasattr(examples, "labels")
    labelled = Labelled(examples._draw, examples.index, examples.domain, torch.tensor([1, 0]))
    assert labelled.labels.tolist() == [1, 0]
    assert isinstance(labelled, Examples)


def test_a_step_moves_everything_unless_it_says_otherwise():
    assert Step({}).only == ()
    assert Batch._fields == ("source", "target", "shots")
