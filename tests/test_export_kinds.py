"""Exported files of speech, pruned and distilled runs answer as these do, and say how to prepare inputs for them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from numpy.typing import NDArray
from whole import made_pair, measured

import dafw.record as records
from dafw import assembly
from dafw.answering import finished
from dafw.backbones.resemblyzer import VoiceNetwork
from dafw.backbones.speech_embedding import speech_embedding
from dafw.cost import multiply_accumulates
from dafw.export import __main__ as exporting
from dafw.export.description import licence
from dafw.pruning import size
from dafw.record import Record

surroundings = whole.surroundings  # a fixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def exported(record: Record, out: Path) -> tuple[dict[str, Any], Any]:
    """What model.json says after an export as ONNX, with weights of 8 bits too, and the file's answers."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="format=onnx needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="format=onnx needs the extra export")
    assert exporting.main([str(record.folder), "int8=true", f"out={out}"]) == 0
    session = onnxruntime.InferenceSession(out / "model.onnx")
    told = json.loads((out / "model.json").read_text())
    within = session.get_modelmeta().custom_metadata_map
    for key in ("classes", "input", "licence"):
        assert json.loads(within[key]) == told[key]

    def answer(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run(None, {"inputs": inputs})
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
        return probabilities

    return told, answer


def check_files(told: dict[str, Any], record: Record, apart: float) -> None:
    """Both files are there, the exact one with the run's accuracy, the one of 8 bits not far from it, and smaller."""
    exact, small = told["files"]["model.onnx"], told["files"]["model.int8.onnx"]
    assert exact["checked"].endswith("target test examples and the run's predictions")
    assert exact["accuracy"] == pytest.approx(record.accuracy)
    assert exact["difference"] < 1e-4
    assert 0 < small["difference"] < apart
    assert small["bytes"] < exact["bytes"]


# ---- speech


def write_clips(folder: Path, seed: int) -> Path:
    """<train|test>/<high|low|middle>/<number>.wav: tones of 0.3 to 1.5 s at 8000 Hz, silent at both ends, in noise."""
    import soundfile

    random = np.random.default_rng(seed)
    for part, count in (("train", 8), ("test", 4)):
        for label, pitch in (("high", 1500), ("low", 300), ("middle", 700)):
            for number in range(count):
                times = np.arange(random.integers(2400, 12000)) / 8000
                clip = 0.4 * np.sin(2 * np.pi * pitch * times) + 0.05 * random.standard_normal(len(times))
                file = folder / part / label / f"{number}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(str(file), np.pad(clip, 100 * (number % 3)), 8000, subtype="PCM_16")
    return folder


def prepared(file: Path, said: dict[str, Any]) -> NDArray[np.float32]:
    """A file as model.json says it is to be prepared, step by step."""
    import scipy.signal
    import soundfile

    assert said["preparation"] == (
        f"one channel of 16-bit samples at {said['rate']} Hz (other rates are resampled by a polyphase filter), "
        f"divided by 32768, without the samples of 0 at both ends; of what is longer than {said['samples']} samples "
        "the middle, before what is shorter silence"
    )
    sound, rate = soundfile.read(str(file), dtype="float32")
    if rate != said["rate"]:
        sound = scipy.signal.resample_poly(sound, said["rate"] // rate, 1)
    sound = np.trim_zeros(np.clip(np.rint(sound * 32768), -32768, 32767)) / 32768
    more = said["samples"] - len(sound)
    if more >= 0:
        return np.concatenate([np.zeros(more), sound]).astype(np.float32)
    first = -more // 2
    return sound[first : first + said["samples"]].astype(np.float32)


@pytest.fixture
def speech(folder: Path) -> dict[str, Any]:
    pytest.importorskip("soundfile", reason='reading sound needs soundfile: pip install "dafw[audio]"')
    roots = {side: write_clips(folder / name, seed) for side, name, seed in (("src", "one", 0), ("tgt", "two", 1))}
    return {"src": "audio", "src.root": roots["src"], "tgt": "audio", "tgt.root": roots["tgt"], "train.steps": 20}


def check_speech(record: Record, folder: Path, out: Path, rate: int, samples: int) -> dict[str, Any]:
    told, answer = exported(record, out)
    check_files(told, record, 0.5)
    assert told["classes"] == ["high", "low", "middle"]
    assert (told["input"]["rate"], told["input"]["samples"]) == (rate, samples)
    assert told["input"]["shape"] == ["batch", samples]
    files = [folder / "two" / "test" / label / f"{n}.wav" for label in told["classes"] for n in range(4)]
    inputs = np.stack([prepared(file, told["input"]) for file in files])
    held = assembly.input_pair(finished(record.folder).config).target_test.inputs
    np.testing.assert_array_equal(held.numpy() / np.float32(32768), inputs)
    for rows in (slice(0, 1), slice(0, 12)):
        np.testing.assert_allclose(answer(inputs[rows]), record.predictions()["probabilities"][rows], rtol=0, atol=1e-4)
    return told


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openwakeword") is None, reason='no weights: pip install "dafw[audio]"')
def test_a_frozen_network_of_speech(speech: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    record = measured(folder / "runs", method="source_only", **speech)
    told = check_speech(record, folder, tmp_path, 16000, 12512)
    assert told["licence"] == {
        "data": {"one": "see the terms of its publisher", "two": "see the terms of its publisher"},
        "published weights": {"speech_embedding": speech_embedding.licence},
    }
    assert "openWakeWord's README" in told["licence"]["published weights"]["speech_embedding"]


@pytest.mark.slow
def test_a_network_of_speech_trained_from_nothing(speech: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    keys = {"backbone": "logmel_cnn", "backbone.frozen": False, "backbone.seconds": 0.7, "train.steps": 5}
    record = measured(folder / "runs", method="dann", **{**speech, **keys, "src.rate": 8000, "tgt.rate": 8000})
    told = check_speech(record, folder, tmp_path, 8000, 5600)
    assert told["licence"]["published weights"] == {}


@pytest.mark.slow
def test_recurrent_layers_of_speech(speech: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {f"lstm.{name}": tensor for name, tensor in VoiceNetwork().lstm.state_dict().items()}
    torch.save({"model_state": state}, file := tmp_path / "weights.pt")
    keys = {"backbone": "resemblyzer", "backbone.path": file, "backbone.seconds": 0.4}
    record = measured(folder / "runs", method="source_only", **{**speech, **keys})
    told = check_speech(record, folder, tmp_path / "out", 16000, 6400)
    assert told["licence"]["published weights"] == {"resemblyzer": "Apache-2.0"}


# ---- smaller networks


@pytest.fixture
def teacher(folder: Path) -> Record:
    return measured(folder / "runs", method="source_only", **made_pair(folder))


def check_images(record: Record, out: Path) -> dict[str, Any]:
    told, answer = exported(record, out)
    check_files(told, record, 0.2)
    pixels = assembly.input_pair(finished(record.folder).config).target_test.inputs.numpy()
    saved = record.predictions()["probabilities"]
    np.testing.assert_allclose(answer(pixels.astype(np.float32) / 255), saved, rtol=0, atol=1e-4)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["channels", "magnitude"])
def test_a_pruned_network(teacher: Record, folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "channels":
        pytest.importorskip("torch_pruning", reason='channels need pip install "dafw[prune]"')
    pruned = {"init": teacher.folder, "prune.amount": 0.5, "prune.kind": kind}
    record = measured(folder / "runs", method="source_only", **{**made_pair(folder), **pruned})
    told = check_images(record, tmp_path)
    assert check_images(teacher, tmp_path / "whole")["classes"] == told["classes"]
    of_whole = (tmp_path / "whole" / "model.onnx").stat().st_size
    part = told["files"]["model.onnx"]["bytes"] / of_whole
    assert part < 0.6 if kind == "channels" else 0.9 < part < 1.1  # ONNX has no sparse layers
    assert size(finished(record.folder).answering()) < 0.8 * size(finished(teacher.folder).answering())


@pytest.mark.slow
def test_a_distilled_network(teacher: Record, folder: Path, tmp_path: Path) -> None:
    keys = {"method.teacher": teacher.folder, "backbone.width": 5, "train.steps": 10}
    record = measured(folder / "runs", method="distil", **{**made_pair(folder), **keys})
    told = check_images(record, tmp_path)
    assert (told["method"], told["run"]) == ("distil", record.hash)
    runs = [finished(run.folder) for run in (record, teacher)]
    small, large = (multiply_accumulates(run.answering(), run.example(1)) for run in runs)
    assert small < large / 4


# ---- whose terms hold


def run_of(folder: Path, src: str, tgt: str, backbone: str, init: str, depends_on: list[Path]) -> Record:
    """As much of a finished run as says where its network comes from."""
    folder.mkdir()
    names = {"src": {"name": src}, "tgt": {"name": tgt}, "backbone": {"name": backbone}, "init": init}
    result = {
        **{"schema": records.SCHEMA, "status": "done", "src": src, "tgt": tgt, "config": names},
        "depends_on": [str(path) for path in depends_on],
    }
    records.write_result(folder, result)
    return Record(folder, result)


UNKNOWN = "see the terms of its publisher"


def test_the_terms_of_data_and_of_weights_are_those_that_they_declare(tmp_path: Path) -> None:
    text = run_of(tmp_path / "text", "vader/amazon", "vader/tweets", "minilm", "published", [])
    terms = "the package vaderSentiment: MIT; the sentences are third parties'"
    assert licence(text) == {
        "data": {"vader/amazon": terms, "vader/tweets": terms},
        "published weights": {"minilm": "Apache-2.0"},
    }
    images = run_of(tmp_path / "images", "mnist+usps", "svhn", "resnet18", "imagenet", [])
    assert licence(images) == {
        "data": {"mnist": UNKNOWN, "usps": UNKNOWN, "svhn": UNKNOWN},
        "published weights": {"resnet18": UNKNOWN},
    }


def test_the_terms_of_a_teacher_and_of_what_it_started_from_are_among_them(tmp_path: Path) -> None:
    first = run_of(tmp_path / "first", "mnist", "gone_plugin", "gone_backbone", "published", [])
    teacher = run_of(tmp_path / "teacher", "espeak", "spoken_digits", "resemblyzer", str(first.folder), [first.folder])
    student = run_of(tmp_path / "student", "espeak", "audio", "logmel_cnn", "random", [teacher.folder])
    assert licence(student) == {
        "data": {
            **{"espeak": UNKNOWN, "audio": UNKNOWN, "spoken_digits": "CC BY-SA 4.0"},
            **{"mnist": UNKNOWN, "gone_plugin": UNKNOWN},
        },
        "published weights": {"gone_backbone": UNKNOWN},
    }
