"""Names → methods, data sets, backbones, validators.

A plug-in is one function or class in one file. Built-in ones are the modules of `dafw.methods`, `dafw.datasets`,
`dafw.backbones` and `dafw.validators`; others come from an installed package's entry point of the same name or from
a file (`plugins=[my_method.py]`). A taken name is an error.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from dafw.errors import UsageError

T = TypeVar("T", bound=Callable[..., Any])

PAPER = re.compile(r"\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)")
SIMPLE_TYPES = (int, float, bool, str, Path)


class Range(typing.NamedTuple):
    """Where a hyper-parameter is tuned, as in `weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0`."""

    low: float
    high: float
    log: bool = False

    def at(self, fraction: float) -> float:
        """The value at a fraction in [0, 1] of the range, on a log scale if it says so; three significant digits."""
        if self.log:
            return float(f"{self.low * (self.high / self.low) ** fraction:.3g}")
        return float(f"{self.low + (self.high - self.low) * fraction:.3g}")


class Option(typing.NamedTuple):
    """A keyword-only argument of a plug-in: a key on the command line."""

    name: str
    type: Any
    default: Any  # inspect.Parameter.empty where one must be given
    range: Range | None = None  # None: not tuned

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def is_option_type(annotation: Any) -> bool:
    """Whether a keyword may carry this annotation: int, float, bool, str, Path, an Enum, a list of them, or None."""
    if annotation in SIMPLE_TYPES or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return True
    if typing.get_origin(annotation) is list:
        return all(map(is_option_type, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [t for t in typing.get_args(annotation) if t is not type(None)]
        return all(map(is_option_type, kinds)) and (len(kinds) == 1 or all(kind in SIMPLE_TYPES for kind in kinds))
    return False


def options(plugin: Callable[..., Any]) -> list[Option]:
    """The keyword-only arguments of a registered function, or of a registered class's `__init__`.

    Raises UsageError for one without a type, or with a type the command line cannot write.
    """
    function = plugin.__init__ if isinstance(plugin, type) else plugin  # type: ignore[misc]
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        annotation, declared = hints.get(parameter.name), None
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *extras = typing.get_args(annotation)
            declared = next((extra for extra in extras if isinstance(extra, Range)), None)
        if annotation is None or not is_option_type(annotation):
            has = "no type" if annotation is None else f"the type {annotation}"
            raise UsageError(
                f"{source_file(plugin)}: {parameter.name} of {plugin.__name__} has {has}; "
                f"expected int, float, bool, str, Path, Enum or a list of them, as in `{parameter.name}: float = 1.0`"
            )
        if parameter.name == "name":
            raise UsageError(f"{source_file(plugin)}: {plugin.__name__} takes an option `name`; call it something else")
        found.append(Option(parameter.name, annotation, parameter.default, declared))
    return found


def typed(kind: Any, value: Any) -> Any:
    """Enums and paths are plain words in a config and come back as what the plug-in declared."""
    if isinstance(value, list):
        return [typed(kind, entry) for entry in value]
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and isinstance(value, str):
            if issubclass(candidate, Path):
                return candidate(value)
            if issubclass(candidate, Enum):
                return candidate[value]
    return value


def source_file(plugin: Callable[..., Any]) -> Path:
    """The file a plug-in was written in. UsageError where there is none, as in a notebook's cell."""
    try:
        file = inspect.getsourcefile(plugin)
    except (TypeError, OSError):
        file = None
    if file is None:
        raise UsageError(
            f"{plugin.__name__} stands in no file, so that its runs could not be told apart; "
            "expected a Python file, as in plugins=[my_method.py]"
        )
    return Path(file)


def about(plugin: Any) -> tuple[str, str]:
    """The first sentence of a docstring without its paper, and the paper: "Ganin et al. 2016, JMLR 17:59"."""
    text = " ".join((plugin.__doc__ or "").split("\n\n")[0].split())
    flat = re.sub(r"(\d)\((\d+)\)", r"\1:\2", text)  # a volume's number stands in brackets of its own
    paper = PAPER.search(flat)
    if paper is None:
        return text.rstrip("."), ""
    return (flat[: paper.start()] + flat[paper.end() :]).strip().rstrip(".").rstrip(), paper.group(1)


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A hint naming what the user may have meant: "did you mean dann, danna?" or all that is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:40])
    return f"known: {shown}" if len(known) <= 40 else f"known: {shown}, ..."


def _beside(taken: Any, plugin: Any) -> bool:
    """Whether both stand in one reading of one file, rather than being the same one read again."""
    return bool(taken.__module__ == plugin.__module__ and taken.__qualname__ != plugin.__qualname__)


class Registry(Generic[T]):
    """The plug-ins of one kind, by name."""

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package  # also the entry point group
        self._plugins: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, plugin: T) -> T:
        options(plugin)  # a wrong signature is told when the file is read, not when the run starts
        taken = self._plugins.get(name)
        file = source_file(plugin)
        if taken is not None and (source_file(taken) != file or _beside(taken, plugin)):
            raise UsageError(
                f"{file}: the {self.kind} name {name!r} is taken by {taken.__name__} in {source_file(taken)}; "
                f"rename the file or register it as another name"
            )
        self._plugins[name] = plugin
        plugin.registered_name = name  # type: ignore[attr-defined]
        return plugin

    def register(self, name: Any = None) -> Any:
        """Use as `@register` (the name is the file's stem) or `@register("name")`."""
        if callable(name):
            return self.add(source_file(name).stem, name)  # type: ignore[arg-type]
        return lambda plugin: self.add(name or source_file(plugin).stem, plugin)

    def load(self) -> None:
        """Import the built-in plug-ins and those of installed packages, once."""
        if self._loaded:
            return
        self._loaded = True  # a plug-in that is being imported may ask for names
        try:
            self._load()
        except BaseException:
            self._loaded = False  # so that the reason is told again, not forgotten
            raise

    def _load(self) -> None:
        package = importlib.import_module(self.package)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{self.package}.{module}")
        for point in importlib.metadata.entry_points(group=self.package):
            before = set(self._plugins)
            try:
                loaded = point.load()
            except UsageError:
                raise
            except Exception as error:  # a stranger's code may fail in any way; it is named, never ignored
                raise UsageError(
                    f"the plug-in {point.value!r} ({self.package} entry point {point.name!r}) fails to import: "
                    f"{type(error).__name__}: {error}; mend or uninstall its package"
                ) from error
            if not isinstance(loaded, types.ModuleType) and loaded not in self._plugins.values():
                self.add(point.name, loaded)
            elif isinstance(loaded, types.ModuleType) and set(self._plugins) == before:
                raise UsageError(
                    f"the plug-in {point.value!r} registers no {self.kind}; decorate one with @register_{self.kind}"
                )

    def names(self) -> list[str]:
        self.load()
        return sorted(self._plugins)

    def get(self, name: str) -> T:
        """The plug-in of this name; UsageError with the nearest names where there is none."""
        self.load()
        if name not in self._plugins:
            raise UsageError(f"unknown {self.kind} {name!r}; {nearest(name, self._plugins)}")
        return self._plugins[name]

    def __contains__(self, name: str) -> bool:
        self.load()
        return name in self._plugins


METHODS: Registry[Any] = Registry("method", "dafw.methods")
DATASETS: Registry[Any] = Registry("dataset", "dafw.datasets")
BACKBONES: Registry[Any] = Registry("backbone", "dafw.backbones")
VALIDATORS: Registry[Any] = Registry("validator", "dafw.validators")

register_method = METHODS.register
register_dataset = DATASETS.register
register_backbone = BACKBONES.register


def register_validator(
    name: str | None = None,
    *,
    higher_is_better: bool,
    sees: tuple[str, ...] = ("source", "target"),
    only_named: bool = False,
) -> Callable[[T], T]:
    """Register a function of an `Evidence` that returns a float, as `@register_validator(higher_is_better=True)`.

    sees: which parts it needs, "source" (features, logits, labels) and "target" (features, logits); it is left out
        where one of them does not exist
    only_named: it costs more than a look at features, and is computed only where `select=` names it
    """

    def decorate(validator: T) -> T:
        if not sees or not {*sees} <= {"source", "target"}:
            raise UsageError(
                f"{source_file(validator)}: {validator.__name__} has sees={sees!r}; "
                "expected source, target or both, as in sees=('target',)"
            )
        validator.higher_is_better = higher_is_better  # type: ignore[attr-defined]
        validator.sees = sees  # type: ignore[attr-defined]
        validator.only_named = only_named  # type: ignore[attr-defined]
        registered: T = VALIDATORS.register(name)(validator)
        return registered

    return decorate


PLUGIN_FILES: dict[str, str] = {}  # path → hash of its source, for the hash of a run


def load_plugin(path: str | Path) -> None:
    """Import a user's file, which registers what is in it. The same file twice is read once.

    Raises UsageError where the file is missing, fails to import or registers a taken name.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise UsageError(f"plugins: no file {path}; expected a Python file, as in plugins=[my_method.py]")
    digest = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    if PLUGIN_FILES.get(str(file)) == digest:
        return
    for registry in (METHODS, DATASETS, BACKBONES, VALIDATORS):
        registry.load()  # so that a name taken by a built-in is noticed whichever comes first
    spec = importlib.util.spec_from_file_location(f"dafw_plugin_{file.stem}_{digest[:8]}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"plugins: {path} is not a Python file; expected one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # get_type_hints and dataclasses look the module up
    before = [(registry, dict(registry._plugins)) for registry in (METHODS, DATASETS, BACKBONES, VALIDATORS)]
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's code may fail in any way; it is named, never ignored
        del sys.modules[spec.name]
        for registry, plugins in before:
            registry._plugins = plugins
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"plugins: {path} fails to import: {type(error).__name__}: {error}") from error
    PLUGIN_FILES[str(file)] = digest
