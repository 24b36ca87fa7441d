"""A frozen network is made where it is asked, and known by the files it is read from."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whole
from whole import Told, made_npz, words

import dafw
from dafw import assembly, networks, sources
from dafw.config import Config, resolve
from dafw.errors import UsageError
from dafw.frozen import FrozenBackbone, FrozenNetwork, fingerprint
from dafw.networks import frozen_network
from dafw.registry import BACKBONES, load_plugin
from dafw.store import compose

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures

SHAPE = (1, 8, 8)
BACKBONE = '''
from pathlib import Path
import numpy as np
import torch
from torch import nn
from dafw import register_backbone

made = []

class Projection(nn.Module):
    features = 6

    def __init__(self, weights):
        super().__init__()
        self.weight = nn.Parameter(weights)

    def forward(self, inputs):
        return inputs.flatten(1) @ self.weight

@register_backbone
def projection(shape, pretrained, *, path: Path):
    """A matrix in a file."""
    made.append(pretrained)
    size = shape[0] * shape[1] * shape[2]
    return Projection(torch.from_numpy(np.load(path)) if pretrained else torch.randn(size, 6))

projection.made = made
projection.channels = 1
projection.published = True
'''
NAMED = BACKBONE + "projection.files = lambda *, path: [path]\n"


def write_weights(path: Path, seed: int = 0) -> Path:
    np.save(path, np.random.default_rng(seed).standard_normal((64, 6)).astype(np.float32))
    return path


def renew(path: Path, seed: int) -> None:
    """Other weights of the same size, written later than any clock's step."""
    written = path.stat().st_mtime_ns
    write_weights(path, seed)
    os.utime(path, ns=(written + 10**9, written + 10**9))


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A data cache of its own; another process has nothing in memory."""
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))

    def another_process() -> None:
        for module, name in ((networks, "_networks"), (assembly, "_features")):
            monkeypatch.setattr(module, name, {})

    another_process()
    return another_process


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    """The words of a pair on the features of a backbone that names its file."""
    plugin = tmp_path / "projection.py"
    plugin.write_text(NAMED)
    return {
        "plugins": [plugin],
        "src": "npz",
        "src.path": made_npz(tmp_path / "one.npz"),
        "tgt": "npz",
        "tgt.path": made_npz(tmp_path / "other.npz", shift=40),
        "backbone": "projection",
        "backbone.path": write_weights(tmp_path / "weights.npy"),
        "backbone.frozen": True,
        "backbone.feature_dim": 4,
        "image_size": 8,
        "out": tmp_path / "runs",
    }


@pytest.fixture
def given(keys: dict[str, Any]) -> Config:
    return resolve(compose(words(method="source_only", **keys)))


def times_made() -> int:
    return len(BACKBONES.get("projection").made)  # type: ignore[attr-defined]


# ---- one network


def test_it_is_not_made_where_its_hash_is_known(given: Config, nothing_known: Callable[[], None]) -> None:
    first = frozen_network(given, SHAPE, None)
    assert times_made() == 1
    assert first.weights == fingerprint(first.network)
    assert times_made() == 1
    nothing_known()
    again = frozen_network(given, SHAPE, None)
    assert again.weights == first.weights
    assert times_made() == 1
    assert torch.equal(again.network.weight, first.network.weight)  # type: ignore[arg-type]
    assert times_made() == 2
    assert not again.network.training
    assert not any(p.requires_grad for p in again.network.parameters())
    assert again.network is again.network


def test_other_weights_in_the_file_are_another_network(given: Config, nothing_known: Callable[[], None]) -> None:
    first = frozen_network(given, SHAPE, None)
    renew(Path(given.backbone["path"]), 1)
    for _ in range(2):
        other = frozen_network(given, SHAPE, None)  # in this process, and in another one
        assert other.weights != first.weights
        np.testing.assert_array_equal(other.network.weight.numpy(), np.load(given.backbone["path"]))  # type: ignore[operator,union-attr]
        nothing_known()


@pytest.mark.parametrize("change", ["code of dafw", "code of the backbone", "library", "shape"])
def test_what_else_it_is_made_from_counts(
    change: str, given: Config, nothing_known: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen_network(given, SHAPE, None)
    nothing_known()
    shape = SHAPE
    if change == "code of dafw":
        monkeypatch.setattr(sources, "source_hash", lambda: "another")
    elif change == "code of the backbone":
        file = Path(given.plugins[0])
        file.write_text(NAMED + "# another line\n")
        load_plugin(file)
    elif change == "library":
        monkeypatch.setattr(sources.metadata, "version", lambda _: "0.0")
    else:
        shape = (1, 64, 1)
    before = times_made()
    frozen_network(given, shape, None)
    assert times_made() == before + 1


def test_one_that_names_no_files_is_made_in_every_process(given: Config, nothing_known: Callable[[], None]) -> None:
    file = Path(given.plugins[0])
    file.write_text(BACKBONE)
    load_plugin(file)
    for count in (1, 2):
        frozen_network(given, SHAPE, None)
        assert times_made() == count
        nothing_known()


def test_a_random_one_is_drawn_in_every_process(given: Config, nothing_known: Callable[[], None]) -> None:
    def without_weights(**_: Any) -> list[Path]:
        raise UsageError("its weights are not installed")

    BACKBONES.get("projection").files = without_weights  # type: ignore[attr-defined]
    given = replace(given, init="random")
    first = frozen_network(given, SHAPE, None)
    nothing_known()
    again = frozen_network(given, SHAPE, None)
    assert BACKBONES.get("projection").made == [False, False]  # type: ignore[attr-defined]
    assert again.weights == first.weights
    assert frozen_network(replace(given, seed=1), SHAPE, None).weights != first.weights


def test_a_part_that_no_weights_fill_is_the_same_for_every_seed(
    given: Config, nothing_known: Callable[[], None]
) -> None:
    """Else the hash noted by one run would not be that of the next run's network."""
    file = Path(given.plugins[0])
    file.write_text(
        NAMED.replace("        self.weight =", "        self.rest = nn.Linear(2, 2)\n        self.weight =")
    )
    load_plugin(file)
    first = frozen_network(given, SHAPE, None)
    nothing_known()
    again = frozen_network(replace(given, seed=1), SHAPE, None)
    assert again.weights == first.weights
    assert torch.equal(again.network.rest.weight, first.network.rest.weight)  # type: ignore[union-attr,arg-type]


def test_a_file_that_changed_behind_its_time_is_told(given: Config, nothing_known: Callable[[], None]) -> None:
    frozen_network(given, SHAPE, None)
    nothing_known()
    path = Path(given.backbone["path"])
    written = path.stat().st_mtime_ns
    write_weights(path, 1)
    os.utime(path, ns=(written, written))
    known = frozen_network(given, SHAPE, None)
    with pytest.raises(UsageError, match=r"changed and kept their sizes and times of writing.* type rm -r .*networks"):
        _ = known.network


def test_making_it_draws_nothing_from_what_goes_on(given: Config, nothing_known: Callable[[], None]) -> None:
    frozen_network(given, SHAPE, None)
    nothing_known()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _ = frozen_network(given, SHAPE, None).network
    assert torch.equal(torch.get_rng_state(), before)


def test_a_copy_shares_no_weights(given: Config, nothing_known: Callable[[], None]) -> None:
    for _ in range(2):  # made, and not yet made
        known = frozen_network(given, SHAPE, None)
        copied = copy.deepcopy(FrozenBackbone(known, None, 6, SHAPE))
        assert copied.network is not known.network
        copied.network.weight.data.zero_()  # type: ignore[union-attr,operator]
        assert known.network.weight.abs().min() > 0  # type: ignore[union-attr,operator]
        nothing_known()
    made = torch.nn.Linear(2, 2)
    assert FrozenNetwork.of(made).network is made


# ---- whole runs


def test_a_run_on_cached_features_makes_no_network_and_answers_with_it(
    keys: dict[str, Any], type_here: Callable[..., Told], nothing_known: Callable[[], None]
) -> None:
    first = type_here(words(method="source_only", **keys))
    assert first.code == 0, first.err
    assert "features of 60 examples, computed once" in first.out
    assert times_made() == 1
    nothing_known()
    load_plugin(keys["plugins"][0])
    told = type_here(words(method="dann", **keys))
    assert told.code == 0, told.err
    assert "computed once" not in told.out
    found = type_here(words(method="source_only", **keys))  # found again
    assert found.folder == first.folder
    assert times_made() == 1
    images = torch.from_numpy(np.load(keys["tgt.path"])["test_images"])[:, None]
    method = dafw.load(told.folder)
    assert times_made() == 1
    answers = method.predict(images).logits.softmax(1)
    assert times_made() == 2
    saved = np.load(told.folder / "predictions.npz")["probabilities"]
    np.testing.assert_allclose(answers.numpy(), saved, atol=1e-4)


def test_a_run_of_weights_that_changed_does_not_load(keys: dict[str, Any], type_here: Callable[..., Told]) -> None:
    first = type_here(words(method="source_only", **keys))
    renew(keys["backbone.path"], 1)
    other = type_here(words(method="source_only", **keys))
    assert other.code == 0, other.err
    assert other.folder != first.folder
    with pytest.raises(UsageError, match="no longer the network that it was trained on"):
        dafw.load(first.folder)
    dafw.load(other.folder)
