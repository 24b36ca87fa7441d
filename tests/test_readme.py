"""What README and CONTRIBUTING tell people to type is typed here."""

import re
import shlex
from pathlib import Path

import pytest

from dafw import check, store, study
from dafw import list as listing

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
    (code,) = blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(code.replace('"train.steps": 200', '"train.steps": 3'), "README", "exec"), names)
    assert names["record"].accuracy > 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_method_in_contributing_passes_the_checks(tmp_path: Path) -> None:
    (code,) = blocks(CONTRIBUTING, "python")
    file = tmp_path / "my_method.py"
    file.write_text(code)
    assert check.main([str(file)]) == 0


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
