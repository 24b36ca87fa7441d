"""`python -m dafw.list methods|datasets|backbones|validators`, and what `python -m dafw.run --help` names."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import test_selection
import whole
from whole import Told, command

from dafw.config import dataset_names
from dafw.list import about, main
from dafw.registry import BACKBONES, DATASETS, METHODS, VALIDATORS, options

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, list[str]]]:
    """The table as first cell → cells, the lines of a cell joined by blanks."""

    def listed(*words: str) -> dict[str, list[str]]:
        assert main(list(words)) == 0
        table: dict[str, list[str]] = {}
        name = ""
        for line in capsys.readouterr().out.splitlines():
            cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
            if not cells:
                name = ""  # a rule between rows
            elif name:
                table[name] = [f"{old} {new}".strip() for old, new in zip(table[name], cells, strict=True)]
            else:
                name = cells[0]
                table[name] = cells
        return table

    return listed


def test_every_method_is_listed_with_setting_paper_year_and_hyper_parameters(
    rows: Callable[..., dict[str, list[str]]],
) -> None:
    table = {name.split(",")[0]: cells for name, cells in rows("methods").items()}
    assert set(METHODS.names()) <= set(table)
    for name in METHODS.names():
        method = METHODS.get(name)
        _, setting, paper, hyper_parameters, summary = table[name]
        assert setting.startswith(method.setting.value)
        assert (f"from {method.start}" in setting) is (method.start != "init")
        assert re.search(r"\b(19|20)\d\d\b", paper)
        assert len(summary.split()) >= 3
        for option in options(method):
            default = "" if option.default is inspect.Parameter.empty else f" = {option.default}"
            tuned = option.range
            ends = f", tuned from {tuned.low:g} to {tuned.high:g}" if tuned else ""
            scale = " (log)" if tuned and tuned.log else ""
            assert f"{option.name}: {option.type.__name__}{default}{ends}{scale}" in hyper_parameters


@pytest.mark.parametrize(
    ("method", "paper"),
    [("dann", "Ganin et al. 2016"), ("simclr", "Chen et al. 2020"), ("l2sp", "2018"), ("mcc", "2020")],
)
def test_papers_are_the_right_ones(method: str, paper: str, rows: Callable[..., dict[str, list[str]]]) -> None:
    assert paper in rows("methods")[method][2]


def test_every_data_set_is_listed_and_a_family_with_its_domains(rows: Callable[..., dict[str, list[str]]]) -> None:
    table = rows("datasets")
    listed = {name for cells in table.values() for name in cells[0].split()}
    assert listed >= set(dataset_names())
    assert {"office31/amazon", "office31/dslr", "office31/webcam", "pacs/sketch", "synth", "npz"} <= listed
    by_name = {cells[0].split()[0].split("/")[0]: cells for cells in table.values()}
    for name in DATASETS.names():
        for option in options(DATASETS.get(name)):
            assert option.name in by_name[name][2]
        assert by_name[name][3]
    assert "path: Path (needed)" in by_name["npz"][2]


def test_every_backbone_is_listed_and_timm_is_named(rows: Callable[..., dict[str, list[str]]]) -> None:
    table = rows("backbones")
    assert set(BACKBONES.names()) <= set(table)
    assert "width: int = 16" in table["convnet"][2]
    assert any("timm" in cell for cell in table["any timm name"])


def test_every_validator_is_listed_with_its_direction_what_it_sees_and_when_it_is_run(
    rows: Callable[..., dict[str, list[str]]],
) -> None:
    table = rows("validators")
    assert table.pop("name")[1:] == ["better is", "sees", "run", "paper", "what it is"]
    assert set(table) == set(VALIDATORS.names())
    for name, (_, better, sees, run, paper, summary) in table.items():
        validator = VALIDATORS.get(name)
        assert better == ("higher" if validator.higher_is_better else "lower")
        assert sees == " and ".join(f"{part} validation" for part in validator.sees)
        assert run == (f"by select={name} only" if validator.only_named else "at every evaluation")
        assert re.search(r"\b(19|20)\d\d\b", paper)
        assert len(summary.split()) >= 3
    assert table["entropy"][1:4] == ["lower", "target validation", "at every evaluation"]
    assert table["reverse"][1:4] == ["higher", "source validation and target validation", "by select=reverse only"]


def test_a_users_validator_is_listed_too(tmp_path: Path, rows: Callable[..., dict[str, list[str]]]) -> None:
    (tmp_path / "mine.py").write_text(test_selection.PLUGIN.format(better=False, only_named=True))
    assert rows("validators", str(tmp_path / "mine.py"))["mine"][1:] == [
        "lower",
        "target validation",
        "by select=mine only",
        "Nobody 2020",
        "The first logit",
    ]


def test_a_plug_in_is_listed_too(tmp_path: Path, rows: Callable[..., dict[str, list[str]]]) -> None:
    text = Path(inspect.getsourcefile(METHODS.get("mcc")) or "").read_text()
    (tmp_path / "mine.py").write_text(text.replace("Range(1.0, 5.0)] = 2.5", "Range(1.0, 5.0)] = 7.5"))
    assert "temperature: float = 7.5, tuned from 1 to 5" in rows("methods", str(tmp_path / "mine.py"))["mine"][3]


def test_bad_words_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", str(tmp_path / "nowhere.py")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: plugins: no file ")


def test_what_a_docstring_says() -> None:
    def named() -> None:
        """Aligns domains (Ganin et al. 2016, JMLR 17(59), eq. 9-10).

        More text (Somebody 1999).
        """

    def nameless() -> None:
        """Counts to three."""

    assert about(named) == ("Aligns domains", "Ganin et al. 2016, JMLR 17:59, eq. 9-10")
    assert about(nameless) == ("Counts to three", "")


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    told = command("dafw.list", "methods", cwd=tmp_path, COLUMNS="60")
    assert (told.code, told.err) == (0, "")
    assert all(name in told.out for name in METHODS.names())
    assert list(tmp_path.iterdir()) == []


def test_help_names_what_can_be_typed(type_here: Callable[..., Told]) -> None:
    told = type_here(["--help", "method=mcc"])
    assert (told.code, told.err) == (0, "")
    for name in (*METHODS.names(), *dataset_names(), *BACKBONES.names()):
        assert name in told.out
    for key in ("method.temperature=2.5", "train.steps=null", "tgt.labels_per_class=null", "seed=0", "wandb.mode=auto"):
        assert f"  {key}\n" in told.out


@pytest.mark.parametrize("words", [[], ["validatorz"]])
def test_a_kind_that_is_none_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "expected one of methods, datasets, backbones, validators" in line
