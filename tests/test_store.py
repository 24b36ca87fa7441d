"""From typed words to a config, through Hydra's store; throw-away plug-ins show what comes from where."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import test_registry
import torch

from dafw import assembly, store
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.config import Config, resolve
from dafw.errors import UsageError
from dafw.store import compose, explained, parse

write = test_registry.write


@pytest.fixture(autouse=True)
def empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_filled", type(store._filled)())


PLUGINS = """
from enum import Enum
from pathlib import Path
from dafw import Method, Setting, register_backbone, register_dataset, register_method

class Mode(Enum):
    SOFT = "s"
    HARD = "h"

@register_method("p_method")
class PMethod(Method):
    setting = Setting.UNSUPERVISED
    recipe = {"train.weight_decay": 0.44, "train.schedule": "step", "train.precision": "fp32"}
    variants = {"strong": {"rate": 2.0}}

    def __init__(
        self, model, *, rate: float = 1.0, mode: Mode = Mode.SOFT, file: Path = Path("a"), sizes: list[int] = [1, 2],
        modes: list[Mode] = [Mode.HARD], files: list[Path] = [], most: int | None = None, flag: bool = False,
        maybe: Mode | None = None, word: str = "w",
    ):
        super().__init__(model)
        self.values = dict(rate=rate, mode=mode, file=file, sizes=sizes, modes=modes, files=files, most=most, flag=flag,
                           maybe=maybe, word=word)
        self.mode_type = Mode

@register_dataset("p_source")
def p_source(place, *, k: int = 1): ...
p_source.recipe = {"train.batch_size": 22, "train.lr": 0.23, "train.weight_decay": 0.24, "train.precision": "fp32",
                   "backbone.width": 6, "backbone.feature_dim": 66}
p_source.backbone = "p_backbone"

@register_dataset("p_target")
def p_target(place, *, k: int = 1): ...
p_target.recipe = {"train.lr": 0.33, "train.weight_decay": 0.34, "train.precision": "fp32"}

@register_backbone("p_backbone")
def p_backbone(shape, pretrained, *, width: int = 4): ...
p_backbone.recipe = {"train.steps": 11, "train.batch_size": 12, "train.lr": 0.13, "train.precision": "fp32"}
"""


@pytest.fixture
def plugins(write: Callable[[str, str], Path]) -> str:
    return f"plugins=[{write('plugins.py', PLUGINS)}]"


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes with one, `made`."""
    folder = tmp_path / "experiments"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "made.yaml").write_text(
        "defaults:\n  - override /method: p_method/strong\n  - override /tgt: p_target\n  - override /src: p_source\n"
        "train:\n  schedule: inverse\n  precision: bf16\nmethod:\n  word: recipe\n"
    )
    monkeypatch.setattr(store, "experiments_folder", lambda: folder)
    return folder


def line_of(*words: str) -> str:
    """The one line that these words are answered with."""
    with pytest.raises(UsageError) as error:
        compose(words)
    line = str(error.value)
    assert "\n" not in line
    return line


# ---- precedence


@pytest.mark.usefixtures("experiments")
def test_what_is_typed_goes_before_experiment_variant_method_target_source_backbone_and_general(plugins):
    typed = compose([plugins, "+experiment=made", "train.precision=fp32", "method.flag=true"])
    train = resolve(typed).train
    assert (train.optimizer, train.steps) == ("sgd", 11)  # general, backbone
    assert (train.batch_size, train.lr, train.weight_decay) == (22, 0.33, 0.44)  # source, target, method
    assert (train.schedule, train.precision) == ("inverse", "fp32")  # experiment, typed
    method = typed.method
    assert (method["rate"], method["word"], method["flag"], method["most"]) == (2.0, "recipe", True, None)


def test_a_variant_sets_hyper_parameters_and_nothing_else(plugins):
    plain, strong = compose([plugins, "method=p_method"]), compose([plugins, "method=p_method/strong"])
    assert (plain.method["rate"], strong.method["rate"]) == (1.0, 2.0)
    assert {**strong.method, "rate": 1.0} == plain.method
    assert strong.train == plain.train
    assert compose([plugins, "method=p_method/strong", "method.rate=3"]).method["rate"] == 3.0


def test_the_methods_recipe_goes_before_the_sources_in_the_backbone_too(write):
    text = PLUGINS.replace(
        'recipe = {"train.weight_decay"', 'recipe = {"backbone.feature_dim": 99, "train.weight_decay"'
    )
    config = resolve(compose([f"plugins=[{write('plugins.py', text)}]", "method=p_method", "src=p_source"]))
    assert config.backbone["feature_dim"] == 99


def test_bare_words_are_the_default_run():
    config = resolve(compose([]))
    assert [n["name"] for n in (config.method, config.src, config.tgt, config.backbone)] == [
        "dann",
        "synth",
        "digits",
        "convnet",
    ]
    assert (config.train.steps, config.train.lr, config.backbone["feature_dim"]) == (500, 0.05, 128)
    assert (config.references, config.select, config.init) == ("true", "last", "random")


# ---- the backbone that a source declares


def test_the_source_declares_the_backbone_and_its_options(plugins):
    config = compose([plugins, "src=p_source"])
    assert (config.backbone["name"], config.backbone["width"]) == ("p_backbone", 6)
    assert resolve(config).backbone["feature_dim"] == 66
    assert compose([plugins, "src=p_source", "backbone.width=7"]).backbone["width"] == 7


def test_a_backbone_that_is_typed_replaces_it(plugins):
    config = compose([plugins, "src=p_source", "backbone=convnet"])
    assert (config.backbone["name"], config.backbone["width"]) == ("convnet", 16)
    assert compose([plugins, "backbone=p_backbone"]).backbone["width"] == 4


# ---- hyper-parameters arrive typed


def built(config: Config) -> Any:
    torch.manual_seed(0)
    return assembly.build_method(config, Classifier(ConvNet(1, 2), 3, feature_dim=4))


def test_hyper_parameters_arrive_in_the_constructor_as_what_they_are_declared(plugins):
    method = built(
        compose(
            [
                plugins,
                "method=p_method",
                "method.rate=3",
                "method.mode=HARD",
                "method.file=x/y",
                "method.sizes=[4,5]",
                "method.modes=[SOFT,HARD]",
                "method.files=[a,b/c]",
                "method.most=7",
                "method.maybe=SOFT",
                "method.word='a b'",
            ]
        )
    )
    mode = method.mode_type
    assert issubclass(mode, Enum)
    assert method.values == {
        "rate": 3.0,
        "mode": mode.HARD,
        "file": Path("x/y"),
        "sizes": [4, 5],
        "modes": [mode.SOFT, mode.HARD],
        "files": [Path("a"), Path("b/c")],
        "most": 7,
        "flag": False,
        "maybe": mode.SOFT,
        "word": "a b",
    }
    assert isinstance(method.values["rate"], float)


def test_defaults_arrive_as_they_were_written(plugins):
    method = built(compose([plugins, "method=p_method"]))
    mode = method.mode_type
    assert method.values == {
        "rate": 1.0,
        "mode": mode.SOFT,
        "file": Path("a"),
        "sizes": [1, 2],
        "modes": [mode.HARD],
        "files": [],
        "most": None,
        "flag": False,
        "maybe": None,
        "word": "w",
    }


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("method.rate=abc", "method.rate"),
        ("method.mode=LOUD", "method.mode"),
        ("method.sizes=[a]", "method.sizes"),
        ("method.most=1.5", "method.most"),
        ("method.flag=perhaps", "method.flag"),
        ("method.rate=null", "method.rate"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_key(plugins, word, named):
    assert named in line_of(plugins, "method=p_method", word)


def test_an_option_that_a_node_cannot_hold_is_told(write):
    text = test_registry.method().replace("rate: float = 1.0", "rate: list[int] | int = 1")
    assert "rate" in line_of(f"plugins=[{write('mine.py', text)}]", "method=mine")


# ---- plug-in files


def test_a_plug_in_that_changes_is_composed_anew_and_back(write):
    rates = []
    for rate in (1.0, 2.0, 1.0):
        file = write("mine.py", test_registry.method(rate=rate))
        rates.append(compose([f"plugins=[{file}]", "method=mine"]).method["rate"])
    assert rates == [1.0, 2.0, 1.0]


def test_plug_ins_are_known_by_their_whole_path(write, tmp_path, monkeypatch):
    file = write("mine.py", test_registry.method())
    monkeypatch.chdir(tmp_path)
    assert compose(["plugins=[mine.py]", "method=mine"]).plugins == [str(file)]
    assert "no file nothing.py" in line_of("plugins=[nothing.py]")


# ---- several sources


def test_several_sources_have_a_node_each(plugins):
    config = compose([plugins, "src=p_source+digits", "src.p_source.k=5", "src.digits.root=/d", "src.validation=0.2"])
    config.src["digits"]["root"] = str(config.src["digits"]["root"])
    assert config.src == {
        "name": "p_source+digits",
        "root": None,
        "download": True,
        "validation": 0.2,
        "p_source": {"name": "p_source", "root": None, "download": True, "k": 5},
        "digits": {"name": "digits", "root": "/d", "download": True},
    }
    assert config.backbone["name"] == "p_backbone"  # the first source's


def test_the_options_of_several_sources_are_typed_too(plugins):
    assert "src.digits.download" in line_of("src=synth+digits", "tgt=usps", "src.digits.download=abc")
    refused = line_of("src=synth+digits", "tgt=usps", "src.digits.validation=0.2")  # it is said of all of them
    assert refused.startswith("unknown key src.digits.validation; did you mean src.validation")
    assert "src.p_source.k" in line_of(plugins, "src=p_source+digits", "src.p_source.k=1.5")


def test_several_of_one_family():
    config = compose(["src=office31/amazon+office31/dslr", "tgt=office31/webcam"])
    assert config.src["office31/dslr"]["name"] == "office31/dslr"
    assert config.tgt["name"] == "office31/webcam"


def test_the_target_is_one_data_set():
    line = line_of("src=synth", "tgt=digits+usps")
    assert "tgt=digits+usps" in line
    assert "provider" not in line  # nothing of Hydra's own search


def test_each_name_of_several_is_looked_up():
    assert line_of("src=digits+minst").startswith("unknown data set 'minst'; did you mean mnist")


# ---- what cannot be composed


def test_an_option_that_must_be_given():
    assert line_of("src=npz", "tgt=digits") == "src.path is needed; expected a value, as in src.path=..."


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["method=dan"], "unknown method 'dan'; did you mean dann"),
        (["method=dann/tlib"], "unknown variant method=dann/tlib"),
        (["src=minst"], "unknown data set 'minst'; did you mean mnist"),
        (["tgt=digit"], "unknown data set 'digit'; did you mean digits"),
        (["method.weigth=1"], "unknown key method.weigth; did you mean method.weight"),
        (["train.lrr=1"], "unknown key train.lrr; did you mean train.lr"),
        (["sed=1"], "unknown key sed; did you mean seed"),
        (["src.rot=/x"], "unknown key src.rot; did you mean src.root"),
        (["+experiment=nope"], "unknown experiment 'nope'; "),
        (["train.lr=None"], "train.lr=None: None is not a value here; expected null, as in train.lr=null"),
        (["method=[dann"], "cannot read 'method=[dann'; expected key=value"),
        (
            ["out=a b=c"],
            "cannot read 'out=a b=c'; expected key=value, with a value that holds = ( ) , or spaces in quotes",
        ),
        (["train.steps=0"], "train.steps=0: expected 1 or more"),
        (["train.lr=-1"], "train.lr=-1.0: expected a positive number"),
        (["seed=x"], "seed=x: expected a whole number, as in seed=0"),
        (["plugins=nothing.py"], "plugins: no file nothing.py"),
    ],
)
def test_bad_words_are_answered_in_one_line(words, start):
    assert line_of(*words).startswith(start)


def test_an_unknown_key_is_told_where_an_option_must_be_given_too():
    line = line_of("src=npz", "src.path=a.npz", "tgt=digits", "method.weigth=1")
    assert line.startswith("unknown key method.weigth; did you mean method.weight")


@pytest.mark.parametrize("word", ["+foo=1", "+train.foo=1", "++train.foo=1", "+method.weigth=2"])
def test_a_key_that_is_unknown_cannot_be_added(word):
    key = word.lstrip("+").split("=")[0]
    assert line_of(word).startswith(f"unknown key {key}")


@pytest.mark.parametrize("word", ["method=null", "src=null", "backbone=null"])
def test_a_group_cannot_be_null(word):
    assert word.split("=")[0] in line_of(word)


def test_a_key_that_has_a_value_is_not_added():
    assert line_of("+train.lr=0.5") == "train.lr already has a value; type it without the +"
    assert compose(["++train.lr=0.5"]).train.lr == 0.5  # Hydra's "add or override"


# ---- words


def test_words_are_read_as_hydra_reads_them():
    first, second = parse(["method=dann", "train.lr=0.1"])
    assert (first.key_or_group, first.value(), second.value()) == ("method", "dann", 0.1)


def test_references_are_words_whatever_their_case():
    assert [compose([f"references={word}"]).references for word in ("true", "False", "all")] == ["true", "false", "all"]


def test_the_folder_of_data_comes_from_the_environment_unless_it_is_typed(monkeypatch):
    monkeypatch.setenv("DAFW_DATA", "/env")
    assert compose([]).data == "/env"
    assert compose(["data=/typed"]).data == "/typed"


def test_hydras_lines_become_one():
    error = ValueError("first line\nsecond line\n    full_key: train.lr\n    object_type=Train")
    assert str(explained(error, [])) == "train.lr: first line second line"


def test_a_method_of_another_setting_is_composed_with_its_own_options():
    config = compose(["method=shot", "method.threshold=3"])
    assert (config.method["name"], config.method["threshold"]) == ("shot", 3)
