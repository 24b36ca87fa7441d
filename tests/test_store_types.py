"""A word of another type than its key holds: what was typed, what was expected, and an example of it."""

from pathlib import Path

import pytest

from dafw.errors import UsageError
from dafw.store import compose

AUDIO = ("src=audio", "src.root=clips")
PLUGIN = '''
from pathlib import Path

from dafw import Method, Setting, register_method


@register_method
class Typed(Method):
    """Options of every kind (Nobody 2020)."""

    setting = Setting.SOURCE_ONLY

    def __init__(
        self,
        model,
        *,
        sizes: list[int] = [1, 2],
        names: list[str] | None = None,
        rates: list[float] = [],
        file: Path = Path("a.pt"),
        either: int | str = 1,
    ):
        super().__init__(model)

    def losses(self, batch, progress):
        return {}
'''


def line_of(*words: str) -> str:
    with pytest.raises(UsageError) as told:
        compose(words)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=x"], "seed=x: expected a whole number, as in seed=0"),
        (["seed=null"], "seed=null: expected a whole number, as in seed=0"),
        (["seed=1", "++seed=x"], "seed=x: expected a whole number, as in seed=0"),
        (["train.steps=1.5"], "train.steps=1.5: expected a whole number or null, as in train.steps=3"),
        (["train=3"], "train=3: it holds keys; expected one of them, as in train.steps=..."),
        (["plots=maybe"], "plots=maybe: expected true or false, as in plots=true"),
        (["out=[a]"], "out=[a]: expected a text, as in out=runs"),
        (["wandb.tags=a"], "wandb.tags=a: expected a list of texts, as in wandb.tags=[a]"),
        (["wandb.tags="], "wandb.tags=: expected a list of texts, as in wandb.tags=[NAME]"),
        (["method=dann", "method.weight=a"], "method.weight=a: expected a number, as in method.weight=1.0"),
        ([*AUDIO, "src.seconds=abc"], "src.seconds=abc: expected a number or null, as in src.seconds=0.5"),
        ([*AUDIO, "src.rate=abc"], "src.rate=abc: expected a whole number, as in src.rate=16000"),
        ([*AUDIO, "src.root=[a]"], "src.root=[a]: expected a path or null, as in src.root=FILE"),
        (
            ["src=spoken_digits", "src.speakers=bob"],
            "src.speakers=bob: expected a list of texts or null, as in src.speakers=[bob]",
        ),
        (
            ["src=text", "src.path=x", "backbone=minilm", "backbone.pooling=sum"],
            "backbone.pooling=sum: expected one of mean, cls, as in backbone.pooling=mean",
        ),
    ],
)
def test_a_value_of_another_type_has_an_example(words: list[str], expected: str) -> None:
    assert line_of(*words) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sizes=[a]", "sizes=[a]: expected a list of whole numbers, as in method.sizes=[3]"),
        ("sizes=3", "sizes=3: expected a list of whole numbers, as in method.sizes=[3]"),
        ("names=3", "names=3: expected a list of texts or null, as in method.names=[3]"),
        ("rates=a", "rates=a: expected a list of numbers, as in method.rates=[0.5]"),
        ("file=[a]", "file=[a]: expected a path, as in method.file=a.pt"),
        ("either=[a]", "either: Value '['a']' of type 'list' is incompatible"),  # two kinds: in Hydra's words
    ],
)
def test_options_of_a_plug_in_have_one_too(word: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "typed.py"
    file.write_text(PLUGIN)
    assert line_of(f"plugins=[{file}]", "method=typed", f"method.{word}").startswith(f"method.{expected}")
