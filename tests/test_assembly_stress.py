"""A pair whose target is under stress, from its config."""

from pathlib import Path

import torch
import whole

from dafw import assembly
from dafw.assembly import build_pair
from dafw.config import resolve
from dafw.pair import Pair
from dafw.store import compose

surroundings = whole.surroundings  # a fixture


def built(folder: Path, *words: str) -> Pair:
    path = folder / "one.npz"
    if not path.exists():
        whole.made_npz(path)
    sides = [
        f"{side}={value}" for side, value in (("src", "npz"), ("src.path", path), ("tgt", "npz"), ("tgt.path", path))
    ]
    return build_pair(resolve(compose(["method=source_only", *sides, *words])), None, lambda _: None)[1]


def test_a_pair_of_the_same_data_says_so(tmp_path: Path) -> None:
    pair = built(tmp_path, "tgt.rotation=90")
    assert any("source and target are the same data" in note for note in pair.notes)
    assert pair.target.name == "one-rotation90"


def test_the_target_alone_is_changed_at_the_size_of_the_pair(tmp_path: Path) -> None:
    plain, turned = built(tmp_path), built(tmp_path, "tgt.rotation=90")
    assert torch.equal(plain.source_test.inputs, turned.source_test.inputs)
    assert torch.equal(torch.rot90(plain.target_test.inputs, 1, (2, 3)), turned.target_test.inputs)
    assert torch.equal(plain.target_test.labels, turned.target_test.labels)


def test_what_is_changed_is_told_again_where_it_is_remembered(tmp_path: Path) -> None:
    first, again = (built(tmp_path, "tgt.corruption=contrast") for _ in range(2))
    told = [note for note in first.notes if "contrast of severity 5" in note]
    assert len(told) == 1
    assert told[0] in again.notes
    assert first.target is again.target
    other = built(tmp_path, "tgt.corruption=contrast", "split_seed=1")
    assert other.target is not first.target
    assert len(assembly._stressed) >= 2
