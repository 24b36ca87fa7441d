"""From a config to domains, pair, network and method, and back from a finished run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_registry
import torch

from dafw import assembly, networks
from dafw.assembly import (
    Start,
    build_classifier,
    build_method,
    build_pair,
    data_of,
    device_of,
    load_domains,
    protocol_of,
)
from dafw.config import Config, Train, backbone, default_method, plain_node
from dafw.errors import UsageError
from dafw.frozen import FrozenBackbone
from dafw.made import CLASSES
from dafw.modalities import image
from dafw.modalities.image import reconciled
from dafw.pair import Protocol
from dafw.place import Place
from dafw.registry import DATASETS, load_plugin, options
from dafw.setting import Setting

write = test_registry.write

PLUGINS = """
from enum import Enum
from pathlib import Path
from dafw import register_dataset
from dafw.made import CLASSES, made_table
from dafw.domain import Domain

class Look(Enum):
    DARK = 0
    BRIGHT = 60

calls = []

def domain(name, shift, seed):
    return Domain(name, CLASSES, made_table(48, shift, seed), made_table(24, shift, seed + 1))

@register_dataset("p_one")
def p_one(place, *, look: Look = Look.DARK, file: Path | None = None):
    calls.append((place, look, file))
    return domain("p_one", look.value, {seed})

@register_dataset("p_two")
def p_two(place):
    calls.append((place, None, None))
    return domain("p_two", 60, 3)

p_one.calls = p_two.calls = calls
"""


@pytest.fixture(autouse=True)
def plugins(write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Two made data sets, and every call of theirs; nothing is remembered from other tests."""
    for module, name in ((assembly, "_domains"), (networks, "_networks"), (image, "_resized")):
        monkeypatch.setattr(module, name, {})
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))
    load_plugin(write("plugins.py", PLUGINS.format(seed=1)))
    return DATASETS.get("p_one").calls


def config(method: str = "source_only", src: str = "p_one", tgt: str = "p_two", **changed: Any) -> Config:
    """A resolved config on the made data sets."""
    base = Config(
        method=default_method(method),
        src=plain_node("src", src, options(DATASETS.get(src))),
        tgt=plain_node("tgt", tgt, options(DATASETS.get(tgt))),
        backbone={
            **plain_node("backbone", "convnet", options(backbone("convnet")), feature_dim=8, dropout=0.0, width=2)
        },
        init="random",
        device="cpu",
        train=Train(4, 8, "sgd", 0.05, "constant", 0.0, "fp32"),
    )
    return replace(base, **changed)


def in_node(given: Config, node: str, **values: Any) -> Config:
    return replace(given, **{node: {**getattr(given, node), **values}})


def parts(given: Config, init: Start | None = None):
    notes: list[str] = []
    given, pair, network = build_pair(given, init, notes.append)
    return given, pair, network


# ---- devices


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of(config(device="cpu")) == device_of(config(device="auto")) == torch.device("cpu")
    for name in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"device={name}: there is none on this machine; expected device=auto"):
            device_of(config(device=name))


def test_auto_takes_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(config(device="auto")).type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of(config(device="auto")).type == "mps"


# ---- domains


def test_a_data_set_is_told_its_place_and_its_options_as_declared(plugins):
    given = in_node(config(data="/all", split_seed=3), "src", root="/own", download=False, look="BRIGHT", file="a/b")
    sources, target = load_domains(given)
    assert ([s.name for s in sources], target.name) == (["p_one"], "p_two")
    place, look, file = plugins[0]
    assert place == Place(root=Path("/own"), data=Path("/all"), download=False, split_seed=3, domain=None)
    assert (look.name, file) == ("BRIGHT", Path("a/b"))
    assert plugins[1][0] == Place(root=None, data=Path("/all"), download=True, split_seed=3, domain=None)


def test_a_data_set_is_read_once_for_the_same_options(plugins):
    first = load_domains(config())
    again = load_domains(config("dann", seed=5))
    assert again[0][0] is first[0][0]
    assert len(plugins) == 2
    load_domains(in_node(config(), "src", look="BRIGHT"))
    assert len(plugins) == 3
    load_domains(config(split_seed=1))
    assert len(plugins) == 5


def test_a_data_set_whose_file_changed_is_read_anew(write):
    first = load_domains(config())[0][0]
    load_plugin(write("plugins.py", PLUGINS.format(seed=9)))
    assert load_domains(config())[0][0].fingerprint != first.fingerprint


def several(**common: Any) -> Config:
    nodes = {name: plain_node("src", name, options(DATASETS.get(name))) for name in ("p_one", "p_two")}
    return replace(config(), src={**plain_node("src", "p_one+p_two", []), **nodes, **common})


def test_each_of_several_sources_has_its_own_node(plugins):
    given = several()
    given.src["p_two"]["root"] = "/two"
    sources, _ = load_domains(given)
    assert [s.name for s in sources] == ["p_one", "p_two"]
    assert [call[0].root for call in plugins[:2]] == [None, Path("/two")]


def test_what_is_said_of_all_sources_holds_for_each(plugins):
    load_domains(several(download=False))
    assert [call[0].download for call in plugins[:2]] == [False, False]


# ---- the pair


def test_the_protocol_stands_in_the_nodes():
    given = in_node(config(labels="partial", split_seed=4), "src", validation=0.2)
    given = in_node(given, "tgt", validation=0.3, transductive=True, labels_per_class=5)
    assert protocol_of(given) == Protocol("partial", 4, 0.2, 0.3, True, 5)


def test_a_pair_is_of_one_shape_and_says_what_it_took():
    given, pair, network = parts(in_node(config("dann", seed=3), "src", look="BRIGHT"))
    assert (given.image_size, pair.input_shape, network) == (16, (1, 16, 16), None)
    assert (pair.setting, pair.seed) == (Setting.UNSUPERVISED, 3)
    assert pair.notes == ["p_one: 8x8 → 16x16 (bilinear)", "p_two: 8x8 → 16x16 (bilinear)"]
    assert pair.batch(0, 4).source.inputs.shape == (4, 1, 16, 16)


def test_a_target_of_published_weights_is_none():
    with pytest.raises(UsageError, match=r"tgt=imagenet has no examples, only published weights; .* as in tgt=cifar10"):
        parts(config(tgt="imagenet"))


def test_a_source_of_published_weights_serves_transfer_alone():
    with pytest.raises(UsageError) as error:
        parts(config("dann", src="imagenet"))
    line = str(error.value)
    assert line.startswith("src=imagenet is known by its published weights only, and method=dann (unsupervised) needs")
    assert "expected one of method=feature_extraction,finetune,l2sp,lp_ft, or another src" in line
    _, pair, _ = parts(config("finetune", src="imagenet"))
    assert pair.source_train is None


def test_a_frozen_backbone_makes_its_features_the_inputs():
    given, pair, network = parts(in_node(config("dann"), "backbone", frozen=True, views=2))
    assert pair.target.modality == "features"
    assert pair.source_train.table.shape == (48, 2, 32)
    batch = pair.batch(0, 4)
    assert batch.source.inputs.shape == (4, 32)
    model = build_classifier(given, pair, network, None).eval()
    assert isinstance(model.backbone, FrozenBackbone)
    standard = model.backbone(pair.source_train.inputs)
    assert standard.mean(0).abs().max() < 1e-3
    # the answer to an image is the answer to its features
    image = reconciled(DATASETS.get("p_one")(Place()), (1, 16, 16), []).train.inputs[pair.source_train.rows]
    torch.testing.assert_close(model(image).logits, model(pair.source_train.inputs).logits, rtol=1e-3, atol=1e-3)


# ---- the classifier


def test_the_classifier_is_drawn_by_the_seed_whatever_was_drawn_before():
    given, pair, _ = parts(config())
    first = build_classifier(given, pair, None, None)
    torch.rand(7)
    again = build_classifier(given, pair, None, None)
    other = build_classifier(replace(given, seed=1), pair, None, None)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.pretrained == frozenset()
    assert (first.classes, first.feature_dim) == (3, 8)


def test_a_run_starts_from_anothers_weights_with_its_head_where_the_classes_are_the_same():
    given, pair, _ = parts(config())
    other = build_classifier(replace(given, seed=1), pair, None, None)
    same = build_classifier(given, pair, None, Start(other.state_dict(), CLASSES))
    assert torch.equal(same.head.weight, other.head.weight)
    assert same.pretrained == {n for n, _ in other.named_parameters()}
    fresh = build_classifier(given, pair, None, Start(other.state_dict(), ("x", "y", "z")))
    assert torch.equal(fresh.bottleneck[0].weight, other.bottleneck[0].weight)
    assert torch.equal(fresh.head.weight, build_classifier(given, pair, None, None).head.weight)
    assert not any(n.startswith("head.") for n in fresh.pretrained)


def test_published_weights_are_asked_for_and_move_slowly(monkeypatch):
    given, pair, _ = parts(config())
    asked = []

    def network(shape, pretrained, *, width: int = 4):
        asked.append(pretrained)
        return backbone("convnet")(shape, False, width=width)

    monkeypatch.setattr(networks, "backbone", {"convnet": network}.get)
    model = build_classifier(replace(given, init="imagenet"), pair, None, None)
    assert asked == [True]
    assert model.pretrained == {n for n, _ in model.named_parameters() if n.startswith("backbone.")}
    build_classifier(given, pair, None, None)
    assert asked == [True, False]


def test_what_a_method_draws_is_drawn_by_the_seed():
    given, pair, _ = parts(config("dann"))

    def discriminator(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)
        model = build_classifier(given, pair, None, None)
        return build_method(replace(given, seed=seed), model).discriminator[0].weight

    assert torch.equal(discriminator(0), discriminator(0))
    assert not torch.equal(discriminator(0), discriminator(1))


def test_the_model_a_run_starts_from_is_a_copy_that_does_not_move():
    given, pair, _ = parts(config("shot"))
    other = build_classifier(replace(given, seed=1), pair, None, None)
    start = Start(other.state_dict(), CLASSES)
    model = data_of(given, pair, None, start).start_model()
    assert model is not other
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
