"""What changes the hash of a run, and what does not."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_bert
import test_registry
import torch
import whole
from whole import measured

from dafw import frozen, identity, registry
from dafw.backbones.convnet import ConvNet
from dafw.config import Config, Evaluate, Train, WandB
from dafw.domain import Table
from dafw.identity import hash_of
from dafw.made import made_pair
from dafw.pair import Pair
from dafw.setting import Setting

write, surroundings = test_registry.write, whole.surroundings  # fixtures


def config(**changed: Any) -> Config:
    """A resolved config of dann with convnet on two made domains."""
    base = Config(
        method={"name": "dann", "weight": 1.0, "hidden": 16},
        src={"name": "synth", "root": None, "download": True, "validation": 0.1},
        tgt={
            **{"name": "digits", "root": None, "download": True, "validation": 0.1},
            **{"transductive": False, "labels_per_class": None},
        },
        backbone={"name": "convnet", "frozen": False, "views": 1, "feature_dim": 16, "dropout": 0.0, "width": 4},
        init="random",
        image_size=16,
        train=Train(8, 12, "sgd", 0.05, "constant", 0.0, "fp32"),
    )
    return replace(base, **changed)


def hashed(given: Config | None = None, pair: Pair | None = None, network: Any = None, depends_on: Any = ()) -> str:
    pair = pair or made_pair(Setting.UNSUPERVISED)
    pair.weights = None if network is None else frozen.fingerprint(network)
    return hash_of(identity.identity(given or config(), pair, list(depends_on)))


def in_node(node: str, **values: Any) -> Config:
    given = config()
    return replace(given, **{node: {**getattr(given, node), **values}})


def test_the_same_run_has_the_same_hash():
    assert hashed() == hashed()
    assert len(hashed()) == 16
    int(hashed(), 16)


CHANGES: dict[str, Callable[[], Config]] = {
    "seed": lambda: config(seed=1),
    "rate": lambda: config(train=replace(config().train, lr=0.051)),
    "steps": lambda: config(train=replace(config().train, steps=9)),
    "precision": lambda: config(train=replace(config().train, precision="bf16")),
    "weight": lambda: in_node("method", weight=0.5),
    "backbone option": lambda: in_node("backbone", width=8),
    "shots": lambda: in_node("tgt", labels_per_class=5),
    "validation": lambda: in_node("src", validation=0.2),
    "method": lambda: config(method={"name": "mcc", "weight": 1.0, "hidden": 16}),
    "init": lambda: config(init="source"),
    "selection": lambda: config(select="oracle"),
    "label space": lambda: config(labels="partial"),
    "split seed": lambda: config(split_seed=1),
    "image size": lambda: config(image_size=32),
}


@pytest.mark.parametrize("name", CHANGES)
def test_these_make_another_run(name):
    assert hashed(CHANGES[name]()) != hashed()


SAME: dict[str, Callable[[], Config]] = {
    "out": lambda: config(out="/elsewhere"),
    "plots": lambda: config(plots=False),
    "references": lambda: config(references="false"),
    "data": lambda: config(data="/data"),
    "threads": lambda: config(threads=1),
    "reuse": lambda: config(reuse=False),
    "debug": lambda: config(debug=True),
    "tracking": lambda: config(wandb=WandB(mode="disabled", project="p", tags=["t"])),
    "source root": lambda: in_node("src", root="/a"),
    "target root": lambda: in_node("tgt", root=Path("/b")),
    "download": lambda: in_node("src", download=False),
    "device as typed": lambda: config(device="cpu"),
    "plug-in files": lambda: config(plugins=["/a/mine.py"]),
}


@pytest.mark.parametrize("name", SAME)
def test_these_do_not(name):
    assert hashed(SAME[name]()) == hashed()


def test_where_one_of_several_sources_lies_does_not_count():
    def several(root: str, validation: float = 0.1) -> str:
        nodes = {name: {"name": name, "root": root, "validation": validation} for name in ("synth", "digits")}
        return hashed(in_node("src", name="synth+digits", **nodes))

    assert several("/a") == several("/b")
    assert several("/a") != several("/a", validation=0.2)


def test_every_other_key_of_the_config_counts():
    decides = {f.name for f in dataclasses.fields(Config)} - identity.VOLATILE
    described = identity.identity(config(), made_pair(Setting.UNSUPERVISED), [])
    assert described["settings"].keys() == decides
    assert decides == {
        *("method", "src", "tgt", "backbone", "init", "seed", "select", "image_size", "labels", "split_seed"),
        *("train", "eval", "prune"),
    }


@pytest.mark.parametrize("part", ["source", "target"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("what", ["inputs", "labels"])
def test_a_bit_of_the_data_makes_another_run(part, split, what):
    pair = made_pair(Setting.UNSUPERVISED)
    domain = pair.sources[0] if part == "source" else pair.target
    table: Table = getattr(domain, split)
    changed = {"inputs": table.inputs.clone(), "labels": table.labels.clone()}
    changed[what].view(-1)[5] ^= 1
    tables = {"train": domain.train, "test": domain.test, split: Table(**changed)}
    other = domain.with_tables(**tables)
    if part == "source":
        pair.sources = [other]
    else:
        pair.target = other
    assert hashed(pair=pair) != hashed()


def test_the_runs_it_starts_from_and_a_frozen_networks_weights_count():
    assert len({hashed(), hashed(depends_on=["a"]), hashed(depends_on=["b"]), hashed(depends_on=["a", "b"])}) == 4
    torch.manual_seed(0)
    network = ConvNet(1, 2)
    before = hashed(network=network)
    assert before != hashed()
    assert hashed(network=copy.deepcopy(network)) == before
    with torch.no_grad():
        network.layers[0].weight[0, 0, 0, 0] += 1e-6
    assert hashed(network=network) != before
    assert frozen.fingerprint(network)


def test_a_run_it_starts_from_is_known_by_its_hash_and_not_by_where_it_lies(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = (hashed(config(init=str(tmp_path / name)), depends_on=["x"]) for name in ("a", "b"))
    assert one == other
    assert hashed(config(init=str(tmp_path / "a")), depends_on=["y"]) != one


def test_a_folder_that_has_the_name_of_an_init_changes_nothing(tmp_path, monkeypatch):
    before = {init: hashed(config(init=init)) for init in ("random", "source")}
    for init in before:
        (tmp_path / init).mkdir()
    monkeypatch.chdir(tmp_path)
    assert {init: hashed(config(init=init)) for init in before} == before


# its weights lie at a path of the user's or, as those of an installed package, at one that no key names
PUBLISHED_HERE = """
from pathlib import Path
import torch
from dafw import register_backbone
from dafw.backbones.convnet import ConvNet

@register_backbone
def here(shape, pretrained, *, path: Path | None = None):
    network = ConvNet(shape[0], 2)
    if pretrained:
        network.load_state_dict(torch.load(path or {packaged!r}, weights_only=True))
    return network
"""


@pytest.fixture
def published_here(write, tmp_path):
    """The config of a run whose backbone starts from such weights, by the file of its `path`, None for no path."""
    registry.load_plugin(write("here.py", PUBLISHED_HERE.format(packaged=str(tmp_path / "packaged.pth"))))
    write_weights(tmp_path / "packaged.pth", 0)

    def given(path: str | None = None, **changed: Any) -> Config:
        file = None if path is None else tmp_path / path
        return config(
            **{"backbone": {**config().backbone, "name": "here", "path": file}, "init": "published"} | changed
        )

    return given


def write_weights(file: Path, seed: int, more: float = 0.0) -> None:
    torch.manual_seed(seed)
    network = ConvNet(1, 2)
    with torch.no_grad():
        network.layers[0].weight[0, 0, 0, 0] += more
    torch.save(network.state_dict(), file)


def test_published_weights_that_training_starts_from_are_known_by_what_they_are(published_here, tmp_path):
    for name, seed in (("a.pth", 1), ("b.pth", 2), ("c.pth", 1)):
        write_weights(tmp_path / name, seed)
    one, other, copied = (hashed(published_here(name)) for name in ("a.pth", "b.pth", "c.pth"))
    assert one == copied
    assert one != other
    write_weights(tmp_path / "a.pth", 1, more=1e-6)
    assert hashed(published_here("a.pth")) not in (one, other)


def test_weights_of_an_installed_package_are_known_by_what_they_are_too(published_here, tmp_path):
    torch.manual_seed(7)
    first, from_random, drawn = hashed(published_here()), hashed(published_here(init="random")), torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), drawn)  # nothing was drawn from the generator of the run
    write_weights(tmp_path / "packaged.pth", 0, more=1e-6)
    assert hashed(published_here()) != first
    (tmp_path / "packaged.pth").unlink()
    assert hashed(published_here(init="random")) == from_random  # nor are they asked for


@pytest.mark.slow
def test_a_run_is_not_found_again_where_a_transformers_folder_holds_other_weights(tmp_path):
    pytest.importorskip("transformers", reason='no transformers: pip install "dafw[text]"')
    from safetensors.torch import load_file, save_file

    folder = small_bert.write_model(tmp_path / "bert")
    path = small_bert.write_texts(tmp_path / "texts.jsonl")
    keys = {"src": "text", "src.path": path, "tgt": "text", "tgt.path": path, "backbone": "transformer"}
    keys |= {"backbone.model": folder, "backbone.frozen": False, "method": "source_only"}
    first, again = (measured(tmp_path / "runs", **keys) for _ in range(2))
    assert (again.folder, again.reused) == (first.folder, True)
    state = load_file(folder / "model.safetensors")
    state["embeddings.word_embeddings.weight"][6, 3] += 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    other = measured(tmp_path / "runs", **keys)
    assert (other.reused, other.hash != first.hash) == (False, True)
    assert other.result["comparable"]["init"] != first.result["comparable"]["init"]


def test_a_run_that_trains_a_network_is_not_known_as_one_on_its_frozen_features(published_here):
    pair = made_pair(Setting.UNSUPERVISED)
    trained = identity.weights_hash(published_here(), pair)
    network = registry.BACKBONES.get("here")((1, 8, 8), True)
    pair.weights = frozen.fingerprint(network)
    assert identity.weights_hash(published_here(), pair) == pair.weights != trained


def test_the_version_of_torch_and_the_kind_of_device_count(monkeypatch):
    before = hashed()
    pair = made_pair(Setting.UNSUPERVISED)
    pair.device = torch.device("meta")
    assert hashed(pair=pair) != before
    monkeypatch.setattr(torch, "__version__", "0.0.0")
    assert hashed() != before


# ---- what must be equal to be compared


def compared(
    given: Config | None = None, pair: Pair | None = None, seed: int = 0, init_run: str | None = None
) -> dict[str, Any]:
    given, pair = given or config(), pair or made_pair(Setting.UNSUPERVISED, seed)
    return identity.comparable(given, pair, init_run, identity.weights_hash(given, pair))


COMPARABLE: dict[str, tuple[Callable[[], Config], set[str]]] = {
    "seed": (lambda: config(seed=1), set()),
    "method": (lambda: config(method={"name": "tent"}), set()),
    "hyper-parameter": (lambda: in_node("method", weight=0.5), set()),
    "rate": (lambda: config(train=replace(config().train, lr=0.1, optimizer="adamw", schedule="cosine")), set()),
    "references": (lambda: config(references="false"), set()),
    "out": (lambda: config(out="/elsewhere"), set()),
    "root": (lambda: in_node("src", root="/a"), set()),
    "path of weights": (lambda: in_node("backbone", path="/a.pth"), set()),
    "steps": (lambda: config(train=replace(config().train, steps=9)), {"budget"}),
    "batch": (lambda: config(train=replace(config().train, batch_size=9)), {"budget"}),
    "precision": (lambda: config(train=replace(config().train, precision="bf16")), {"budget"}),
    "network": (lambda: in_node("backbone", name="published"), {"backbone"}),
    "width": (lambda: in_node("backbone", width=8), {"backbone"}),
    "bottleneck": (lambda: in_node("backbone", feature_dim=8), {"backbone"}),
    "frozen": (lambda: in_node("backbone", frozen=True), {"backbone"}),
    "split seed": (lambda: config(split_seed=1), {"split"}),
    "source validation": (lambda: in_node("src", validation=0.2), {"split"}),
    "target validation": (lambda: in_node("tgt", validation=0.2), {"split"}),
    "transductive": (lambda: in_node("tgt", transductive=True), {"transductive"}),
    "shots": (lambda: in_node("tgt", labels_per_class=3), {"labels per class"}),
    "init": (lambda: config(init="simclr"), {"init"}),
    "label space": (lambda: config(labels="partial"), {"classes"}),
    "selection": (lambda: config(select="im"), {"evaluation"}),
    "evaluation points": (lambda: config(eval=Evaluate(every=3)), {"evaluation"}),
}


@pytest.mark.parametrize("name", COMPARABLE)
def test_what_makes_two_runs_incomparable_is_named(name):
    make, differ = COMPARABLE[name]
    one, other = compared(), compared(make())
    assert one.keys() == other.keys()
    assert {key for key in one if one[key] != other[key]} == differ
    assert (hash_of(one) != hash_of(other)) is bool(differ)


def test_runs_that_start_from_other_runs_or_weights_are_not_compared(published_here, tmp_path):
    first, second = (compared(config(init="/runs/one"), init_run=run) for run in ("a", "b"))
    assert first["init"] == "run a"
    assert first["init"] != second["init"]
    for seed, name in enumerate(("first", "second", "copy of first")):
        write_weights(tmp_path / name, seed % 2)
    one, other, copied = (compared(published_here(name)) for name in ("first", "second", "copy of first"))
    assert {key for key in one if one[key] != other[key]} == {"init"}
    assert one == copied == compared(published_here("first", seed=1))


def test_the_pair_its_data_and_its_size_must_be_equal():
    one, pair = compared(), made_pair(Setting.UNSUPERVISED)
    assert one["pair"] == "made → made2"
    pair.target = replace(pair.target, name="made2-contrast5")  # as under stress
    assert compared(pair=pair) == {**one, "pair": "made → made2-contrast5"}
    pair = made_pair(Setting.UNSUPERVISED)
    pair.fingerprints = {"src": ["a"], "tgt": "b"}
    assert {key for key in one if compared(pair=pair)[key] != one[key]} == {"data"}
    pair = made_pair(Setting.UNSUPERVISED)
    pair.input_shape = (1, 20, 20)
    assert compared(pair=pair) == {**one, "image size": "20x20"}


def test_a_recipe_of_the_methods_own_is_part_of_the_method():
    """tent is published with batches of 200."""
    untyped = Train()
    one, other = (compared(config(train=untyped, method={"name": name})) for name in ("tent", "dann"))
    assert one == other
    assert one["budget"] == "500 steps of 64, fp32"
