"""`python -m dafw.check my_method.py`: a stranger's file is told what its method does not hold."""

from pathlib import Path
from typing import Any

import pytest
import whole
from whole import command

from dafw import check
from dafw.conformance import CHECKS, OTHERS
from dafw.registry import METHODS

surroundings = whole.surroundings  # a fixture

GOOD = '''
"""Source-only training by another name."""

import torch.nn.functional as F

from dafw import Method, Setting, register_method


@register_method
class Mine(Method):
    """Cross-entropy of the source, times a number (Nobody 2020, Journal of Nothing)."""

    setting = Setting.SOURCE_ONLY

    def __init__(self, model, *, factor: float = 2.0):
        super().__init__(model)
        self.factor = factor

    def losses(self, batch, progress):
        logits = self.model(batch.source.inputs).logits
        return {"classification": self.factor * F.cross_entropy(logits, batch.source.labels)}
'''


def written(folder: Path, name: str, text: str = GOOD, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = folder / f"{name}.py"
    file.write_text(text)
    return str(file)


def test_the_command_passes_a_good_file(tmp_path: Path) -> None:
    told = command("dafw.check", written(tmp_path, "mine"), cwd=tmp_path)
    assert told.code == 0, told
    assert told.err == ""
    assert [line.split() for line in told.out.splitlines()] == [
        ["mine"],
        *[[name, "ok"] for name in CHECKS],
        *[[name, f"({made.modality})", "ok"] for name, made in OTHERS],
        ["all", "passed"],
    ]


def test_the_command_names_what_a_bad_file_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [("self.factor * F", "F"), (" (Nobody 2020, Journal of Nothing)", "")]
    assert check.main([written(tmp_path, "careless", GOOD, *changes)]) == 1
    out, err = capsys.readouterr()
    failed = [line.split()[0] for line in out.splitlines() if "FAILED" in line]
    assert failed == ["check_hyperparameters", "check_documented"]
    assert "the hyper-parameter factor changes nothing" in out
    assert out.splitlines()[-1] == "2 failed"
    assert err == ""


def test_a_method_that_raises_has_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's code may fail in any way: that too is a check's answer, not the end of the checks."""
    wrong = ("batch.source.labels)}", "batch.target.labels)}")  # there is no target in this setting
    assert check.main([written(tmp_path, "raising", GOOD, wrong)]) == 1
    out, err = capsys.readouterr()
    failed = [line for line in out.splitlines() if "FAILED" in line]
    assert "AttributeError" in failed[0]
    assert "check_documented ok" in out
    assert err == ""


def test_an_exemption_is_shown_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = "    setting = Setting.SOURCE_ONLY"
    exempt = f'{setting}\n    exempt = {{"check_hyperparameters:factor": "it is a decoration"}}'
    assert check.main([written(tmp_path, "excused", GOOD, ("self.factor * F", "F"), (setting, exempt))]) == 0
    out = capsys.readouterr().out
    assert "excused check_hyperparameters:factor: it is a decoration" in out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("nowhere.py", "no file nowhere.py"),
        ("dan", "did you mean dann"),
        ("empty.py", "decorate its class with @register_method"),
        ("broken.py", "no_such_module"),
        ("untyped.py", "`factor: float = 1.0`"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(
    word: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "empty", "x = 1\n")
    written(tmp_path, "broken", "import no_such_module\n")
    written(tmp_path, "untyped", GOOD, ("factor: float = 2.0", "factor=2.0"))
    assert check.main([word]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert hint in err[0]


def test_a_registered_name_is_checked_like_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    ran = []
    monkeypatch.setattr("dafw.conformance.CHECKS", {"check_terms": lambda method_class: ran.append(method_class)})
    monkeypatch.setattr("dafw.conformance.OTHERS", [])
    assert check.main(["source_only", "mcc"]) == 0
    assert ran == [METHODS.get("source_only"), METHODS.get("mcc")]
    assert capsys.readouterr().out.splitlines()[0] == "source_only"
