"""Which files of code change the hash of a run."""

from pathlib import Path

import pytest
import test_registry
import test_selection
import whole
from test_identity import config, hashed, in_node

from dafw import identity, registry
from dafw.config import Config
from dafw.registry import METHODS
from dafw.sources import source_hash

write, surroundings = test_registry.write, whole.surroundings  # fixtures


# ---- plug-ins


def test_the_plug_ins_of_a_run_are_known_by_what_they_are_used_for():
    used = identity.plugin_hashes(config())
    assert set(used) == {"method", "backbone", "src synth", "tgt"}
    assert all(len(value) == 32 for value in used.values())
    assert len(set(used.values())) == 4
    several = identity.plugin_hashes(in_node("src", name="synth+digits"))
    assert set(several) == {"method", "backbone", "src synth", "src digits", "tgt"}
    assert several["src digits"] == several["tgt"]
    for rule in ("im", "oracle"):  # a validator of dafw is in the hash of its own source
        assert identity.plugin_hashes(config(select=rule)) == used


def test_a_users_validator_is_known_by_its_file_since_every_run_logs_it(write):
    def hash_with(text: str) -> str:
        registry.load_plugin(write("mine.py", text))
        return hashed()

    without = hashed()
    text = test_selection.PLUGIN.format(better=True, only_named=False)
    first, second = hash_with(text), hash_with(text + "\n# another line\n")
    assert len({without, first, second}) == 3


# ---- source files


def with_changed(file: str, given: Config | None = None) -> str:
    """The hash as if this file of the package had one more line."""
    read = Path.read_bytes
    package = Path(registry.__file__).parent
    assert (package / file).is_file()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: read(self) + (b"\n" if self == package / file else b""))
        source_hash.cache_clear()
        try:
            return hashed(given)
        finally:
            source_hash.cache_clear()


@pytest.mark.parametrize(
    "file",
    [
        "trainer.py",
        "pair.py",
        "evaluation.py",
        "augment/image.py",
        "losses/entropy.py",
        "methods/dann.py",
        "backbones/convnet.py",
        "datasets/synth.py",
        "datasets/digits.py",
    ],
)
def test_a_change_of_a_source_file_that_makes_the_numbers_makes_another_run(file):
    assert with_changed(file) != hashed()


@pytest.mark.parametrize(
    "file", ["plots.py", "pictures.py", "tracking.py", "console.py", "list.py", "methods/mcd.py", "datasets/usps.py"]
)
def test_a_change_of_one_that_does_not_leaves_the_run(file):
    assert with_changed(file) == hashed()


def test_the_code_of_a_backbone_counts_wherever_it_stands():
    """`published` is built by the class of timm_model.py."""
    given = in_node("backbone", name="published")
    assert with_changed("backbones/timm_model.py", given) != hashed(given)


def test_a_users_method_is_known_by_its_file(write):
    def registered(text: str) -> str:
        registry.load_plugin(write("mine.py", text))
        return hashed(config(method={"name": "mine", "rate": 1.0}))

    first = registered(test_registry.method())
    assert registered(test_registry.method() + "\n# another line\n") != first
    assert registered(test_registry.method()) == first
    assert "mine" in METHODS
