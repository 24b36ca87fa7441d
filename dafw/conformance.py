"""What every method must hold, checked by itself: `python -m dafw.check my_method.py` runs this on a stranger's file.

Each `check_...` takes a registered method's class and raises AssertionError with a sentence. A method may be excused
from one by a class attribute `exempt = {"check_name": "the reason"}`, or `{"check_hyperparameters:name": "the reason"}`
for one hyper-parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dafw.made import EVERY, IMAGES, Made, made_model, made_pair
from dafw.method import Method
from dafw.pair import Data, Pair
from dafw.registry import METHODS, Option, about, options
from dafw.setting import RULES, Progress, Step, Teacher
from dafw.split import to_float
from dafw.trainer import Fitted, Training, fit, make_optimizer, run_updates

TRAINING = Training(
    steps=8, batch_size=12, optimizer="sgd", lr=0.05, schedule="constant", weight_decay=0.0, precision="fp32"
)


# ---- a method on a pair that is made in a moment


@dataclass
class Case:
    """A method set up on the made pair."""

    method: Method
    pair: Pair
    data: Data

    def train(self) -> Fitted:
        return fit(
            self.method,
            self.pair,
            self.data,
            TRAINING,
            log_every=4,
            eval_every=1000,
            on_log=lambda *_: None,
            on_evaluate=lambda _: None,
        )


def case(
    method_class: type[Method],
    seed: int = 0,
    change: Callable[[Pair], None] | None = None,
    made: Made = IMAGES,
    **values: Any,
) -> Case:
    """The method on the made pair; `change` may alter the pair before the method sees it."""
    pair = made_pair(method_class.setting, seed, made)
    if change is not None:
        change(pair)
    model = made_model(seed, len(pair.classes), made)
    torch.manual_seed(seed)
    method = method_class(model, **{**sample_values(method_class), **values})
    start = copy.deepcopy(model)
    still = copy.deepcopy(start).eval().requires_grad_(False)
    teacher = Teacher(lambda examples: still(examples.inputs), still.feature_dim)
    data = pair.data(lambda: copy.deepcopy(still), lambda _: teacher)
    method.setup(data)
    return Case(method, pair, data)


def sample_values(method_class: type[Method]) -> dict[str, Any]:
    """Values for hyper-parameters that have no default; a method gives its own in a class attribute `sample`."""
    return dict(getattr(method_class, "sample", {}))


def steps_of(case: Case, number: int, fraction: float) -> Iterator[Step]:
    """The steps of one batch, as the trainer would take them, with the random numbers of this step."""
    torch.manual_seed(number)
    number %= case.pair.batches(TRAINING.batch_size)  # a stream ends
    progress = Progress(number, 10, fraction, 0)
    case.method.train()
    case.method.prepare(case.data, progress)
    yield from case.method.update(case.pair.batch(number, TRAINING.batch_size), progress)


def state_of(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def outcome(trained: Case, fitted: Fitted) -> dict[str, Tensor]:
    """All that a run leaves: the state, and a stream's answers."""
    state = state_of(trained.method)
    if fitted.answers is not None:
        state["answers"] = fitted.answers[1]
    return state


def trained(
    method_class: type[Method],
    seed: int = 0,
    change: Callable[[Pair], None] | None = None,
    made: Made = IMAGES,
    **values: Any,
) -> dict[str, Tensor]:
    ready = case(method_class, seed, change, made, **values)
    return outcome(ready, ready.train())


# ---- the checks


def check_terms(method_class: type[Method]) -> None:
    """Every loss term is a finite scalar with finite gradients, and over a batch's steps it reaches the model."""
    if method_class.steps == 0:
        return
    made = case(method_class)
    optimizer = make_optimizer(made.method, TRAINING)
    for step in steps_of(case(method_class), 0, 0.0):
        for name, loss in step.losses.items():
            assert loss.requires_grad, f"the term {name!r} has no gradient on the model: it is a constant"
    for number in range(3):  # a distance to the start is flat at the start itself
        run_updates(made.method, steps_of(made, number, number / 10), optimizer)
    reached: dict[str, bool] = {}
    for step in steps_of(made, 5, 0.5):
        assert step.losses, "a step has no loss term"
        for name, loss in step.losses.items():
            assert loss.shape == (), f"the term {name!r} has shape {tuple(loss.shape)}; a term is a scalar"
            assert torch.isfinite(loss), f"the term {name!r} is {loss.item()}"
            parameters = [p for p in made.method.model.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            found = [g for g in gradients if g is not None]
            assert all(torch.isfinite(g).all() for g in found), f"the term {name!r} has a gradient that is not finite"
            reached[name] = reached.get(name, False) or any(bool((g != 0).any()) for g in found)
        optimizer.zero_grad()
    for name, moved in reached.items():
        assert moved, f"the term {name!r} has no gradient on the model half-way through training: it teaches it nothing"


def check_weights(method_class: type[Method]) -> None:
    """`weight` scales every term but `classification`, `<term>_weight` that term; at 0 the rest is left bit for bit."""
    names = [o.name for o in options(method_class) if o.type is float]
    for name in names:
        if name != "weight" and not name.endswith("_weight"):
            continue
        term = None if name == "weight" else name[: -len("_weight")]

        def scaled(loss: str, term: str | None = term) -> bool:
            return loss == term or (term is None and loss != "classification")

        default = next(o.default for o in options(method_class) if o.name == name)
        ordinary = _terms(moved(case(method_class)))
        double = _terms(moved(case(method_class, 0, None, IMAGES, **{name: 2 * default})))
        for once, twice in zip(ordinary, double, strict=True):
            for loss, value in once.items():
                wanted = 2 * value if scaled(loss) else value
                assert torch.allclose(twice[loss], wanted, rtol=1e-5), (
                    f"{name} doubled: the term {loss!r} is not as expected"
                )
        terms = sorted({loss for losses in ordinary for loss in losses})
        assert any(map(scaled, terms)), f"{name} scales none of the terms {', '.join(terms)}"
        made = moved(case(method_class, 0, None, IMAGES, **{name: 0.0}))
        for step in steps_of(made, 0, 0.5):
            parameters = [p for p in made.method.model.parameters() if p.requires_grad]
            total = torch.stack(list(step.losses.values())).sum()
            rest = [loss for key, loss in step.losses.items() if not scaled(key)]
            gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
            wanted_gradients: Any = [None] * len(parameters)
            if rest:
                wanted_gradients = torch.autograd.grad(
                    torch.stack(rest).sum(), parameters, retain_graph=True, allow_unused=True
                )
            for got, expected in zip(gradients, wanted_gradients, strict=True):
                got = torch.zeros(1) if got is None else got
                expected = torch.zeros_like(got) if expected is None else expected
                assert torch.equal(got.broadcast_to(expected.shape), expected), f"{name}=0 still moves the model"


def moved(made: Case) -> Case:
    """The case with every parameter a little off its start, where a distance to the start is flat."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.method.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return made


def _terms(made: Case) -> list[dict[str, Tensor]]:
    return [{k: v.detach() for k, v in step.losses.items()} for step in steps_of(made, 0, 0.5)]


def check_target_labels_hidden(method_class: type[Method], made: Made = IMAGES) -> None:
    """Where the setting forbids target labels, permuting them leaves every bit of training as it was."""
    if RULES[method_class.setting].shots:
        return

    def permute(pair: Pair) -> None:
        for split in (pair.target_train, pair.target_validation, pair.target_test):
            if split is not None:
                split.labels = (split.labels + 1) % len(pair.classes)

    ordinary, permuted = (trained(method_class, change=change, made=made) for change in (None, permute))
    assert same(ordinary, permuted), "training depends on the target's labels"


def check_inputs_used(method_class: type[Method], made: Made = IMAGES) -> None:
    """Every domain that the setting shows is looked at: other inputs there give another model."""
    rule = RULES[method_class.setting]
    seen = {
        "source": ("source_train",) if rule.source != "none" else (),
        "target": {"train": ("target_train",), "stream": ("target_test",), "none": ()}[rule.target],
        "labelled target": ("shots",) if rule.shots else (),
    }
    ordinary = trained(method_class, made=made)
    for part, names in seen.items():
        for name in names:

            def change(pair: Pair, name: str = name) -> None:
                split = getattr(pair, name)
                split.table = made.changed(split.table)

            assert not same(ordinary, trained(method_class, change=change, made=made)), (
                f"training never looks at the {part} inputs"
            )


def check_seed(method_class: type[Method], made: Made = IMAGES) -> None:
    """The same seed gives the same bits twice, another seed gives others."""
    first, again, other = (trained(method_class, seed, made=made) for seed in (0, 0, 1))
    assert same(first, again), "two runs of one seed differ"
    assert not same(first, other), "two seeds give the same bits"


def check_trained(method_class: type[Method]) -> None:
    """Every parameter that asks for a gradient moves; a closed form changes the model."""
    made = case(method_class)
    before = state_of(made.method)
    made.train()
    if method_class.steps == 0:
        assert not same(before, state_of(made.method)), "`finish` changes nothing"
        return
    still = [n for n, p in made.method.named_parameters() if p.requires_grad and torch.equal(p, before[n])]
    assert not still, f"{', '.join(still)} never moved in training: leave it out by requires_grad_(False), or train it"


def check_state_dict(method_class: type[Method], made: Made = IMAGES) -> None:
    """A state saved and loaded into a new instance answers the same."""
    first, fresh = case(method_class, made=made), case(method_class, seed=1, made=made)
    first.train()
    fresh.method.load_state_dict(first.method.state_dict())
    inputs = first.pair.target_test.inputs
    for got, wanted in zip(fresh.method.predict(inputs), first.method.predict(inputs), strict=True):
        assert torch.equal(got, wanted), "a loaded state predicts otherwise than the one that was saved"


def check_hyperparameters(method_class: type[Method]) -> None:
    """Every hyper-parameter changes something when its value is changed."""
    ordinary = trained(method_class)
    for option in options(method_class):
        if f"check_hyperparameters:{option.name}" in exemptions(method_class):
            continue
        changed = trained(method_class, **{option.name: another_value(option)})
        assert not same(ordinary, changed), f"the hyper-parameter {option.name} changes nothing"


def another_value(option: Option) -> Any:
    """A value that is not the default."""
    default = option.default
    if isinstance(default, Enum):
        return next(member for member in type(default) if member is not default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return 2 * default if default else 0.5
    raise AssertionError(
        f"{option.name}: no other value can be made up for {default!r}; "
        f"""excuse it with exempt = {{"check_hyperparameters:{option.name}": "the reason"}}"""
    )


def check_predict(method_class: type[Method], made: Made = IMAGES) -> None:
    """`predict` changes nothing, and a row's answer is the same alone and in a batch; a stream is answered once."""
    ready = case(method_class, made=made)
    fitted = ready.train()
    before = state_of(ready.method)
    inputs = ready.pair.target_test.inputs
    together = ready.method.predict(inputs).logits
    assert same(before, state_of(ready.method)), "predict changes the method's state: it adapts to what it is asked"
    alone = torch.cat([ready.method.predict(row[None]).logits for row in inputs])
    assert torch.allclose(together, alone, atol=1e-4), "predict's answer to a row depends on the rest of the batch"
    assert together.shape == (len(inputs), len(ready.pair.classes)), (
        f"predict's logits have shape {tuple(together.shape)}"
    )
    floats = ready.method.predict(to_float(inputs)).logits
    assert torch.allclose(together, floats, atol=1e-4), "predict answers inputs as they are held and floats differently"
    if ready.pair.stream:
        assert fitted.answers is not None
        index, logits = fitted.answers
        assert index.sort().values.tolist() == list(range(len(inputs))), "the stream is not answered once an example"
        assert torch.isfinite(logits).all(), "an answer to the stream is not finite"


def check_documented(method_class: type[Method]) -> None:
    """The docstring names the paper and its year, so that the list can."""
    summary, paper = about(method_class)
    assert summary, "it has no docstring: say in a sentence what it does"
    assert paper, 'its docstring names no paper with its year, as in "(Ganin et al. 2016, JMLR 17(59), eq. 9-10)"'


CHECKS: dict[str, Callable[..., None]] = {
    name: function for name, function in list(globals().items()) if name.startswith("check_")
}
OF_MODALITIES = ("check_target_labels_hidden", "check_inputs_used", "check_seed", "check_state_dict", "check_predict")
OTHERS = [(name, made) for made in EVERY if made is not IMAGES for name in OF_MODALITIES]  # beside images


def exemptions(method_class: type[Method]) -> dict[str, str]:
    """The checks that a method is excused from, each with a reason."""
    excused: dict[str, str] = dict(getattr(method_class, "exempt", {}))
    for name, reason in excused.items():
        if not reason.strip() or name.split(":")[0] not in CHECKS:
            raise AssertionError(f"exempt[{name!r}]: expected the name of a check and a reason")
    return excused


def failures(name: str) -> Iterator[tuple[str, str | None]]:
    """Each check of the method registered under this name, with what it found wrong, or None."""
    method_class = METHODS.get(name)
    for check, made in [*((check, IMAGES) for check in CHECKS), *OTHERS]:
        if check in exemptions(method_class):
            continue
        label = check if made is IMAGES else f"{check} ({made.modality})"
        function = partial(CHECKS[check], made=made) if check in OF_MODALITIES else CHECKS[check]
        try:
            function(method_class)
        except AssertionError as error:
            yield label, str(error)
        except Exception as error:  # a stranger's code may fail in any way: that is a finding too
            yield label, f"{type(error).__name__}: {error}"
        else:
            yield label, None


def source_of(path: Path) -> list[str]:
    """The names of the methods that a file registers."""
    from dafw.registry import load_plugin, source_file

    load_plugin(path)
    return [n for n in METHODS.names() if source_file(METHODS.get(n)).resolve() == path.resolve()]
