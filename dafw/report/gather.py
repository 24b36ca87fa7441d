"""The runs under a folder, read once and remembered, as a `Board`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dafw.cache import written_whole
from dafw.errors import UsageError
from dafw.report import groups, stale
from dafw.report.leaderboard import Board, Group, ValidatorScore

NO_PAIRS = {"sweeps", "studies", "wandb"}  # folders beside those of the pairs; hidden ones are none either
NEEDED = ("method", "setting", "src", "tgt", "seed", "selection", "seconds", "total_seconds")  # of a finished run

Other = dict[str, str]  # folder, status, reason


@dataclass
class Memory:
    """What an earlier report read: run folder → [changed (ns), size, result.json]; fingerprints of data."""

    runs: dict[str, Any]
    fingerprints: stale.Fingerprints


def collect(out: Path, only: Container[str] | None = None) -> Board:
    """All of a folder of runs, read and compared. Raises UsageError where there is no folder or no run in it.

    only: the folders of the finished runs that are wanted, as `str`; None for all. What was read is remembered in
    `.report/cache.json` there. Other processes may be writing runs meanwhile.
    """
    if not out.is_dir():
        raise UsageError(f"no folder {out}; expected a folder of runs, as in python -m dafw.report runs/")
    memory = recall(out)
    finished, others = gather(out, memory)
    if not finished and not others:
        raise UsageError(
            f"no run in {out}; expected {out}/<src>-<tgt>/<method>/<run>, as `python -m dafw.run` leaves them"
        )
    if only is not None:
        finished, others = [run for run in finished if run["folder"] in only], []
    today = stale.Today(memory.fingerprints)
    with_accuracy = [run for run in finished if run.get("target")]
    without = [run["folder"] for run in finished if not run.get("target")]
    others += [_other(folder, "unmeasured", "there are no target test examples") for folder in without]
    compared, sweeps, superseded = groups.grouped(with_accuracy, today.age)
    notes = remember(out, memory)
    return Board(
        out=out,
        groups=compared,
        across=groups.across(compared),
        sweeps=sweeps,
        runs=tuple(finished),
        others=tuple(sorted([*others, *superseded], key=lambda other: other["folder"])),
        development=mean_scores(group for group in compared if group.development),
        report=mean_scores(group for group in compared if not group.development),
        notes=tuple(notes),
    )


def mean_scores(of: Iterable[Group]) -> tuple[ValidatorScore, ...]:
    """The validators over all adapting rows of several pairs, each pair's main group once; least regret first."""
    return groups.validator_scores([row for g in groups.main_groups(of).values() for row in groups.adapting(g.rows)])


# ---- folders


def run_folders(out: Path) -> Iterator[Path]:
    """`<out>/<pair>/<method>/<run>`, whatever is in it."""
    for pair in _folders(out):
        if pair.name not in NO_PAIRS:
            for method in _folders(Path(pair.path)):
                yield from (Path(run.path) for run in _folders(Path(method.path)))


def _folders(parent: Path) -> list[os.DirEntry[str]]:
    with os.scandir(parent) as entries:
        return sorted((e for e in entries if not e.name.startswith(".") and e.is_dir()), key=lambda e: e.name)


def gather(out: Path, memory: Memory) -> tuple[list[dict[str, Any]], list[Other]]:
    """The result.json of the finished runs, the newest first, and the runs that failed or are not finished."""
    finished, others, seen = [], [], {}
    for folder in run_folders(out):
        key = str(folder.relative_to(out))
        try:
            status = (folder / "result.json").stat()
        except FileNotFoundError:
            others += unfinished(folder)
            continue
        held = memory.runs.get(key)
        if held is None or held[:2] != [status.st_mtime_ns, status.st_size]:
            try:
                held = [status.st_mtime_ns, status.st_size, dict(json.loads((folder / "result.json").read_text()))]
            except (ValueError, TypeError, OSError) as error:
                others.append(_other(folder, "unreadable", f"result.json: {error}"))
                continue
        seen[key] = held
        result = {**held[2], "folder": str(folder)}  # it may have been moved
        lacking = [key for key in NEEDED if result.get(key) is None]
        if not isinstance(result.get("status"), str):
            others.append(_other(folder, "unreadable", "result.json: no status"))
        elif result["status"] != "done":
            others.append(_other(folder, "failed", str(result.get("reason", "it does not say why"))))
        elif lacking:
            others.append(_other(folder, "unreadable", f"result.json: no {', '.join(lacking)}"))
        elif odd := misshapen(result):
            others.append(_other(folder, "unreadable", f"result.json: {odd} is {str(result[odd])[:40]!r}"))
        else:
            finished.append((held[0], result))
    memory.runs = seen
    finished.sort(key=lambda found: (-found[0], found[1]["folder"]))
    return [result for _, result in finished], others


def misshapen(result: dict[str, Any]) -> str:
    """The first part that is of another kind than a run leaves; "" where there is none."""
    kinds: dict[str, Any] = {"seed": int, **dict.fromkeys(("seconds", "total_seconds"), (int, float))}
    kinds |= dict.fromkeys(("method", "setting", "src", "tgt", "selection"), str)
    optional: dict[str, Any] = dict.fromkeys(("target", "source", "references", "comparable", "config"), dict)
    optional |= dict.fromkeys(("evaluations", "warnings", "hyperparameters"), list)
    if result.get("comparable"):  # a run that says so says its config too
        kinds["config"] = dict
    for key, kind in {**optional, **kinds}.items():
        value = result.get(key)
        if not isinstance(value, kind) and (key in kinds or value is not None):
            return key
    target = result.get("target")
    return "target" if target and not isinstance(target.get("accuracy"), (int, float)) else ""


def unfinished(folder: Path) -> list[Other]:
    """A run without result.json: still training, or killed. A folder without a config is none."""
    if not (folder / "config.yaml").exists():
        return []
    files = [folder / name for name in ("metrics.jsonl", "log.txt", "config.yaml")]
    newest = max(file.stat().st_mtime for file in files if file.exists())
    written = datetime.fromtimestamp(newest).strftime("%Y-%m-%d %H:%M")
    return [_other(folder, "unfinished", f"no result yet: still training, or killed; last written {written}")]


def _other(folder: Path | str, status: str, reason: str) -> Other:
    return {"folder": str(folder), "status": status, "reason": reason}


# ---- memory


def version() -> str:
    """A hash of the code that decides what is remembered."""
    texts = (Path(module).read_bytes() for module in (__file__, stale.__file__))
    return hashlib.blake2b(b"".join(texts), digest_size=16).hexdigest()


def recall(out: Path) -> Memory:
    """What the last report remembered; nothing where there was none, or of other code."""
    try:
        held = json.loads((out / ".report" / "cache.json").read_text())
    except (OSError, ValueError):  # it saves time and nothing else
        held = {}
    if not isinstance(held, dict) or held.get("version") != version():
        return Memory({}, {})
    return Memory(held["runs"], held["fingerprints"])


def remember(out: Path, memory: Memory) -> list[str]:
    """Keep it for the next report; what kept it from being written, for a folder of another user may be read alone."""
    held = {"version": version(), "runs": memory.runs, "fingerprints": memory.fingerprints}
    try:
        (out / ".report").mkdir(exist_ok=True)
        with written_whole(out / ".report" / "cache.json") as temporary:
            temporary.write_text(json.dumps(held))
    except OSError as error:
        return [f"{out} cannot be written ({error.strerror}), so the next report reads all of it again"]
    return []
