"""Checkpoints are whole or not there, and reading one runs no code."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dafw import checkpoint
from dafw.errors import UsageError

STATE = {
    "method": {"model.head.weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(7)},
    "config": {"seed": 3, "train": {"lr": 0.1, "name": None}},
    "classes": ["a", "b"],
}


class Code:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (os.system, (f"touch {self.trace}",))


def test_what_was_saved_is_read(tmp_path):
    checkpoint.save(tmp_path / "checkpoint.pt", STATE)
    read = checkpoint.load(tmp_path / "checkpoint.pt")
    assert read.keys() == STATE.keys()
    assert read["config"] == STATE["config"]
    for name, value in STATE["method"].items():
        assert torch.equal(read["method"][name], value)


def test_a_saving_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        checkpoint.save(path, {"method": {}, "unsaveable": lambda: None})
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()

    def dies_half_way(_state, file):
        Path(file).write_bytes(before[: len(before) // 2])
        assert path.read_bytes() == before
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies_half_way)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"method": {}})
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"no checkpoint .*checkpoint\.pt; expected the folder of a finished run"):
        checkpoint.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, how):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"method": Code(trace)}))
    else:
        torch.save({"method": Code(trace)}, path)
    with pytest.raises(UsageError) as error:
        checkpoint.load(path)
    assert not trace.exists()
    assert str(error.value) == f"{path} is not a checkpoint of dafw; expected the checkpoint.pt of a run"


def written(path: Path, content: object) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, np.ndarray):
        with path.open("wb") as file:
            np.savez(file, a=content)
    else:
        torch.save(content, path)


NOT_CHECKPOINTS = {
    "empty": b"",
    "a word": "hello",
    "text": "method: dann\nseed: 0\n",
    "code": "import os\n",
    "noise": bytes(range(255, 0, -1)),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "a pickled dictionary": pickle.dumps({"method": 1, "words": ["x"]}, protocol=4),
    "arrays": np.arange(3),
    "a tensor": torch.ones(3),
    "weights": {"layer.weight": torch.ones(3)},
}


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "checkpoint.pt"
    written(path, NOT_CHECKPOINTS[name])
    with pytest.raises(UsageError) as error:
        checkpoint.load(path)
    assert str(error.value) == f"{path} is not a checkpoint of dafw; expected the checkpoint.pt of a run"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UsageError, match="is not a checkpoint of dafw"):
        checkpoint.load(path)
