"""Whole runs on texts, with a BERT of two small layers: frozen and trained, every kind of setting, pictures, load."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from PIL import Image
from whole import checkpoint, command, measured, run_in, weights, words

import dafw
from dafw.record import Record

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason='no transformers: pip install "dafw[text]"')

from small_bert import write_model, write_texts

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures
out = whole.out

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The words of a pair of made texts and the small network."""
    folder = tmp_path_factory.mktemp("texts")
    return {
        "src": "text",
        "src.path": write_texts(folder / "plain.jsonl"),
        "tgt": "text",
        "tgt.path": write_texts(folder / "daily.jsonl", "a day . a very day ."),
        "backbone": "transformer",
        "backbone.model": write_model(folder / "bert"),
        "backbone.feature_dim": 8,
    }


def predicted(record: Record, inputs: torch.Tensor) -> torch.Tensor:
    return dafw.load(record.folder).predict(inputs).logits.softmax(1)


def test_frozen_features_are_cached_and_every_kind_of_method_runs(pair: dict[str, Any], out: Path) -> None:
    for method in ("source_only", "dann", "shot", "simclr", "finetune"):
        shots = {"tgt.labels_per_class": 5} if method == "finetune" else {}
        record = measured(out, method=method, **{**pair, **shots, "backbone.frozen": True, "train.batch_size": 8})
        assert record.result["status"] == "done"
        assert not any(name.startswith("backbone.network") for name in weights(record))
        assert record.result["config"]["init"] == ("source" if method == "finetune" else "published")


def test_a_frozen_run_learns_and_answers_to_tokens(pair: dict[str, Any], out: Path) -> None:
    record = measured(
        out, method="source_only", **{**pair, "backbone.frozen": True, "train.lr": 1e-3, "train.steps": 300}
    )
    assert record.result["source"]["accuracy"] > 0.85  # its words tell the classes apart, even of random features
    saved = record.predictions()
    assert tuple(checkpoint(record)["input_shape"]) == (2, 24)
    from dafw.backbones.transformer import transformer

    rows = [json.loads(line) for line in Path(pair["tgt.path"]).read_text().splitlines()]
    texts = [row["text"] for row in rows if row["split"] == "test"]
    inputs, _ = transformer.tokens(texts, model=str(pair["backbone.model"]), length=128)
    found = predicted(record, inputs[torch.from_numpy(saved["index"])])
    np.testing.assert_allclose(found.numpy(), saved["probabilities"], atol=1e-4)


def test_another_process_on_cached_features_loads_neither_network_nor_tokeniser(
    pair: dict[str, Any], tmp_path: Path
) -> None:
    frozen = {**pair, "backbone.frozen": True, "train.batch_size": 8, "out": tmp_path / "runs"}

    def imported(method: str) -> tuple[bool, bool]:
        cache = {"DAFW_CACHE": str(tmp_path / "cache"), "PYTHONPROFILEIMPORTTIME": "1"}
        told = command("dafw.run", *words(method=method, **frozen), cwd=tmp_path, **cache)
        assert told.code == 0, told.err[-2000:]
        return "transformers." in told.err, "computed once" in told.out

    assert imported("source_only") == (True, True)
    assert imported("dann") == (False, False)
    assert imported("source_only") == (False, False)  # found again


@pytest.mark.parametrize("method", ["source_only", "dann", "simclr", "shot", "finetune"])
def test_the_network_itself_is_trained(pair: dict[str, Any], out: Path, method: str) -> None:
    shots = {"tgt.labels_per_class": 5} if method == "finetune" else {}
    record = measured(out, method=method, **{**pair, **shots, "train.batch_size": 8})
    start = run_in(record.result["depends_on"][0]) if record.result["depends_on"] else None
    from safetensors.torch import load_file

    before = weights(start) if start is not None else {}
    published = load_file(Path(pair["backbone.model"]) / "model.safetensors")
    for layer in (0, 1):
        name = f"encoder.layer.{layer}.output.dense.weight"
        old = before.get(f"backbone.network.{name}", published[name])
        change = (weights(record)[f"backbone.network.{name}"] - old).abs().max()
        assert 0 < change < 5 * 5e-5 * 1.5, method  # AdamW moves 5 steps at a tenth of 5e-4


def test_only_the_top_layer_moves(pair: dict[str, Any], out: Path) -> None:
    record = measured(out, method="dann", **{**pair, "backbone.layers": 1, "train.batch_size": 8})
    from safetensors.torch import load_file

    published = load_file(Path(pair["backbone.model"]) / "model.safetensors")
    for name, value in weights(record).items():
        if name.startswith("backbone.network.") and name.removeprefix("backbone.network.") in published:
            moved = not torch.equal(value, published[name.removeprefix("backbone.network.")])
            if not name.endswith("key.bias"):  # softmax does not see it
                assert moved == ("layer.1." in name), name


def test_the_command_draws_sentences_and_says_what_was_cut(pair: dict[str, Any], tmp_path: Path, type_here) -> None:
    given = {**pair, "backbone.frozen": True, "backbone.length": 12, "plots": True, "out": tmp_path / "runs"}
    told = type_here(words(method="source_only", **given))
    assert told.code == 0, told
    assert told.err == ""
    assert "texts are longer than 12 tokens: cut at their end" in told.out
    picture = np.asarray(Image.open(told.folder / "plots" / "examples.png").convert("L"))
    assert (picture < 128).mean() > 0.005  # letters
    assert json.loads((told.folder / "result.json").read_text())["image_size"] is None


def test_texts_and_images_are_no_pair(pair: dict[str, Any], tmp_path: Path, type_here) -> None:
    own = {key: value for key, value in pair.items() if not key.startswith("tgt")}
    told = type_here(words(method="dann", **own, tgt="digits", out=tmp_path))
    assert told.code == 2
    assert "plain holds text and digits holds image; expected a pair of one modality" in told.err
    own = {key: value for key, value in pair.items() if not key.startswith("backbone")}
    told = type_here(words(method="dann", **own, backbone="convnet", out=tmp_path))
    assert "backbone=convnet takes image, and plain holds text; expected another, as in backbone=minilm" in told.err
    told = type_here(words(method="dann", **{**pair, "image_size": 32, "out": tmp_path}))
    assert "image_size=32: these domains hold text" in told.err
