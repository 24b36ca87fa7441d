"""What a run costs, and with the runs it starts from."""

from pathlib import Path

import pytest
from whole import command, words

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


WATCHING = """
import sys
from dafw import Method, Setting, register_method

@register_method
class Watching(Method):
    setting = Setting.SOURCE_ONLY

    def losses(self, batch, progress):
        if progress.step == 0:
            print("imported before the first step:", "sklearn.cluster" in sys.modules)
        return {"classification": self.model(batch.source.inputs).logits.logsumexp(1).mean()}
"""


def test_what_an_evaluation_imports_is_not_in_the_seconds_of_the_first_run(tmp_path: Path) -> None:
    (tmp_path / "watching.py").write_text(WATCHING)
    keys = {"plugins": [tmp_path / "watching.py"], "src": "synth", "tgt": "digits", "out": tmp_path / "runs"}
    told = command("dafw.run", *words(method="watching", **keys), cwd=tmp_path)
    assert told.code == 0, told.err
    assert "imported before the first step: True" in told.out


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
