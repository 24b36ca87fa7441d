"""Run folders read, remembered, and their code and data compared with today's."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import whole
from reported import made_failure, made_run, made_runs, made_unfinished
from whole import made_npz

from dafw import assembly
from dafw.config import Config, config_of, plain_node
from dafw.errors import UsageError
from dafw.registry import DATASETS, options
from dafw.report import gather, stale
from dafw.report.gather import collect
from dafw.report.leaderboard import Board, Row

surroundings = whole.surroundings  # a fixture


def changed(folder: Path, **keys: Any) -> None:
    """The run's result.json with some keys set anew."""
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, **keys}))


def only_row(board: Board) -> Row:
    (group,) = board.groups
    (row,) = group.rows
    return row


def test_every_folder_is_told_as_what_it_is(tmp_path: Path) -> None:
    done = made_run(tmp_path)
    failed = made_failure(tmp_path, reason="TrainingError: nan")
    unfinished = made_unfinished(tmp_path)
    broken = made_run(tmp_path, seed=1)
    (broken / "result.json").write_text('{"status": "do')
    listed = made_run(tmp_path, seed=2)
    (listed / "result.json").write_text("[1]")
    foreign = made_run(tmp_path, seed=4, changes={"seconds": None})
    bare = made_run(tmp_path, seed=5)
    (bare / "result.json").write_text("{}")
    unmeasured = made_run(tmp_path, seed=3, changes={"target": None})
    (tmp_path / "synth-digits" / "dann" / "empty").mkdir()
    (tmp_path / "synth-digits" / "notes.txt").write_text("mine")
    for name in ("sweeps", "studies", "wandb", ".locks"):
        stray = tmp_path / name / "a" / "b"
        stray.mkdir(parents=True)
        (stray / "result.json").write_text("{}")
    board = collect(tmp_path)
    assert {run["folder"] for run in board.runs} == {str(done), str(unmeasured)}
    statuses = {other["folder"]: other["status"] for other in board.others}
    assert statuses == {
        str(failed): "failed",
        str(unfinished): "unfinished",
        str(broken): "unreadable",
        str(listed): "unreadable",
        str(foreign): "unreadable",
        str(bare): "unreadable",
        str(unmeasured): "unmeasured",
    }
    reasons = {other["folder"]: other["reason"] for other in board.others}
    assert reasons[str(foreign)] == "result.json: no seconds"
    assert reasons[str(bare)] == "result.json: no status"
    assert reasons[str(failed)] == "TrainingError: nan"
    assert "last written 20" in reasons[str(unfinished)]
    assert only_row(board).folders == (done,)


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder .*nowhere; expected a folder of runs"):
        collect(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no run in .*; expected .*<src>-<tgt>/<method>/<run>"):
        collect(tmp_path)


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [made_run(tmp_path, seed=seed) for seed in range(3)]
    first = collect(tmp_path)
    read: list[Path] = []
    original = Path.read_text

    def watched(path: Path, *args: Any, **keys: Any) -> str:
        if path.name == "result.json":
            read.append(path)
        return original(path, *args, **keys)

    monkeypatch.setattr(Path, "read_text", watched)
    assert collect(tmp_path) == first
    assert read == []
    changed(folders[1], target={"accuracy": 0.123})
    new = made_run(tmp_path, seed=7)
    read.clear()
    board = collect(tmp_path)
    assert set(read) == {folders[1] / "result.json", new / "result.json"}
    row = only_row(board)
    assert dict(zip(row.seeds, row.accuracies, strict=True))[1] == 0.123
    for folder in folders[:2]:
        (folder / "result.json").unlink()
    assert only_row(collect(tmp_path)).seeds == (2, 7)


@pytest.mark.parametrize("held", ["{", "[]", '{"version": "of long ago", "runs": {}}'])
def test_a_cache_of_other_code_or_none_is_not_used(held: str, tmp_path: Path) -> None:
    made_run(tmp_path)
    first = collect(tmp_path)
    (tmp_path / ".report" / "cache.json").write_text(held)
    assert collect(tmp_path) == first
    assert json.loads((tmp_path / ".report" / "cache.json").read_text())["version"] == gather.version()


def test_a_moved_folder_is_told_where_it_lies(tmp_path: Path) -> None:
    made_run(tmp_path / "old")
    collect(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    row = only_row(collect(tmp_path / "new"))
    assert row.folders[0].is_relative_to(tmp_path / "new")


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    made_run(tmp_path)
    (tmp_path / ".report").write_text("a file where the folder would be")
    board = collect(tmp_path)
    assert len(board.runs) == 1
    (note,) = board.notes
    assert "cannot be written" in note


# ---- stale


def test_a_run_of_today_is_not_stale_and_another_torch_is_a_note(tmp_path: Path) -> None:
    made_run(tmp_path)
    row = only_row(collect(tmp_path))
    assert row.stale == ()
    (note,) = row.notes
    assert note.startswith("torch 2.14.1 then, ")


def test_changed_code_and_data_are_named(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    identity = json.loads((folder / "result.json").read_text())["identity"]
    plugins = {**identity["plugins"], "method": "0" * 32, "src synth": "1" * 32}
    changed(folder, identity={**identity, "dafw": "2" * 32, "plugins": plugins, "data": {"src": ["x"], "tgt": "y"}})
    assert only_row(collect(tmp_path)).stale == (
        "the code of dafw changed",
        "the code of its method changed",
        "the code of its src synth changed",
        "its data changed",
    )


def test_data_and_plugins_that_are_not_at_hand_are_not_stale(tmp_path: Path) -> None:
    made_run(tmp_path, "my_method", src="mnist", tgt="usps")
    row = only_row(collect(tmp_path))
    assert row.stale == ()
    assert "the code of its method is not at hand, not checked" in row.notes
    assert any(note.startswith("data not at hand, not checked (mnist: not found in") for note in row.notes)


def test_a_run_that_logged_a_users_validator_is_checked(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    identity = json.loads((folder / "result.json").read_text())["identity"]
    changed(folder, identity={**identity, "plugins": {**identity["plugins"], "validator mine": "0" * 32}})
    row = only_row(collect(tmp_path))
    assert row.stale == ()
    assert "the code of its validator mine is not at hand, not checked" in row.notes


def test_a_plugin_of_ones_own_is_read_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "my_method.py"
    file.write_text("raise SystemExit('a report runs nobody\\'s code')\n")
    digest = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    folder = made_run(tmp_path / "runs", "my_method", keys={"plugins": [str(file)]})
    identity = json.loads((folder / "result.json").read_text())["identity"]
    changed(folder, identity={**identity, "plugins": {**identity["plugins"], "method": digest}})
    assert not any("method" in note for note in only_row(collect(tmp_path / "runs")).notes)
    file.write_text("# changed\n")
    assert "the code of its method is not at hand, not checked" in only_row(collect(tmp_path / "runs")).notes


def watched_loading(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configs whose data are loaded from now on."""
    loaded: list[Config] = []
    original = assembly.load_domains

    def watched(config: Config) -> Any:
        loaded.append(config)
        return original(config)

    monkeypatch.setattr(assembly, "load_domains", watched)
    return loaded


def npz_run(tmp_path: Path, file: Path) -> Path:
    """A run whose target is a file, with its fingerprint."""
    node = {**plain_node("tgt", "npz", options(DATASETS.get("npz")), path=str(file)), "path": str(file)}
    folder = made_run(tmp_path / "runs", keys={"tgt": node})
    result = json.loads((folder / "result.json").read_text())
    config = config_of(result["config"])
    sources, target = assembly.load_domains(config)
    identity = result["identity"]
    plugins = {**identity["plugins"], "tgt": stale.plugin_hash(DATASETS.get("npz"))}
    data = {"src": [s.fingerprint for s in sources], "tgt": target.fingerprint}
    changed(folder, identity={**identity, "plugins": plugins, "data": data})
    return folder


def test_fingerprints_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made_npz(tmp_path / "made.npz")
    npz_run(tmp_path, file)
    loaded = watched_loading(monkeypatch)
    assert only_row(collect(tmp_path / "runs")).stale == ()
    assert len(loaded) == 1
    assert loaded[0].tgt["download"] is False
    assert only_row(collect(tmp_path / "runs")).stale == ()
    assert len(loaded) == 1
    made_npz(file, shift=5)
    os.utime(file, (1, 1))
    assert only_row(collect(tmp_path / "runs")).stale == ("its data changed",)
    assert len(loaded) == 2
    file.unlink()
    row = only_row(collect(tmp_path / "runs"))
    assert row.stale == ()
    assert any(note.startswith("data not at hand, not checked (") for note in row.notes)


def test_a_data_set_of_too_many_files_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz_run(tmp_path, made_npz(tmp_path / "made.npz"))
    monkeypatch.setattr(stale, "MOST_FILES", 0)
    loaded = watched_loading(monkeypatch)
    for count in (1, 2):
        assert only_row(collect(tmp_path / "runs")).stale == ()
        assert len(loaded) == count


def test_one_pair_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_runs(tmp_path, pairs=[("synth", "digits")], seeds=(0, 1), pictures=False)
    loaded = watched_loading(monkeypatch)
    collect(tmp_path)
    assert len(loaded) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", "zero"), ("target", "x"), ("target", {"accuracy": None}), ("evaluations", "many"), ("config", None)],
)
def test_a_result_of_another_shape_is_unreadable_and_the_others_are_shown(key: str, value: Any, tmp_path: Path) -> None:
    made_run(tmp_path)
    odd = made_run(tmp_path, seed=1)
    changed(odd, **{key: value})
    board = collect(tmp_path)
    assert len(only_row(board).seeds) == 1
    (other,) = board.others
    assert (other["folder"], other["status"]) == (str(odd), "unreadable")
    assert other["reason"].startswith(f"result.json: {key} is ")
