"""What a run costs with the runs it starts from."""

from pathlib import Path

import pytest

from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.config import resolve
from dafw.job import Dependencies, network_name
from dafw.pruning import size
from dafw.record import Record, write_result
from dafw.store import compose


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


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ([], "convnet"),
        (["backbone.width=16", "backbone.feature_dim=128", "backbone.dropout=0.5"], "convnet"),
        (["backbone.width=4", "backbone.feature_dim=0"], "convnet feature_dim=0 width=4"),
        (["backbone.frozen=true", "init=random"], "convnet (frozen)"),
    ],
)
def test_a_network_is_told_by_what_it_costs(typed: list[str], told: str) -> None:
    model = Classifier(ConvNet(1, 4), 3)
    config = resolve(compose(typed))
    assert network_name(config, model) == told
    model.pruned_from = 4 * size(model.backbone)
    assert network_name(config, model) == f"{told}, 25% of its parameters left"
