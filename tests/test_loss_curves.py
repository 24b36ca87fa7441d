"""The loss curve of every method, compared with the stored one.

The curves of 20 steps stand in tests/assets/losses/<method>.json. Where a loss, or a view, is meant to change, rewrite
them by

    DAFW_REWRITE_LOSSES=1 python -m pytest tests/test_loss_curves.py

and look at the difference before it is committed.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_trainer import Told, training

from dafw import conformance
from dafw.registry import METHODS, source_file
from dafw.setting import Setting
from dafw.trainer import fit

LOSSES = Path(__file__).parent / "assets" / "losses"


# ---- the loss curve of every method


def built_in() -> list[str]:
    folder = Path(conformance.__file__).parent / "methods"
    return [name for name in METHODS.names() if source_file(METHODS.get(name)).parent == folder]


def curve(name: str, **values: Any) -> dict[str, list[float]]:
    """The terms of each of 20 steps; of a stream of 24, those of 8 batches of three."""
    method_class = METHODS.get(name)
    made = conformance.case(method_class, 0, None, **values)
    told = Told()
    fit(
        made.method,
        made.pair,
        made.data,
        training(steps=20, batch_size=3 if made.pair.stream else 12),
        log_every=1,
        eval_every=1000,
        on_log=lambda step, terms, _: told.logs.append((step, terms)),
        on_evaluate=lambda _: None,
    )
    names = sorted({term for _, terms in told.logs for term in terms if term.startswith("loss/")})
    return {term: [terms[term] for _, terms in told.logs if term in terms] for term in names}


def differences(found: dict[str, list[float]], stored: dict[str, list[float]]) -> list[str]:
    """The terms whose curves are not the same to a thousandth."""
    wrong = sorted(found.keys() ^ stored.keys())
    for term in sorted(found.keys() & stored.keys()):
        if found[term] != pytest.approx(stored[term], rel=1e-3, abs=1e-6):
            wrong.append(term)
    return wrong


@pytest.mark.parametrize("name", [n for n in built_in() if METHODS.get(n).steps != 0])
def test_the_loss_curve_is_the_stored_one(name):
    found, file = curve(name), LOSSES / f"{name}.json"
    if os.environ.get("DAFW_REWRITE_LOSSES"):
        LOSSES.mkdir(parents=True, exist_ok=True)
        rounded = {term: [float(f"{value:.7g}") for value in values] for term, values in found.items()}
        file.write_text(json.dumps(rounded, indent=1) + "\n")
    assert file.is_file(), f"no stored curve of {name}; DAFW_REWRITE_LOSSES=1 writes it"
    stored = json.loads(file.read_text())
    lengths = {len(values) for values in found.values()}
    assert lengths == ({8} if METHODS.get(name).setting is Setting.TEST_TIME else {20})
    assert differences(found, stored) == []


def test_a_curve_is_stored_for_every_method_that_takes_steps_and_for_no_other():
    assert sorted(f.stem for f in LOSSES.glob("*.json")) == [n for n in built_in() if METHODS.get(n).steps != 0]


def test_a_loss_that_changes_by_a_hundredth_is_seen_in_its_curve():
    stored = json.loads((LOSSES / "dann.json").read_text())
    assert "loss/domain" in differences(curve("dann", weight=1.01), stored)
    assert differences(curve("dann", hidden=255), stored) == ["loss/classification", "loss/domain"]
