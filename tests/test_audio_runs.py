"""Runs on speech: folders of WAV files through a frozen published network, and a small one trained from nothing."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import whole
from speech import class_folders
from whole import run_in, words

pytest.importorskip("soundfile", reason='reading sound needs soundfile: pip install "dafw[audio]"')
has_wheel = pytest.mark.skipif(
    importlib.util.find_spec("openwakeword") is None or importlib.util.find_spec("onnx") is None,
    reason='no weights of speech_embedding: pip install "dafw[audio]"',
)
surroundings, type_here = whole.surroundings, whole.type_here  # fixtures


@pytest.fixture(scope="module")
def pair(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A synthesiser's digits and people's, twelve and eight clips of each digit."""
    folder = tmp_path_factory.mktemp("speech")
    for name in ("espeak", "fsdd"):
        class_folders(real_data / f"speech_{name}.npz", folder / name, most=12)
    return {"src": "audio", "src.root": folder / "espeak", "tgt": "audio", "tgt.root": folder / "fsdd"}


@has_wheel
@pytest.mark.slow
@pytest.mark.parametrize("method", ["source_only", "dann"])
def test_frozen_features_of_speech_train_every_method(type_here: Any, tmp_path: Path, pair: Any, method: str) -> None:
    told = type_here(words(method=method, out=tmp_path, **{**pair, "train.steps": 60, "plots": method == "dann"}))
    assert told.code == 0, told
    assert "espeak: 8000 → 16000 Hz" not in told.out  # the data set was asked for 16000 Hz
    assert "fsdd: 240 of 240 clips are at 8000 Hz: resampled to 16000 Hz" in told.out
    assert "input 12512 samples" in told.out
    assert "backbone speech_embedding (frozen)" in told.out
    record = run_in(told.folder)
    assert record.result["target"]["examples"] == 120
    assert record.accuracy > 0.5
    assert (record.folder / "plots" / "examples.png").is_file() == (method == "dann")


@pytest.mark.slow
def test_a_small_network_hears_with_its_own_rate_and_length(type_here: Any, tmp_path: Path, pair: Any) -> None:
    keys = {"backbone": "logmel_cnn", "backbone.frozen": False, "backbone.seconds": 0.5, "train.steps": 3}
    told = type_here(words(method="dann", out=tmp_path, **{**pair, **keys}))
    assert told.code == 0, told
    assert "fsdd: 16000 → 8000 Hz" in told.out
    assert "clips are longer than 0.50 s: their middle is heard" in told.out
    assert "input 4000 samples" in told.out


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"backbone": "convnet"}, "backbone=convnet takes image, and espeak holds audio"),
        (
            {"backbone": "logmel_cnn", "backbone.frozen": False, "image_size": 16},
            "image_size=16: these domains hold audio",
        ),
        ({"src": "digits", "src.root": None}, "expected a pair of one modality"),
        ({"tgt.seconds": 0.0}, "seconds=0.0: expected the length of a clip"),
    ],
)
def test_what_does_not_fit_speech_is_told_in_one_line(
    type_here: Any, tmp_path: Path, pair: Any, keys: dict[str, Any], line: str
) -> None:
    told = type_here(words(method="source_only", out=tmp_path, **{**pair, **keys}))
    assert told.code != 0
    assert line in told.err.strip().splitlines()[-1]
