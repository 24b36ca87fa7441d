"""What a run costs with the runs it starts from."""

from pathlib import Path

from dafw.job import Dependencies
from dafw.record import Record, write_result


def made(folder: Path, seconds: float, total: float, depends_on: list[Path]) -> Record:
    folder.mkdir()
    known = {"status": "done", "config_hash": folder.name}
    result = {**known, "seconds": seconds, "total_seconds": total, "depends_on": [str(path) for path in depends_on]}
    write_result(folder, result)
    return Record(folder, result)


def test_a_run_that_two_others_start_from_costs_once(tmp_path: Path) -> None:
    init = made(tmp_path / "network", 2.0, 2.0, [])
    start = made(tmp_path / "start", 0.5, 2.5, [init.folder])
    assert Dependencies(init, start).seconds == 2.5
    assert Dependencies(None, start).seconds == 2.5
