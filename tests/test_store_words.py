"""From a config back to the words that compose it, and how a value is typed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import test_registry
import test_store
from test_registry import Write

from dafw import store
from dafw.config import resolve
from dafw.store import as_typed, compose, words_of

write = test_registry.write


@pytest.fixture
def empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """For plug-ins of one name in several files."""
    monkeypatch.setattr(store, "_filled", set())


@pytest.fixture(autouse=True)
def no_folder_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAFW_DATA", raising=False)


def round_trip(*typed: str) -> tuple[list[str], list[str]]:
    """The words of the config that these compose, which compose the same."""
    config = compose(typed)
    choices, changed = words_of(config)
    assert compose([*choices, *changed]) == config
    return choices, changed


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ([], []),
        (["seed=3", "references=True", "plots=true"], ["seed=3"]),  # the others are as usual
        (["references=ALL", "plots=false", "init=null"], ["references=all", "plots=false"]),
        (["method.weight=0.5", "method.hidden=32"], ["method.weight=0.5", "method.hidden=32"]),
        (["method.weight=1", "train.steps=null"], []),
        (["train.lr=1e-5", "train.weight_decay=0"], ["train.lr=1e-05", "train.weight_decay=0.0"]),
        (["wandb.tags=[a,'b c','d,e',\"it's\"]"], [r"wandb.tags=[a,'b c','d,e','it\'s']"]),
        (["wandb.name='a = (b), c'"], ["wandb.name='a = (b), c'"]),
        (["out='/a b/runs, (mine)'"], ["out='/a b/runs, (mine)'"]),
        (["backbone.width=8", "backbone.frozen=true"], ["backbone.frozen=true", "backbone.width=8"]),
        (["tgt.corruption=contrast", "tgt.severity=2"], ["tgt.corruption=contrast", "tgt.severity=2"]),
        (["tgt.rotation=30", "tgt.label_shift=0.5", "tgt.fraction=0.5"], None),
        (["select=im", "image_size=20", "split_seed=4", "threads=2", "eval.every=3", "debug=true"], None),
        (["labels=partial", "data=/some/where", "reuse=false", "device=cpu", "wandb.mode=disabled"], None),
    ],
    ids=lambda value: " ".join(value or ["-"]),
)
def test_the_words_of_a_config_compose_it(typed: list[str], changed: list[str] | None) -> None:
    choices, found = round_trip(*typed)
    assert choices == ["method=dann", "src=synth", "tgt=digits"]
    if changed is None:
        assert {word.split("=")[0] for word in found} == {word.split("=")[0] for word in typed}
    else:
        assert sorted(found) == sorted(changed)


@pytest.mark.parametrize(
    ("typed", "choices"),
    [
        ("method=finetune tgt.labels_per_class=3 init=simclr", ["method=finetune", "src=synth", "tgt=digits"]),
        ("src=mnist+usps src.mnist.root=/x src.usps.download=false", ["method=dann", "src=mnist+usps", "tgt=digits"]),
        (
            "src=office31/amazon+office31/dslr tgt=office31/webcam src.validation=0.2",
            ["method=dann", "src=office31/amazon+office31/dslr", "tgt=office31/webcam"],
        ),
        ("src=cifar10 tgt=stl10 backbone.feature_dim=5", ["method=dann", "src=cifar10", "tgt=stl10"]),
        ("backbone=published backbone.views=2", ["method=dann", "src=synth", "tgt=digits", "backbone=published"]),
        ("+experiment=mnist-usps method=mcc", ["method=mcc", "src=mnist", "tgt=usps"]),
    ],
)
def test_groups_that_are_chosen(typed: str, choices: list[str]) -> None:
    assert round_trip(*typed.split())[0] == choices


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    source, target = tmp_path / "a b" / "c=(1), d.npz", tmp_path / "it's été.npz"
    pair = [as_typed("src.path", source), as_typed("tgt.path", target)]
    choices, changed = round_trip("src=npz", "tgt=npz", *pair)
    assert choices == ["method=dann", "src=npz", "tgt=npz"]
    assert changed == pair
    config = compose([*choices, *changed])
    assert [str(config.src["path"]), str(config.tgt["path"])] == [str(source), str(target)]


@pytest.mark.usefixtures("empty_store")
def test_plug_ins_variants_and_every_type_of_option(write: Write) -> None:
    file = write("my plug-ins.py", test_store.PLUGINS)
    plugins = as_typed("plugins", [file])
    choices, changed = round_trip(plugins, "method=p_method/strong", "src=p_source", "tgt=p_target")
    assert choices == ["method=p_method", "src=p_source", "tgt=p_target"]
    assert sorted(changed) == sorted(["method.rate=2.0", f"plugins=['{file}']"])
    several = "method.mode=HARD method.file=x/y method.sizes=[4,5] method.modes=[SOFT,HARD] method.files=[a,b/c]"
    several += " method.most=7 method.maybe=SOFT method.flag=true"
    _, changed = round_trip(plugins, "method=p_method", *several.split(), "method.word='a b'")
    assert sorted(changed) == sorted([*several.split(), "method.word='a b'", f"plugins=['{file}']"])
    _, changed = round_trip(plugins, "method=p_method", "method.sizes=[]")
    assert "method.sizes=[]" in changed


@pytest.mark.usefixtures("empty_store")
def test_a_backbone_of_the_sources_with_options_of_its_own(write: Write) -> None:
    """The source declares p_backbone at width 6; typed by itself it has its own default."""
    plugins = as_typed("plugins", [write("plugins.py", test_store.PLUGINS)])
    assert round_trip(plugins, "src=p_source")[1] == [plugins]
    assert "backbone.width=4" in round_trip(plugins, "src=p_source", "backbone=p_backbone")[1]
    assert "backbone=p_backbone" in round_trip(plugins, "backbone=p_backbone")[0]


@pytest.mark.slow  # imports timm
def test_a_network_of_timm() -> None:
    choices, changed = round_trip("backbone=resnet18", "backbone.small_images=true")
    assert choices[-1] == "backbone=resnet18"
    assert changed == ["backbone.small_images=true"]


def test_where_data_lies_is_always_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAFW_DATA", "/from the environment")
    store._default.cache_clear()  # so that the default is composed where the variable is set
    assert round_trip()[1] == ["data='/from the environment'"]


def test_a_config_that_was_changed_by_hand_is_typed_too() -> None:
    """As a reference's is, which is given the training of another run."""
    config = compose(["method=mcc", "seed=2"])
    given = dataclasses.replace(config, train=resolve(config).train, select="entropy")
    choices, changed = words_of(given)
    assert {"seed=2", "select=entropy", "train.steps=500", "train.lr=0.05", "train.precision=fp32"} <= set(changed)
    assert compose([*choices, *changed]) == given


# ---- a value


TEXTS = ["plain", "a b", "it's", 'say "x"', "a,b", "x=y", "[x]", "{x}", "(x)", "a:b", "~x", "50%", "+x", "é", "", "#x"]
TEXTS += ["1e5", "007", "1_000", "12", "-1", ".5", "true", "False", "null", "NULL", "nan", "inf", "-inf"]
TEXTS += ["a\\b", "a\\\\b", "a\\", "a\\\\", "\\'", "a\\'b", "\\\\'", "'", "''", "a$b", " a ", "a\tb"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    """Whatever Hydra would make of it by itself: a number, null, or a backslash that is taken for an escape."""
    config = compose([as_typed("wandb.name", text), as_typed("wandb.tags", [text, "x"])])
    assert (config.wandb.name, config.wandb.tags) == (text, [text, "x"])
    choices, changed = words_of(config)
    assert compose([*choices, *changed]) == config


@pytest.mark.parametrize(
    "text", ["plain", "dann/tllib", "runs", "/a/b-c/d_e.npz", "office31/amazon", "mnist+usps", "../x"]
)
def test_a_plain_word_is_not_quoted(text: str) -> None:
    assert as_typed("key", text) == f"key={text}"


@pytest.mark.parametrize("value", [0.1, 1e-5, 1e22, 0.0, -3.5, 123456.789])
def test_a_number_is_read_to_the_last_bit(value: float) -> None:
    assert compose([as_typed("tgt.rotation", value)]).tgt["rotation"] == value


@pytest.mark.parametrize(
    ("value", "typed"),
    [(True, "key=true"), (False, "key=false"), (None, "key=null"), (3, "key=3"), ([], "key=[]"), ((1, 2), "key=[1,2]")],
)
def test_what_is_no_text(value: Any, typed: str) -> None:
    assert as_typed("key", value) == typed
