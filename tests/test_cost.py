"""What a network costs to ask: counted by hand, and timed in turns."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import whole
from torch import nn
from whole import command, made_pair, measured

from dafw import cost, pruning
from dafw.answering import Answering, finished
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.frozen import FrozenBackbone, FrozenNetwork
from dafw.methods.dann import DANN
from dafw.methods.mcd import MCD
from dafw.methods.source_only import SourceOnly

surroundings = whole.surroundings  # a fixture

EXAMPLE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
# of ConvNet(1, 2) on 8x8: places x kernel x channels in x channels out, two poolings between
BODY = 64 * 9 * 1 * 2 + 64 * 9 * 2 * 2 + 16 * 9 * 2 * 4 + 16 * 9 * 4 * 4 + 4 * 9 * 4 * 8
WEIGHTS = 9 * (1 * 2 + 2 * 2 + 2 * 4 + 4 * 4 + 4 * 8)
NORMS = 2 * (2 + 2 + 4 + 4 + 8)  # scales and shifts
HEADS = 32 * 8 + 2 * 8 + 8 * 3 + 3  # bottleneck with its norm, head with its bias
STATISTICS = NORMS + 2 * 8 + 2  # running means and variances, and the mean and deviation of pixels


# ---- multiply-accumulates


def test_a_classifier_by_hand(model: Classifier) -> None:
    assert cost.multiply_accumulates(Answering(SourceOnly(model), EXAMPLE), EXAMPLE) == BODY + 32 * 8 + 8 * 3


def test_a_frozen_body_counts() -> None:
    body = ConvNet(1, 2).eval()
    held = FrozenBackbone(FrozenNetwork.of(body), torch.rand(9, 32), 32, (1, 8, 8))
    method = SourceOnly(Classifier(held, 3, feature_dim=8))
    network = Answering(method, EXAMPLE)
    assert cost.multiply_accumulates(network, EXAMPLE) == BODY + 32 * 8 + 8 * 3
    assert pruning.size(network) == WEIGHTS + NORMS + HEADS
    assert body.layers[1].num_batches_tracked is not None  # the body itself, which other runs share, is as it was


@pytest.mark.parametrize("batch", [1, 3])
def test_recurrent_layers(batch: int) -> None:
    """Each step multiplies input and hidden state by the weights of four gates, of three in a GRU."""
    lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True).eval()
    both = nn.LSTM(8, 16, bidirectional=True, batch_first=True).eval()
    inputs = torch.rand(batch, 10, 8)
    assert cost.multiply_accumulates(lstm, inputs) == batch * 10 * 4 * 16 * (8 + 16 + 16 + 16)
    assert cost.multiply_accumulates(both, inputs) == batch * 10 * 2 * 4 * 16 * (8 + 16)
    assert cost.multiply_accumulates(nn.GRU(8, 16, batch_first=True).eval(), inputs) == batch * 10 * 3 * 16 * (8 + 16)


def test_attention_and_its_products() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True).eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    tokens = 10
    by_hand = tokens * (4 * 16 * 16 + 2 * 16 * 32) + 2 * tokens * tokens * 16  # projections, and scores and their use
    assert cost.multiply_accumulates(layer, torch.rand(1, tokens, 16)) == by_hand
    assert torch.backends.mha.get_fastpath_enabled() is fast


def test_grouped_and_strided_convolutions() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, groups=8))
    assert cost.multiply_accumulates(layers, torch.rand(1, 4, 9, 9)) == 25 * 9 * 4 * 8 + 9 * 9 * 8


# ---- what answers


def test_only_what_answers_counts(model: Classifier) -> None:
    network = Answering(DANN(model), EXAMPLE)
    assert pruning.size(network) == WEIGHTS + NORMS + HEADS
    assert {name.split(".")[1] for name, _ in network.named_parameters()} == {"model"}
    method = MCD(model)
    both = Answering(method, EXAMPLE)
    assert pruning.size(both) == WEIGHTS + NORMS + HEADS + 8 * 3 + 3
    assert torch.equal(both(EXAMPLE), method.predict(EXAMPLE).logits)
    assert method.model.backbone.layers[1].num_batches_tracked is not None


def test_the_file_holds_weights_and_statistics(model: Classifier) -> None:
    network = Answering(DANN(model), EXAMPLE)
    numbers = WEIGHTS + NORMS + HEADS + STATISTICS
    names = [*dict(network.named_parameters()), *dict(network.named_buffers())]
    empty = safetensors.torch.save({name: torch.zeros(0) for name in names})
    assert 0 <= cost.file_size(network) - 4 * numbers - len(empty) < 1000  # larger places in the head of the file


def test_pruned_weights_are_not_counted_and_packed(model: Classifier) -> None:
    whole_size = cost.file_size(Answering(SourceOnly(model), EXAMPLE))
    pruning.prune_weights(model, 0.5)
    method = SourceOnly(model)
    network = Answering(method, EXAMPLE)
    assert pruning.size(network) == WEIGHTS // 2 + NORMS + HEADS
    assert cost.file_size(network) < whole_size - 4 * (WEIGHTS // 2) + WEIGHTS // 8 + 1000
    wanted = method.predict(EXAMPLE).logits
    plain = network.made_plain()
    assert torch.equal(plain(EXAMPLE), wanted)
    assert not any("parametrizations" in name for name in plain.state_dict())
    weights = torch.cat([m.weight.flatten() for m in plain.modules() if isinstance(m, nn.Conv2d)])
    assert (weights == 0).sum() == WEIGHTS // 2


# ---- latency


def test_networks_take_turns_and_ratios_are_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 9.0, *(1.0, 3.0), *(2.0, 1.0), *(4.0, 10.0)])  # the first calls count not
    asked: list[str] = []

    def clocked(network: Any, inputs: Any) -> float:
        asked.append(f"{network}{inputs}")
        assert torch.get_num_threads() == 1
        return next(seconds)

    monkeypatch.setattr(cost, "_seconds", clocked)
    monkeypatch.setattr(cost, "ROUNDS", (3, 3))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    given: Any = ["a", "b"]
    assert cost.latencies(given, given) == [1.0, 2.5]  # of 3, 0.5 and 2.5
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert asked == ["aa", "bb"] * 4


# ---- runs


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    pair = made_pair(tmp_path)
    records = [
        measured(tmp_path / "runs", method="source_only", **pair, **{"backbone.width": width}) for width in (4, 2)
    ]
    folders = [str(record.folder) for record in records]
    told = command("dafw.cost", *folders, cwd=tmp_path)
    assert (told.code, told.err) == (0, "")
    first, second = (line.split() for line in told.out.splitlines()[2:4])
    assert [first[0], second[0]] == folders
    assert [first[1:4], second[1:4]] == [["source_only", "convnet", f"width={width}"] for width in (4, 2)]
    assert first[4] == f"{records[0].accuracy:.3f}"
    rows = cost.table(folders)
    assert [row.accuracy for row in rows] == [record.accuracy for record in records]
    places = 256  # 16x16, the least side
    by_hand = 9 * (places * (1 * 2 + 2 * 2) + places // 4 * (2 * 4 + 4 * 4) + places // 16 * 4 * 8) + 32 * 128 + 128 * 3
    assert rows[1].macs == by_hand
    assert rows[0].latency == {1: 1.0, 64: 1.0}
    assert f"({rows[1].macs / rows[0].macs:.2f})" in told.out


def test_what_is_no_finished_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"no finished run, it has no result.json; expected the folder"):
        finished(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"status": "failed", "reason": "a loss became NaN"}))
    with pytest.raises(UsageError, match=r"did not end \(a loss became NaN\); expected a finished one"):
        finished(tmp_path)
    for words in ([], [str(tmp_path / "nowhere")]):
        assert cost.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert "expected" in line


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (69_300, "69.3 k"), (999_900, "1.00 M"), (283_000_000, "283 M")],
)
def test_numbers_have_three_digits_and_a_unit(value: int, shown: str) -> None:
    assert cost.short(value) == shown
