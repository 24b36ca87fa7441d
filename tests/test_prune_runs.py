"""Runs that start from a pruned network, and the command that prunes in rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from test_identity import config, hashed
from whole import checkpoint, made_pair, measured, run_in, same, weights, words

import dafw
from dafw import assembly, cost, prune
from dafw.config import Prune, config_of
from dafw.errors import UsageError
from dafw.pruning import size
from dafw.record import Record
from dafw.store import compose

surroundings = whole.surroundings  # a fixture
pytest.importorskip("torch_pruning", reason='channels need pip install "dafw[prune]"')

SMALL = {"backbone.width": 4, "backbone.feature_dim": 8}
CONVOLUTIONS = ("0", "3", "7", "10", "14")  # of the convnet, in its state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pruned")


@pytest.fixture
def keys(folder: Path) -> dict[str, Any]:
    """The pair and the network of every run here, all under one folder."""
    return {**made_pair(folder), **SMALL, "out": folder / "runs"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are no matter here."""
    monkeypatch.setattr(cost, "ROUNDS", (1, 1))


@pytest.fixture
def first(keys: dict[str, Any]) -> Record:
    """The run that is pruned."""
    return measured(**keys, method="dann")


def channels(record: Record) -> list[int]:
    """The output channels of each convolution in a run's checkpoint."""
    state = weights(record)
    return [len(state[f"backbone.layers.{layer}.weight"]) for layer in CONVOLUTIONS]


def pruned(*typed: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    """`python -m dafw.prune WORDS`: exit code, lines of stdout, stderr."""
    capsys.readouterr()
    code = prune.main(typed)
    told = capsys.readouterr()
    return code, told.out.splitlines(), told.err


def chain(last: Record, rounds: int) -> list[Record]:
    """The runs of the rounds, first round first, by what each started from."""
    found = [last]
    while len(found) < rounds:
        found.insert(0, run_in(found[0].result["depends_on"][0]))
    return found


# ---- runs from a pruned network


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["channels", "magnitude"])
def test_a_pruned_run_loads_and_answers_as_it_did(first: Record, keys: dict[str, Any], kind: str):
    record = measured(**keys, method="dann", init=first.folder, **{"prune.amount": 0.5, "prune.kind": kind})
    method = dafw.load(record.folder)
    whole_method = dafw.load(first.folder)
    pair = assembly.build_pair(config_of(checkpoint(record)["config"]), None, lambda _: None)[1]
    outputs = pair.target_test.outputs(method)
    assert np.array_equal(outputs.logits.softmax(1).numpy(), record.predictions()["probabilities"])
    assert checkpoint(record)["pruned_from"] == size(whole_method.model.backbone) == method.model.pruned_from
    left, before = size(method.model.backbone), size(whole_method.model.backbone)
    if kind == "magnitude":
        kernels = 9 * (4 * 1 + 4 * 4 + 8 * 4 + 8 * 8 + 16 * 8)
        assert left == before - kernels // 2
        assert not any(key.endswith("weight.original") for key in checkpoint(record)["method"])  # it is packed
        zero = sum(int((m.weight == 0).sum()) for m in method.modules() if isinstance(m, torch.nn.Conv2d))
        assert zero == kernels // 2
    else:
        assert channels(record) == [2, 2, 4, 4, 8]
        assert (record.folder / "checkpoint.pt").stat().st_size < (first.folder / "checkpoint.pt").stat().st_size


@pytest.mark.slow
def test_a_run_that_starts_from_a_pruned_one_is_as_small_and_is_pruned_no_more(first: Record, keys: dict[str, Any]):
    small = measured(**keys, method="dann", init=first.folder, **{"prune.amount": 0.5})
    still = {"train.lr": 1e-12}
    again = measured(**keys, method="mcc", init=small.folder, **still)
    kernels = [name for name in weights(small) if name.endswith("weight") and "layers" in name]
    assert channels(again) == [2, 2, 4, 4, 8]
    assert same({n: weights(again)[n] for n in kernels}, {n: weights(small)[n] for n in kernels}, atol=1e-7)
    features = measured(**keys, method="dann", init=small.folder, **{"backbone.frozen": True})
    loaded = dafw.load(features.folder)
    assert loaded.model.backbone.network.layers[0].out_channels == 2
    assert loaded.model.pruned_from is None  # what it trains is whole
    with pytest.raises(UsageError, match="the weights do not fit this network"):
        measured(**{**keys, "backbone.width": 8}, method="mcc", init=small.folder)


@pytest.mark.slow
def test_a_chain_of_runs_is_pruned_once_where_it_begins(first: Record, keys: dict[str, Any]):
    record = measured(**keys, method="shot", init=first.folder, **{"prune.amount": 0.5})
    start = run_in(record.result["depends_on"][0])
    assert start.result["method"] == "source_only"
    assert start.result["depends_on"] == [str(first.folder)]
    assert channels(start) == channels(record) == [2, 2, 4, 4, 8]
    assert dafw.load(record.folder).model.pruned_from == dafw.load(start.folder).model.pruned_from


@pytest.mark.slow
def test_a_reference_from_random_weights_is_whole(first: Record, keys: dict[str, Any]):
    few = {**keys, "tgt.labels_per_class": 2, "references": True}
    record = measured(**few, method="finetune", init=first.folder, **{"prune.amount": 0.5})
    lower = record.references["lower"]
    assert channels(record) == [2, 2, 4, 4, 8]
    assert channels(lower) == [4, 4, 8, 8, 16]
    assert lower.result["config"]["prune"]["amount"] == 0


def test_the_share_and_the_kind_are_in_the_hash():
    hashes = {hashed(config(prune=Prune(*chosen))) for chosen in ((), (0.5,), (0.25,), (0.5, "magnitude"))}
    assert len(hashes) == 4


@pytest.mark.slow
def test_what_was_pruned_otherwise_is_not_compared(first: Record, keys: dict[str, Any]):
    starts = set()
    for amount, kind in ((0.0, "channels"), (0.5, "channels"), (0.5, "magnitude")):
        chosen = {"prune.amount": amount, "prune.kind": kind}
        starts.add(measured(**keys, method="dann", init=first.folder, **chosen).result["comparable"]["init"])
    start = f"run {first.hash}"
    assert starts == {start, f"{start} without 50 % of its channels", f"{start} without 50 % of its weights"}


def test_a_config_of_an_older_run_prunes_nothing():
    older = {name: value for name, value in vars(config()).items() if name not in ("train", "eval", "wandb", "prune")}
    parts = {name: vars(getattr(config(), name)) for name in ("train", "eval", "wandb")}
    assert config_of({**older, **parts}).prune == Prune(0.0, "channels")


# ---- what cannot be pruned


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            ["prune.amount=0.5"],
            "init=null: only a trained network is pruned; expected init=RUN, or python -m",
        ),
        (["prune.amount=0.5", "init=source"], "init=source: only a trained network"),
        (["prune.amount=1"], "prune.amount=1.0: expected a share from 0 to less than 1"),
        (["prune.amount=-0.1"], "prune.amount=-0.1: expected a share"),
        (["prune.kind=filters"], "prune.kind=filters: expected one of channels, magnitude"),
        (["prune.amount=0.5", "backbone.frozen=true"], "backbone.frozen=true: a frozen backbone is not trained"),
    ],
)
def test_a_config_that_prunes_nothing_is_refused(typed: list[str], says: str):
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        compose(typed)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([], "no run: one run is pruned at a time; expected python -m dafw.prune RUN amount=0.5"),
        (["a", "b", "amount=0.5"], "a b: one run is pruned at a time"),
        (["a", "amount=half"], "amount=half: expected a number"),
        (["a"], "amount=: expected a number"),
        (["a", "amount=1"], "amount=1.0: expected a share between 0 and 1"),
        (["a", "amount=0"], "amount=0.0: expected a share between 0 and 1"),
        (["a", "amount=0.5", "rounds=0"], "rounds=0: expected 1 or more"),
        (["a", "amount=0.5", "rounds=1.5"], "rounds=1.5: expected a number"),
        (["a", "amount=0.5", "init=b"], "init=b: the rounds set init themselves"),
        (["a", "amount=0.5", "prune.amount=0.5"], "prune.amount=0.5: the rounds set prune.amount themselves"),
        (["no/such/run", "amount=0.5"], "no/such/run: no finished run"),
    ],
)
def test_a_mistake_is_one_line(typed: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = pruned(*typed, capsys=capsys)
    assert (code, out) == (2, [])
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_mistakes_about_a_run_are_one_line(first: Record, keys: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    frozen = measured(**keys, method="source_only", init=first.folder, **{"backbone.frozen": True})
    for run, typed, says in (
        (
            frozen,
            [],
            f"as in python -m dafw.run method=distil method.teacher={frozen.folder} backbone.frozen=false src=npz",
        ),
        (first, ["kind=filters"], "prune.kind=filters: expected one of channels, magnitude"),
        (first, ["train.stepz=3"], "unknown key train.stepz"),
        (first, ["backbone.width=8"], "the weights do not fit this network"),
    ):
        code, _, err = pruned(str(run.folder), "amount=0.5", *typed, capsys=capsys)
        assert code == 2
        assert says in err
        assert err.count("\n") == 1


# ---- the command


@pytest.mark.slow
def test_rounds_take_the_amount_together_and_are_found_again(first: Record, capsys: pytest.CaptureFixture[str]):
    typed = (str(first.folder), "amount=0.5", "rounds=2")
    code, out, err = pruned(*typed, capsys=capsys)
    assert (code, err) == (0, "")
    runs = chain(run_in(out[-1].removeprefix("run: ")), 2)
    assert runs[0].result["depends_on"] == [str(first.folder)]
    assert [run.result["config"]["prune"]["amount"] for run in runs] == [pytest.approx(1 - 0.5**0.5)] * 2
    assert [channels(run) for run in runs] == [[3, 3, 6, 6, 11], [2, 2, 4, 4, 8]]
    rows = [line for line in out if line.startswith(str(first.folder.parents[1]))]
    assert [row.split()[0] for row in rows] == [str(run.folder) for run in (first, *runs)]
    assert all(f" {run.accuracy:.3f} " in row for run, row in zip((first, *runs), rows, strict=True))
    own = {key: value for key, value in first.result["config"].items() if key not in ("init", "prune")}
    assert {key: runs[1].result["config"][key] for key in own} == own  # the words of the first run
    times = [(run.folder / "checkpoint.pt").stat().st_mtime_ns for run in runs]
    again = pruned(*typed, capsys=capsys)
    assert again[1][-1] == out[-1]
    assert [(run.folder / "checkpoint.pt").stat().st_mtime_ns for run in runs] == times


@pytest.mark.slow
def test_any_method_trains_between_the_rounds(keys: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    own = measured(**keys, method="dann", **{"method.hidden": 32})  # an option that mcc does not have
    typed = ("amount=0.75", "rounds=1", "kind=magnitude", "method=mcc", "train.steps=3", "method.temperature=2.0")
    code, out, _ = pruned(str(own.folder), *typed, capsys=capsys)
    record = run_in(out[-1].removeprefix("run: "))
    assert (code, record.result["method"], record.result["steps"]) == (0, "mcc", 3)
    assert record.result["config"]["method"]["temperature"] == 2.0
    assert record.result["config"]["prune"] == {"amount": 0.75, "kind": "magnitude"}
    assert record.result["depends_on"] == [str(own.folder)]
    other = pruned(str(own.folder), *typed, *words(seed=1), capsys=capsys)
    assert run_in(other[1][-1].removeprefix("run: ")).hash != record.hash


@pytest.mark.slow
def test_a_round_is_the_run_that_can_be_typed(first: Record, keys: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    _, out, _ = pruned(str(first.folder), "amount=0.5", "rounds=1", capsys=capsys)
    typed = measured(**keys, method="dann", init=first.folder, **{"prune.amount": 0.5})
    assert str(typed.folder) == out[-1].removeprefix("run: ")
