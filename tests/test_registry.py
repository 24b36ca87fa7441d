"""Names of plug-ins, files of strangers, and which arguments become options."""

import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import pytest

from dafw.errors import UsageError
from dafw.registry import (
    BACKBONES,
    DATASETS,
    METHODS,
    PLUGIN_FILES,
    VALIDATORS,
    Registry,
    is_option_type,
    load_plugin,
    nearest,
    options,
)

METHOD = """
from dafw import Method, Setting, register_method

@register_method{call}
class {name}(Method):
    setting = Setting.SOURCE_ONLY

    def __init__(self, model, *, rate: float = {rate}):
        super().__init__(model)
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file and return its path; the registries forget at the end what was read from it."""
    for registry in (METHODS, DATASETS, BACKBONES, VALIDATORS):
        registry.load()
        monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    read = dict(PLUGIN_FILES)

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text)
        return file

    yield write
    PLUGIN_FILES.clear()
    PLUGIN_FILES.update(read)


def method(name: str = "Mine", call: str = "", rate: float = 1.0) -> str:
    return METHOD.format(name=name, call=call, rate=rate)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- what becomes an option


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def every_type(
    place: object,
    *,
    count: int,
    most: int | None = None,
    rates: list[float] = [0.1],  # noqa: B006 (as a plug-in's author would write it)
    colour: Colour = Colour.RED,
    file: Path = Path("x"),
    names: "list[str] | None" = None,
    deep: list[list[int]] = [],  # noqa: B006
    flag: bool = False,
    word: str = "w",
) -> None: ...


def test_keyword_only_arguments_are_options_with_their_type_and_default():
    found = {o.name: (o.type, o.default) for o in options(every_type) if not o.required}
    assert found == {
        "most": (int | None, None),
        "rates": (list[float], [0.1]),
        "colour": (Colour, Colour.RED),
        "file": (Path, Path("x")),
        "names": (list[str] | None, None),
        "deep": (list[list[int]], []),
        "flag": (bool, False),
        "word": (str, "w"),
    }
    assert [(o.name, o.type) for o in options(every_type) if o.required] == [("count", int)]


def test_options_of_a_class_are_those_of_its_init_without_the_model():
    class Plugin:
        def __init__(self, model, spare=3, *, weight: float = 1.5, hidden: int): ...

    assert [(o.name, o.type, o.required) for o in options(Plugin)] == [("weight", float, False), ("hidden", int, True)]
    assert options(METHODS.get("source_only")) == []


@pytest.mark.parametrize(
    "annotation",
    [dict, set, tuple, list, list[dict], dict | None, object, bytes, int | dict, Callable, list[Path | set]],
)
def test_types_that_a_command_line_cannot_write(annotation):
    assert not is_option_type(annotation)


def test_an_argument_without_a_type_is_refused_by_name():
    def plugin(place, *, rate=1.0): ...

    with pytest.raises(
        UsageError, match=r"test_registry\.py: rate of plugin has no type; expected int, float"
    ) as error:
        options(plugin)
    assert "rate: float = 1.0" in one_line(error)


def test_an_argument_with_a_type_that_cannot_be_typed_is_refused():
    def plugin(place, *, table: dict = {}): ...  # noqa: B006

    with pytest.raises(UsageError, match="table of plugin has the type <class 'dict'>; expected int"):
        options(plugin)


def test_the_name_of_a_node_is_no_option():
    def plugin(place, *, name: str = "x"): ...

    with pytest.raises(UsageError, match="takes an option `name`; call it something else"):
        options(plugin)


# ---- names


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("dan", "did you mean dann"), ("mc", "did you mean mcd or mcc?"), ("qqqqqq", "known: dann, mcc, mcd")],
)
def test_nearest_names(typed, hint):
    assert nearest(typed, ["mcd", "dann", "mcc"]).startswith(hint)


def test_a_long_list_of_names_is_cut():
    hint = nearest("zzz", [f"a{i:03}" for i in range(100)])
    assert hint.startswith("known: a000, a001")
    assert "a039" in hint
    assert "a040" not in hint
    assert hint.endswith("...")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown method 'dnan'; did you mean dann"):
        METHODS.get("dnan")
    assert "dnan" not in METHODS
    assert "dann" in METHODS
    assert METHODS.names() == sorted(METHODS.names())


# ---- files of strangers


def test_a_file_registers_under_its_stem_or_under_the_name_it_gives(write):
    load_plugin(write("mine.py", method("A") + method("B", call="('other')")))
    assert METHODS.get("mine").__name__ == "A"
    assert METHODS.get("other").__name__ == "B"
    assert METHODS.get("other").registered_name == "other"


def test_a_name_that_a_built_in_has_is_taken(write):
    file = write("mine.py", method(call="('dann')"))
    built_in = METHODS.get("dann")
    with pytest.raises(UsageError, match=r"the method name 'dann' is taken by .*dann\.py; rename the file") as error:
        load_plugin(file)
    assert str(file) in one_line(error)
    assert METHODS.get("dann") is built_in


def test_two_files_cannot_take_one_name(write):
    load_plugin(write("one.py", method(call="('mine')")))
    with pytest.raises(UsageError, match=r"'mine' is taken by .*one\.py"):
        load_plugin(write("two.py", method(call="('mine')")))


def test_two_methods_of_one_file_cannot_take_one_name(write):
    with pytest.raises(UsageError, match="'mine' is taken"):
        load_plugin(write("mine.py", method("A") + method("B")))


def test_one_name_serves_a_method_and_a_data_set(write):
    load_plugin(write("mine.py", method()))
    text = "from dafw import register_dataset\n@register_dataset\ndef mine(place, *, k: int = 1): ..."
    folder = write("folder.txt", "").parent / "data"
    folder.mkdir()
    (folder / "mine.py").write_text(text)
    load_plugin(folder / "mine.py")
    assert "mine" in METHODS
    assert "mine" in DATASETS


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"plugins: no file .*nothing\.py; expected a Python file"):
        load_plugin(tmp_path / "nothing.py")
    with pytest.raises(UsageError, match="plugins: no file"):
        load_plugin(tmp_path)


def test_a_file_that_is_not_python(write):
    with pytest.raises(UsageError, match=r"mine\.txt is not a Python file; expected one that ends in \.py"):
        load_plugin(write("mine.txt", method()))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: "),
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_file_that_fails_to_import_is_named_with_its_reason(write, text, named):
    before = set(sys.modules)
    with pytest.raises(UsageError) as error:
        load_plugin(write("mine.py", text))
    line = one_line(error)
    assert "mine.py fails to import: " + named in line
    assert {m for m in set(sys.modules) - before if "mine" in m} == set()


def test_a_file_that_fails_after_it_registered_leaves_nothing(write):
    with pytest.raises(UsageError, match="fails to import: ZeroDivisionError"):
        load_plugin(write("mine.py", method() + "\n1 / 0"))
    assert "mine" not in METHODS


def test_a_wrong_signature_is_told_when_the_file_is_read(write):
    with pytest.raises(UsageError, match=r"mine\.py: rate of Mine has no type"):
        load_plugin(write("mine.py", method().replace("rate: float", "rate")))
    assert "mine" not in METHODS


def test_the_same_file_is_read_once(write, tmp_path, monkeypatch):
    count = f"\nwith open({str(tmp_path / 'read')!r}, 'a') as read:\n    read.write('x')\n"
    file = write("mine.py", method() + count)
    load_plugin(file)
    first = METHODS.get("mine")
    monkeypatch.chdir(tmp_path)
    for path in (str(file), "mine.py", Path("../") / tmp_path.name / "mine.py"):
        load_plugin(path)
    assert (tmp_path / "read").read_text() == "x"
    assert METHODS.get("mine") is first


def test_a_changed_file_is_read_again(write):
    file = write("mine.py", method(rate=1.0))
    load_plugin(file)
    write("mine.py", method(rate=2.0))
    load_plugin(file)
    assert options(METHODS.get("mine"))[0].default == 2.0
    write("mine.py", method(rate=1.0))
    load_plugin(file)
    assert options(METHODS.get("mine"))[0].default == 1.0


def test_a_file_that_was_mended_is_read(write):
    file = write("mine.py", "1 / 0")
    with pytest.raises(UsageError):
        load_plugin(file)
    write("mine.py", method())
    load_plugin(file)
    assert "mine" in METHODS


def test_a_plug_in_without_a_file_is_told_to_have_one():
    """As in a notebook's cell: its source could not be hashed."""
    module = types.ModuleType("no_file")
    sys.modules["no_file"] = module
    try:
        with pytest.raises(UsageError, match="file"):
            exec(method("Mine", "('mine')"), module.__dict__)
    finally:
        del sys.modules["no_file"]
        METHODS._plugins.pop("mine", None)


# ---- built-ins and installed packages


class Point:
    """An installed package's entry point."""

    def __init__(self, name: str, load: Callable[[], object]):
        self.name = name
        self.value = f"somewhere:{name}"
        self.load = load


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """A registry over a made package of one plug-in `built_in`, with these entry points."""
    package = tmp_path / "made_plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "built_in.py").write_text("def built_in(*, k: int = 3): ...")
    monkeypatch.syspath_prepend(tmp_path)

    def make(*points: Point) -> Registry:
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
        return Registry("thing", "made_plugins")

    yield make
    for name in [m for m in sys.modules if m.startswith("made_plugins")]:
        del sys.modules[name]


def test_an_entry_point_may_be_a_plug_in(fresh):
    def stranger(*, k: int = 1): ...

    registry = fresh(Point("strange", lambda: stranger))
    assert registry.get("strange") is stranger
    assert registry.names() == ["strange"]


def test_an_entry_point_may_be_a_module_that_registers(fresh):
    def stranger(*, k: int = 1): ...

    def load() -> types.ModuleType:
        registry.register("inside")(stranger)
        return types.ModuleType("strange")

    registry = fresh(Point("strange", load))
    assert registry.names() == ["inside"]


def test_an_entry_point_whose_module_registers_nothing(fresh):
    registry = fresh(Point("strange", lambda: types.ModuleType("strange")))
    with pytest.raises(UsageError, match="'somewhere:strange' registers no thing; decorate one with @register_thing"):
        registry.names()


def test_an_entry_point_that_fails_is_named(fresh):
    registry = fresh(Point("strange", lambda: 1 / 0))
    with pytest.raises(UsageError, match=r"'somewhere:strange' .*fails to import: ZeroDivisionError: division by zero"):
        registry.names()


def test_a_broken_entry_point_is_told_every_time(fresh):
    registry = fresh(Point("strange", lambda: 1 / 0))
    for _ in range(2):
        with pytest.raises(UsageError, match="fails to import: ZeroDivisionError"):
            registry.names()
