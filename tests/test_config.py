"""The typed config: names, values and recipes, without the command line."""

from collections.abc import Callable
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import test_registry

from dafw import config as config_module
from dafw.config import (
    Config,
    Evaluate,
    Train,
    WandB,
    check_values,
    config_of,
    dataset,
    dataset_names,
    default_method,
    flat,
    plain_node,
    resolve,
)
from dafw.errors import UsageError
from dafw.registry import BACKBONES, DATASETS, METHODS, Option, load_plugin, options
from dafw.store import compose
from dafw.trainer import Training

write = test_registry.write


def config(method: str = "dann", src: str = "synth", tgt: str = "digits", backbone: str = "convnet", **changed: Any):
    base = Config(
        method=default_method(method),
        src=plain_node("src", src, options(dataset(src))),
        tgt=plain_node("tgt", tgt, options(dataset(tgt))),
        backbone=plain_node("backbone", backbone, options(config_module.backbone(backbone))),
    )
    return replace(base, **changed)


def in_node(node: str, **values: Any) -> Config:
    given = config()
    return replace(given, **{node: {**getattr(given, node), **values}})


# ---- values


def test_a_nested_mapping_has_dotted_keys():
    assert dict(flat({"a": 1, "b": {"c": 2, "d": {"e": [3]}}})) == {"a": 1, "b.c": 2, "b.d.e": [3]}


def test_plain_values_make_the_same_config():
    given = config(seed=3, train=Train(steps=7), eval=Evaluate(every=2), wandb=WandB(tags=["t"]))
    assert config_of(asdict(given)) == given


def test_the_training_of_a_resolved_config():
    given = config(train=Train(5, 6, "adamw", 0.1, "step", 0.2, "bf16"))
    assert given.training == Training(5, 6, "adamw", 0.1, "step", 0.2, "bf16")


def test_the_defaults_are_valid():
    check_values(config())
    check_values(resolve(config()))


BAD: dict[str, tuple[Callable[[], Config], str]] = {
    "labels": (lambda: config(labels="open"), "labels=open: expected one of closed, partial"),
    "select": (lambda: config(select="best"), "select=best: expected one of last, oracle"),
    "references": (lambda: config(references="maybe"), "references=maybe: expected one of true, all, false"),
    "device": (lambda: config(device="tpu"), "device=tpu: expected one of auto, cpu, cuda, mps"),
    "optimizer": (lambda: config(train=Train(optimizer="adam")), "train.optimizer=adam: expected one of sgd, adamw"),
    "schedule": (
        lambda: config(train=Train(schedule="linear")),
        "train.schedule=linear: expected one of constant, cosine, inverse, step",
    ),
    "precision": (lambda: config(train=Train(precision="fp16")), "train.precision=fp16: expected one of fp32, bf16"),
    "tracking": (
        lambda: config(wandb=WandB(mode="on")),
        "wandb.mode=on: expected one of auto, online, offline, disabled",
    ),
    "steps 0": (lambda: config(train=Train(steps=0)), "train.steps=0: expected 1 or more"),
    "steps -5": (lambda: config(train=Train(steps=-5)), "train.steps=-5: expected 1 or more"),
    "batch": (lambda: config(train=Train(batch_size=0)), "train.batch_size=0: expected 1 or more"),
    "every": (lambda: config(eval=Evaluate(every=0)), "eval.every=0: expected 1 or more"),
    "threads": (lambda: config(threads=0), "threads=0: expected 1 or more"),
    "image size": (lambda: config(image_size=4), "image_size=4: expected 8 or more"),
    "rate 0": (lambda: config(train=Train(lr=0.0)), "train.lr=0.0: expected a positive number"),
    "rate -1": (lambda: config(train=Train(lr=-1.0)), "train.lr=-1.0: expected a positive number"),
    "rate nan": (lambda: config(train=Train(lr=float("nan"))), "train.lr=nan: expected a positive number"),
    "decay": (lambda: config(train=Train(weight_decay=-0.1)), "train.weight_decay=-0.1: expected a non-negative"),
    "views": (lambda: in_node("backbone", views=0), "backbone.views=0: expected 1 or more"),
    "dropout 1": (lambda: in_node("backbone", dropout=1.5), "backbone.dropout=1.5: expected"),
    "dropout -1": (lambda: in_node("backbone", dropout=-0.1), "backbone.dropout=-0.1: expected"),
    "features": (lambda: in_node("backbone", feature_dim=-3), "backbone.feature_dim=-3: expected 0 or more"),
    "validator": (lambda: config(select="ims"), "select=ims: expected one of last, oracle, bnm, class_ami, dev"),
    "corruption": (lambda: in_node("tgt", corruption="fog"), "unknown tgt.corruption=fog; "),
    "severity 6": (lambda: in_node("tgt", corruption="jpeg", severity=6), "tgt.severity=6: expected a whole number"),
    "severity 0": (lambda: in_node("tgt", corruption="jpeg", severity=0), "tgt.severity=0: expected a whole number"),
    "severity alone": (lambda: in_node("tgt", severity=2), "tgt.severity=2 without a corruption; expected one too"),
    "rotation": (lambda: in_node("tgt", rotation=float("inf")), "tgt.rotation=inf: expected degrees"),
    "shift 0": (lambda: in_node("tgt", label_shift=0.0), "tgt.label_shift=0.0: expected more than 0"),
    "shift nan": (lambda: in_node("tgt", label_shift=float("nan")), "tgt.label_shift=nan: expected more than 0"),
    "fraction 0": (lambda: in_node("tgt", fraction=0.0), "tgt.fraction=0.0: expected more than 0 and at most 1"),
    "fraction 2": (lambda: in_node("tgt", fraction=2.0), "tgt.fraction=2.0: expected more than 0 and at most 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_value_outside_its_range_is_told_with_its_key(name):
    make, line = BAD[name]
    with pytest.raises(UsageError) as error:
        check_values(make())
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        lambda: config(train=Train(weight_decay=0.0, steps=1, batch_size=1, lr=1e-9)),
        lambda: config(image_size=8, threads=1, select="oracle", references="all", labels="partial"),
        lambda: in_node("backbone", feature_dim=0, dropout=0.0),
        lambda: in_node("backbone", dropout=0.5, views=5),
        lambda: config(select="im"),
        lambda: in_node("tgt", corruption="jpeg", severity=1, rotation=-720.0, label_shift=1e-9, fraction=1.0),
        lambda: in_node("tgt", corruption="contrast", severity=5, fraction=1e-9),
    ],
)
def test_values_at_the_edge_are_allowed(given):
    check_values(given())


# ---- names


def test_a_family_is_typed_with_each_of_its_domains():
    names = dataset_names()
    assert {"office31/amazon", "office31/webcam", "pacs/photo"} <= set(names)
    assert "office31" not in names
    assert "synth" in names
    assert dataset("office31/amazon") is dataset("office31/dslr") is DATASETS.get("office31")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("minst", "mnist"), ("office31/amazn", "office31/amazon"), ("office31", "office31/"), ("cifar", "cifar10")],
)
def test_an_unknown_data_set_is_answered_with_the_nearest_names(name, hint):
    with pytest.raises(UsageError, match=rf"unknown data set '{name}'; did you mean .*{hint}"):
        dataset(name)


@pytest.mark.slow  # imports timm
def test_an_unknown_backbone_is_answered_with_the_nearest_names_of_ours_and_timms():
    with pytest.raises(UsageError, match="unknown backbone 'convnt'; did you mean convnet"):
        config_module.backbone("convnt")
    with pytest.raises(UsageError, match=r"unknown backbone 'resnet5'; did you mean .*resnet50"):
        config_module.backbone("resnet5")
    assert config_module.backbone("resnet18") is not None


# ---- nodes


class Mode(Enum):
    SOFT = 1
    HARD = 2


def test_a_node_holds_its_name_the_common_options_and_its_own():
    own = [
        Option("path", Path, Path("x")),
        Option("mode", Mode, Mode.HARD),
        Option("sizes", list[int], [1, 2]),
    ]
    assert plain_node("src", "made", own) == {
        "name": "made",
        "root": None,
        "download": True,
        "validation": 0.1,
        "path": Path("x"),
        "mode": "HARD",
        "sizes": [1, 2],
    }
    assert plain_node("tgt", "made", [])["labels_per_class"] is None
    assert plain_node("method", "made", own, sizes=[9])["sizes"] == [9]


def test_nodes_do_not_share_a_list():
    own = [Option("sizes", list[int], [1, 2])]
    first = plain_node("method", "made", own)
    first["sizes"].append(3)
    assert plain_node("method", "made", own)["sizes"] == [1, 2]


@pytest.mark.parametrize(
    ("group", "option"), [("src", "validation"), ("tgt", "labels_per_class"), ("backbone", "views")]
)
def test_an_option_with_the_name_of_a_common_one_is_refused(group, option):
    with pytest.raises(UsageError, match=f"{group}=made: its option '{option}' has the name of a common one; rename"):
        plain_node(group, "made", [Option(option, float, 0.5)])


# ---- recipes: method before target before source before backbone before general


@pytest.fixture
def plugins(write):
    """Plug-ins whose recipes give the keys k of each other's: the lowest gives all, the highest few."""
    levels = {
        "backbone": {"steps": 11, "batch_size": 12, "lr": 0.13, "weight_decay": 0.14},
        "source": {"batch_size": 22, "lr": 0.23, "weight_decay": 0.24},
        "target": {"lr": 0.33, "weight_decay": 0.34},
        "method": {"weight_decay": 0.44},
    }

    def recipe(level: str, **more: Any) -> str:
        return repr({**{f"train.{key}": value for key, value in levels[level].items()}, **more})

    text = f"""
from pathlib import Path
from dafw import Method, Setting, register_backbone, register_dataset, register_method

@register_method("p_method")
class PMethod(Method):
    setting = Setting.UNSUPERVISED
    recipe = {recipe("method")}
    variants = {{"strong": {{"rate": 2.0}}}}

    def __init__(self, model, *, rate: float = 1.0, depth: int = 3):
        super().__init__(model)

@register_method("p_probe")
class PProbe(Method):
    setting = Setting.TRANSFER

@register_dataset("p_source")
def p_source(place, *, k: int = 1): ...
p_source.recipe = {recipe("source", image_size=24)}

@register_dataset("p_target")
def p_target(place, *, k: int = 1): ...
p_target.recipe = {recipe("target", image_size=48)}

@register_backbone("p_backbone")
def p_backbone(shape, pretrained, *, width: int = 4): ...
p_backbone.recipe = {recipe("backbone", **{"backbone.feature_dim": 77})}
"""
    load_plugin(write("plugins.py", text))


@pytest.mark.usefixtures("plugins")
def test_each_value_comes_from_the_first_recipe_that_has_it():
    resolved = resolve(config("p_method", "p_source", "p_target", "p_backbone"))
    assert asdict(resolved.train) == {
        "weight_decay": 0.44,  # the method's
        "lr": 0.33,  # the target's
        "batch_size": 22,  # the source's
        "steps": 11,  # the backbone's
        "optimizer": "sgd",  # general
        "schedule": "cosine",
        "precision": "fp32",
    }
    assert resolved.image_size == 48
    assert (resolved.backbone["feature_dim"], resolved.backbone["dropout"]) == (77, 0.0)


@pytest.mark.usefixtures("plugins")
def test_what_is_typed_goes_before_every_recipe():
    typed = config(
        "p_method", "p_source", "p_target", "p_backbone", train=Train(weight_decay=0.9, schedule="step"), image_size=64
    )
    resolved = resolve(replace(typed, backbone={**typed.backbone, "feature_dim": 5}))
    assert (resolved.train.weight_decay, resolved.train.schedule, resolved.train.lr) == (0.9, "step", 0.33)
    assert (resolved.image_size, resolved.backbone["feature_dim"]) == (64, 5)


@pytest.mark.usefixtures("plugins")
def test_a_method_at_its_defaults():
    assert default_method("p_method") == {"name": "p_method", "rate": 1.0, "depth": 3}


@pytest.mark.usefixtures("plugins")
def test_without_the_method_every_method_is_given_the_same():
    given = [config(method, "p_source", "p_target", "p_backbone") for method in ("p_method", "dann", "tent")]
    first, *others = (resolve(each, with_method=False) for each in given)
    assert first.train == Train(11, 22, "sgd", 0.33, "cosine", 0.34, "fp32")  # 0.44 is the method's own
    assert all((other.train, other.backbone) == (first.train, first.backbone) for other in others)
    typed = resolve(replace(given[0], train=Train(weight_decay=0.9)), with_method=False)
    assert typed.train.weight_decay == 0.9


@pytest.mark.usefixtures("plugins")
def test_zero_is_a_value_and_not_a_gap():
    given = config("p_method", backbone="p_backbone", train=Train(weight_decay=0.0))
    resolved = resolve(replace(given, backbone={**given.backbone, "feature_dim": 0}))
    assert resolved.train.weight_decay == 0.0
    assert resolved.backbone["feature_dim"] == 0


@pytest.mark.usefixtures("plugins")
def test_a_config_that_is_resolved_stays_as_it_is():
    once = resolve(config("p_method", "p_source", "p_target", "p_backbone"))
    assert resolve(once) == once


@pytest.mark.usefixtures("plugins")
def test_a_frozen_backbone_brings_the_recipe_of_cached_features():
    frozen = config("dann", backbone="p_backbone")
    resolved = resolve(replace(frozen, backbone={**frozen.backbone, "frozen": True}))
    assert asdict(resolved.train) == {
        "steps": 400,
        "batch_size": 64,
        "optimizer": "adamw",
        "lr": 1e-3,
        "schedule": "cosine",
        "weight_decay": 1e-2,
        "precision": "fp32",
    }
    assert (resolved.backbone["feature_dim"], resolved.backbone["dropout"]) == (128, 0.3)


@pytest.mark.usefixtures("plugins")
def test_the_frozen_recipe_gives_way_to_the_methods():
    frozen = config("p_method", backbone="p_backbone")
    resolved = resolve(replace(frozen, backbone={**frozen.backbone, "frozen": True}))
    assert (resolved.train.weight_decay, resolved.train.steps) == (0.44, 400)


def test_what_is_trained_of_a_network_that_stands_still_is_refused():
    frozen = ["src=text", "src.path=a", "tgt=text", "tgt.path=b", "backbone=minilm", "backbone.frozen=true"]
    assert compose(frozen).backbone["layers"] is None
    with pytest.raises(UsageError, match=r"backbone\.layers=1 with backbone\.frozen=true: none of the network is"):
        compose([*frozen, "backbone.layers=1"])
    assert compose([*frozen[:-1], "backbone.frozen=false", "backbone.layers=1"]).backbone["layers"] == 1


def test_published_weights_have_one_name_a_network():
    given = config("dann", backbone="published")
    assert [resolve(replace(given, init=word)).init for word in ("imagenet", "published", None)] == ["imagenet"] * 3
    texts = config("dann", backbone="minilm")
    assert [resolve(replace(texts, init=word)).init for word in ("published", None, "random")] == [
        *["published"] * 2,
        "random",
    ]
    with pytest.raises(UsageError, match=r"init=imagenet: backbone=minilm takes text .*; expected init=published"):
        resolve(replace(texts, init="imagenet"))


def test_a_frozen_network_of_texts_has_a_learning_rate_of_its_own():
    given = config("dann", backbone="minilm")
    frozen = resolve(replace(given, backbone={**given.backbone, "frozen": True}))
    assert (frozen.train.lr, frozen.train.steps, frozen.train.batch_size) == (3e-4, 400, 64)
    whole = resolve(replace(given, backbone={**given.backbone, "frozen": False}))
    assert (whole.train.lr, whole.train.steps, whole.train.batch_size) == (5e-4, 300, 32)


@pytest.mark.usefixtures("plugins")
def test_of_several_sources_the_first_recipe_counts():
    given = config("dann", "p_source", "digits")
    resolved = resolve(replace(given, src={**given.src, "name": "cifar10+p_source"}))
    assert resolved.train.batch_size == 64  # cifar10 gives one too
    assert resolved.train.lr == 0.23  # cifar10 gives none


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("method", "backbone", "frozen", "typed", "init"),
    [
        ("dann", "convnet", False, None, "random"),
        ("p_probe", "convnet", False, None, "source"),
        ("dann", "published", False, None, "imagenet"),
        ("dann", "convnet", True, None, "imagenet"),
        ("p_probe", "published", False, None, "source"),
        ("dann", "convnet", False, "simclr", "simclr"),
        ("p_probe", "convnet", False, "random", "random"),
    ],
)
def test_where_a_run_starts_from(method, backbone, frozen, typed, init):
    given = config(method, backbone=backbone, init=typed)
    assert resolve(replace(given, backbone={**given.backbone, "frozen": frozen})).init == init


def test_every_recipe_of_ours_names_keys_there_are():
    keys = {key for key, _ in flat(asdict(config()))} | {"image_size"}
    plugged = [registry.get(n) for registry in (METHODS, DATASETS, BACKBONES) for n in registry.names()]
    for plugin in plugged:
        for key in (*getattr(plugin, "recipe", {}), *getattr(plugin, "frozen_recipe", {})):
            assert key in keys or key.startswith("backbone."), f"{plugin}: {key}"
