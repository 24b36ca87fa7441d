"""Finished runs, loaded again."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import test_assembly
import test_registry
import torch
from test_assembly import config, in_node, parts

from dafw import checkpoint
from dafw.assembly import (
    build_classifier,
    build_method,
    data_of,
    load,
    saved_state,
    start_of,
)
from dafw.config import Config
from dafw.errors import UsageError
from dafw.made import CLASSES
from dafw.modalities.image import reconciled
from dafw.place import Place
from dafw.registry import DATASETS

plugins, write = test_assembly.plugins, test_registry.write  # fixtures


# ---- finished runs


def saved(given: Config, folder: Path, init_run: Path | None = None) -> tuple[Any, Any]:
    """A method that was set up, changed as if trained, and saved; and its pair."""
    init = None if init_run is None else start_of(init_run)
    given, pair, network = parts(given, init)
    model = build_classifier(given, pair, network, None)
    method = build_method(given, model)
    method.setup(data_of(given, pair, network, None))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder.mkdir()
    checkpoint.save(folder / "checkpoint.pt", saved_state(given, pair, method, init_run))
    return method, pair


@pytest.mark.parametrize("name", ["source_only", "dann", "mcd", "shot", "l2sp", "tent", "simclr"])
def test_a_loaded_run_answers_as_it_did(name, tmp_path):
    method, pair = saved(config(name), tmp_path / "run")
    loaded = load(tmp_path / "run")
    inputs = pair.target_test.inputs
    assert not loaded.training
    torch.testing.assert_close(loaded.predict(inputs).logits, method.predict(inputs).logits, rtol=1e-5, atol=1e-6)
    assert loaded.state_dict().keys() == method.state_dict().keys()
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_a_loaded_run_of_a_frozen_backbone_answers_to_images_as_to_features(tmp_path):
    method, pair = saved(in_node(config("dann"), "backbone", frozen=True), tmp_path / "run")
    loaded = load(tmp_path / "run")
    features = pair.target_test.inputs
    wanted = method.predict(features).logits
    torch.testing.assert_close(loaded.predict(features).logits, wanted)
    resized = reconciled(DATASETS.get("p_two")(Place()), (1, 16, 16), []).test.inputs
    torch.testing.assert_close(loaded.predict(resized).logits, wanted, rtol=1e-3, atol=1e-3)


def test_a_frozen_network_may_be_another_runs(tmp_path):
    trained, _ = saved(config("source_only"), tmp_path / "source")
    given = replace(in_node(config("dann"), "backbone", frozen=True), init=str(tmp_path / "source"))
    method, pair = saved(given, tmp_path / "run", init_run=tmp_path / "source")
    images_ = reconciled(DATASETS.get("p_two")(Place()), (1, 16, 16), []).test.inputs
    wanted = trained.model.backbone.eval()(images_.float() / 255)
    torch.testing.assert_close(pair.target_test.inputs, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        load(tmp_path / "run").predict(images_).logits,
        method.predict(pair.target_test.inputs).logits,
        rtol=1e-3,
        atol=1e-3,
    )


def test_the_weights_of_a_run_with_or_without_the_meaning_of_its_head(tmp_path):
    method, _ = saved(config("dann"), tmp_path / "run")
    start = start_of(tmp_path / "run")
    assert start.classes == CLASSES
    assert start.state.keys() == method.model.state_dict().keys()  # the discriminator stays behind
    assert torch.equal(start.state["head.weight"], method.model.head.weight)
    assert start_of(tmp_path / "run", keep_head=False).classes == ()


def test_a_checkpoint_holds_the_config_as_plain_values(tmp_path):
    given = in_node(config("dann"), "src", file=Path("a/b"))
    saved(given, tmp_path / "run")
    state = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert state["classes"] == list(CLASSES)
    assert state["input_shape"] == [1, 16, 16]
    assert state["config"]["src"]["file"] == "a/b"
    assert state["config"]["train"] == asdict(given.train)
    json.dumps(state["config"])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"no checkpoint .*; expected the folder of a finished run"):
        load(tmp_path)
