"""Weights & Biases: what a run tells it. It never prompts, never holds a run up for long and never fails one."""

from __future__ import annotations

import http.client
import netrc
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

ANSWER_SECONDS = 3.0  # for any answer of the server, before it is tried in earnest
ONLINE_SECONDS = 4.0  # for the server to open a run
OPEN_SECONDS = 9.5  # for opening a run altogether, going offline included
CLOSE_SECONDS = 8.0  # for sending what is left at the end

MODES = {"run": "online", "dryrun": "offline"}  # what WANDB_MODE used to say

# Only what the run itself tells: no console capture, git, code or system statistics, which cost time and files.
QUIET: dict[str, Any] = {
    "silent": True,
    "quiet": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "save_code": False,
    "label_disable": True,
    "symlink": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "init_timeout": ONLINE_SECONDS,
    "finish_timeout": CLOSE_SECONDS,
    "finish_timeout_raises": True,
    "reinit": "create_new",  # a run of the user's own in this process stays as it is
}


class Tracker:
    """One run in Weights & Biases; wandb is imported only when there is something to tell it.

    warn: is told in one line what did not work; the run goes on
    """

    def __init__(self, warn: Callable[[str], None]):
        self._warn = warn
        self._run: Any = None
        self._folder = Path()

    def start(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        mode: str,
        project: str,
        entity: str | None,
        group: str,
        name: str,
        tags: Sequence[str] = (),
    ) -> None:
        """Open a run whose files lie in `folder`; takes at most about 10 s.

        mode: "auto" (WANDB_MODE, else online with a key, else offline), "online", "offline" or "disabled"
        config: shown as it is typed on the command line, {"method": {"name": "dann", "weight": 1}} as method and
            method.weight; the same keys that a sweep sets
        """
        self._run, self._folder = None, folder
        if mode == "auto":
            mode = MODES.get(os.environ.get("WANDB_MODE", ""), os.environ.get("WANDB_MODE") or "auto")
        if mode == "disabled":
            return
        started = time.monotonic()
        described: dict[str, Any] = {"project": project, "entity": entity, "group": group, "name": name}
        described |= {"tags": list(tags), "dir": str(folder), "config": dict(as_typed(config))}
        try:
            wandb = load()
            mode, problem = possible_mode(wandb, mode)
            if mode == "online":
                try:
                    self._run = open_run(wandb, "online", ONLINE_SECONDS + 1, described)
                except Exception as error:  # a server that answers may still refuse the key or the entity, or hang
                    mode, problem = "offline", f"the server opened no run ({one_line(error)})"
                    if "WANDB_RUN_ID" in os.environ:  # the one that failed holds the id that the next one is given
                        within(ONLINE_SECONDS, wandb.teardown)
            if mode == "offline":
                self._run = open_run(wandb, "offline", OPEN_SECONDS - (time.monotonic() - started), described)
            if problem:
                self._warn(f"W&B: {problem}; offline, {self._sync('offline-run-*')}")
        except Exception as error:  # whatever wandb does, the run goes on
            self._give_up("could not start", error)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the values of a step, by their names."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values), step=step)
        except Exception as error:  # as above
            self._give_up(f"stopped at step {step}", error)

    def finish(self, result: Mapping[str, Any], pictures: Sequence[Path], failed: bool = False) -> None:
        """Tell the result and the pictures, as plots/<stem>, and close the run; takes at most about 10 s.

        result: what result.json holds, or {} where there is none
        """
        run, self._run = self._run, None
        if run is None:
            return

        def close() -> None:
            try:
                run.summary.update(summary(result))
                if pictures:
                    wandb = load()
                    run.log({f"plots/{picture.stem}": wandb.Image(str(picture)) for picture in pictures})
            finally:
                run.finish(exit_code=int(failed))

        try:
            within(CLOSE_SECONDS + 1, close)
        except TimeoutError:
            self._warn(f"W&B: not all was sent within {CLOSE_SECONDS:.0f} s; {self._sync('run-*')}")
        except Exception as error:  # as above
            self._give_up("could not finish", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._run = None
        self._warn(f"W&B: {what} ({one_line(error)}); the run goes on without it")

    def _sync(self, runs: str) -> str:
        return f"send it later by `wandb sync {self._folder / 'wandb' / runs}`"


def load() -> ModuleType:
    """The wandb package."""
    # Its own crash reports keep a process from ending for 20 s where the server hangs.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def known_settings(wandb: ModuleType) -> Any:
    """`QUIET`, as far as this version of wandb knows it."""
    fields = wandb.Settings.model_fields
    known = {key: value for key, value in QUIET.items() if key in fields}
    if "create_new" not in str(fields["reinit"].annotation):
        del known["reinit"]
    return wandb.Settings(**known)


def possible_mode(wandb: ModuleType, mode: str) -> tuple[str, str | None]:
    """The mode that can be had, and why it is not the one wished for: online needs a key and a server that answers."""
    settings = wandb.setup(settings=known_settings(wandb)).settings
    keyed = has_key(settings)
    if mode == "auto":  # `wandb offline` and `wandb disabled` leave their word in the settings file
        chosen = MODES.get(settings.mode, settings.mode)
        mode = chosen if chosen != "online" or keyed else "offline"
    if mode != "online":
        return mode, None
    if not keyed:
        return "offline", "no API key (type `wandb login` or set WANDB_API_KEY)"
    reason = unanswered(settings.base_url)
    return ("offline", f"{settings.base_url} does not answer ({reason})") if reason else (mode, None)


def open_run(wandb: ModuleType, mode: str, seconds: float, described: Mapping[str, Any]) -> Any:
    """A new run; no id is given, since the agent of a sweep gives it by WANDB_RUN_ID."""
    return within(seconds, lambda: wandb.init(mode=mode, settings=known_settings(wandb), **described))


def has_key(settings: Any) -> bool:
    """Whether wandb will find a key where it looks for one; otherwise it would ask for it."""
    names = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    if settings.api_key or any(os.environ.get(name) for name in names):
        return True
    hosts = {urlsplit(settings.base_url).netloc}
    if settings.base_url == type(settings).model_fields["base_url"].default:
        hosts.add("api.wandb.ai")  # newer versions have another address, and take the key of this one too
    paths = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    path = next((p for p in (Path(p).expanduser() for p in paths if p) if p.is_file()), None)
    try:
        return path is not None and bool(hosts & set(netrc.netrc(str(path)).hosts))
    except (netrc.NetrcParseError, OSError):
        return False


def unanswered(url: str) -> str | None:
    """Why a server gives no answer at all, or None where it gives any."""
    try:
        within(ANSWER_SECONDS, lambda: urllib.request.urlopen(urllib.request.Request(url, method="HEAD")).close())
    except urllib.error.HTTPError as error:  # an answer
        error.close()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else one_line(reason)  # wandb has certificates of its own
    return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result, or TimeoutError after so many seconds, when it is left behind in its thread."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if errors:
        raise errors[0]
    if not outcome:
        raise TimeoutError(f"nothing within {seconds:.1f} s")
    return outcome[0]


def as_typed(config: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of a nested config as they are typed; `wandb`, which describes no result, is left out."""
    for key, value in config.items():
        path = parent if parent and key == "name" else f"{parent}.{key}" if parent else key
        if path == "wandb":
            continue
        if isinstance(value, Mapping):
            yield from as_typed(value, path)
        else:
            yield path, value if isinstance(value, (bool, int, float, list, type(None))) else str(value)


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The final numbers under their stable names; one that does not exist is left out."""
    names = {
        "target/accuracy": ("target", "accuracy"),
        "target/macro_f1": ("target", "macro_f1"),
        "target/per_class_accuracy": ("target", "per_class_accuracy"),
        "source/accuracy": ("source", "accuracy"),
        "reference/lower": ("references", "lower", "accuracy"),
        "reference/upper": ("references", "upper", "accuracy"),
        "recovered_gap": ("recovered_gap",),
        "verdict": ("versus_lower", "verdict"),
        "versus_lower/difference": ("versus_lower", "difference"),
        "versus_lower/p": ("versus_lower", "p"),
        "baseline/method": ("versus_baseline", "method"),
        "baseline/accuracy": ("versus_baseline", "accuracy"),
        "versus_baseline/difference": ("versus_baseline", "difference"),
        "versus_baseline/p": ("versus_baseline", "p"),
        "versus_baseline/verdict": ("versus_baseline", "verdict"),
        "bound/accuracy": ("bound", "accuracy"),
        "selection": ("selection",),
        "selected_step": ("selected_step",),
        "command": ("command",),
        "comparable_hash": ("comparable_hash",),
        "warnings": ("warnings",),
        "seconds": ("seconds",),
        "total_seconds": ("total_seconds",),
    }
    found = {}
    for name, path in names.items():
        value: Any = result
        for key in path:
            value = (value or {}).get(key)
        if value is not None:
            found[name] = value
    found |= {f"validator/{name}": value for name, value in result.get("validators", {}).items()}
    found |= {f"diagnosis/{name}": value for name, value in numbers(result.get("diagnosis") or {})}
    return found


def numbers(nested: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, float]]:
    """The single numbers in a nested mapping, by their path; lists (a matrix, a histogram) are for the report."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{parent}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{parent}{key}", value


def one_line(error: object) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
