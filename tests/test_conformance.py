"""Every registered method holds what a method must hold."""

import pytest
import whole

from dafw.conformance import CHECKS, OTHERS, exemptions
from dafw.made import Made
from dafw.registry import METHODS

surroundings = whole.surroundings  # a fixture

BY_CHECK = [(method, name) for method in METHODS.names() for name in CHECKS]


@pytest.mark.parametrize(("method", "name"), BY_CHECK, ids=[f"{m}-{c}" for m, c in BY_CHECK])
def test_every_method_conforms(method: str, name: str) -> None:
    excused = exemptions(METHODS.get(method))
    if name in excused:
        pytest.skip(f"excused: {excused[name]}")
    CHECKS[name](METHODS.get(method))


BY_MODALITY = [(method, name, made) for method in METHODS.names() for name, made in OTHERS]


@pytest.mark.parametrize(
    ("method", "name", "made"), BY_MODALITY, ids=[f"{m}-{c}-{made.modality}" for m, c, made in BY_MODALITY]
)
def test_every_method_conforms_on_text_and_speech(method: str, name: str, made: Made) -> None:
    if name in exemptions(METHODS.get(method)):
        pytest.skip(f"excused: {exemptions(METHODS.get(method))[name]}")
    CHECKS[name](METHODS.get(method), made=made)


EXEMPTIONS = [(m, excused) for m in METHODS.names() for excused in exemptions(METHODS.get(m))]


@pytest.mark.parametrize(("method", "excused"), EXEMPTIONS)
def test_an_exemption_has_a_reason_and_is_needed(method: str, excused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method_class = METHODS.get(method)
    assert len(exemptions(method_class)[excused].split()) > 3
    monkeypatch.setattr(method_class, "exempt", {})
    with pytest.raises(AssertionError):
        CHECKS[excused.split(":")[0]](method_class)


@pytest.mark.parametrize("excused", [{"check_seed": " "}, {"check_sed": "it draws nothing at random"}])
def test_an_exemption_without_reason_or_of_no_check_is_refused(
    excused: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    method_class = METHODS.get("dann")
    monkeypatch.setattr(method_class, "exempt", excused, raising=False)
    with pytest.raises(AssertionError, match="exempt"):
        exemptions(method_class)
