"""The page without a browser: what it says, that it is whole in itself, and that no name of a user acts in it."""

import base64
import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from boards import HOSTILE, METHODS, SEEDS, comparison, draw_pictures, made_board, made_group, made_row, small_board
from PIL import Image
from plotly.offline import get_plotlyjs
from reported import made_runs

from dafw.report.gather import collect
from dafw.report.leaderboard import Across, Board, Estimate, Group, Sweep
from dafw.report.page import PICTURES, charts, render, thumbnails, views, wording


class Read(HTMLParser):
    """Elements with their attributes, texts by the kind of element they stand in, and whether tags are balanced."""

    EMPTY = {"meta", "input", "img", "path", "circle"}

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return small_board(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(board: Board) -> str:
    return render(board)


@pytest.fixture(scope="module")
def read(page: str) -> Read:
    return Read(page)


def row_of(page: str, group: Group, method: str) -> str:
    """The text of the row that the leaderboard has for a method, without tags."""
    section = page.split(f'id="group-{group.key}"')[1].split("</table>")[0]
    (row,) = (r for r in section.split("<tr ")[1:] if f'data-method="{method}"' in r and "method.weight" not in r)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row))


# ---- one file, no network


def test_nothing_is_fetched(page: str, read: Read) -> None:
    for tag, attributes in read.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes or (
            tag == "img" and str(attributes["src"]).startswith("data:image/webp;base64,")
        )
        assert str(attributes.get("href", "#")).startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    style = page.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style


def test_the_policy_lets_only_the_two_scripts_of_the_page_run(page: str, read: Read) -> None:
    (policy,) = (str(a["content"]) for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    allowed = re.search(r"script-src ([^;]*);", policy)
    assert allowed is not None
    own = page.split("<script>")[1].split("</script>")[0]

    def digest(script: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

    assert allowed[1].split() == [digest(own), digest(get_plotlyjs())]


def test_the_charting_library_is_in_it_once_and_whole(page: str) -> None:
    packed = page.split('id="plotly">')[1].split("</script>")[0]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert page.count(packed[:200]) == 1


def test_every_link_has_its_place_and_every_id_is_one(read: Read, board: Board) -> None:
    ids = Counter(a["id"] for _, a in read.elements if "id" in a)
    assert set(ids.values()) == {1}
    links = {str(a["href"])[1:] for tag, a in read.elements if tag == "a"}
    assert links <= set(ids)
    assert set(views.addresses(board).values()) <= links & set(ids)  # each run is linked from its row


def test_headings_go_down_by_one(read: Read) -> None:
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


# ---- what it says


def test_a_row_says_everything(page: str, board: Board) -> None:
    row = row_of(page, board.groups[0], "dann")
    for told in (
        "88.8 ± 1.2 [86.8, 90.8]",
        "+16.1 [+14.1, +18.1]",
        "better p = 0.031, sign-flip, 6 seeds",
        "1.00",
        "+11.8 [+9.8, +13.8] over adabn",
        "0.62 [0.52, 0.72]",
        "≥ 68.8",
        "89.8",
        "9.5",
    ):
        assert told in row
    assert "–" in row_of(page, board.groups[0], "source_only")


def test_negative_transfer_is_said_and_red(page: str, board: Board) -> None:
    row = row_of(page, board.groups[0], "mcd")
    assert "−7.2 [−9.2, −5.2]" in row
    assert "negative transfer p = 0.031" in row
    assert '<td class="verdict worse" data-value="0.03125">negative transfer' in page
    assert re.search(r"\.worse[^{]*\{ color: var\(--worse\)", page)


def test_reasons_oracle_and_stale_rows_are_marked(page: str, board: Board) -> None:
    section = page.split(f'id="group-{board.groups[1].key}"')[1].split("</section>")[0]
    assert "the upper reference is not clearly above the lower one" in section
    assert 'class="badge oracle">oracle</span>' in section
    assert 'class="badge stale"' in section
    assert "Stale, dafw&#39;s source has changed: " in section
    assert "Not to be compared with other rows of this pair: image size 28 (others 16)." in page
    assert page.count('class="badge">development pair') == 2  # of synth → digits, in two sections
    assert ">failed</th>" in page
    assert ">unfinished</th>" in page


def test_only_the_adjusted_p_decides_a_claim(page: str) -> None:
    claim = dataclasses.replace(comparison(0.13, "mcc over adabn"), adjusted_p=0.094)
    assert claim.verdict == "better"
    assert wording.claimed(claim) == "undecided"
    assert wording.claimed(dataclasses.replace(claim, adjusted_p=0.049)) == "better"
    table = re.sub(r"<[^>]+>", " ", page.split("mcc over adabn</th>")[1].split("</tr>")[0])
    assert table.split()[-8:] == ["0.031", "0.094", "undecided", "sign-flip,", "6", "seeds", "1.00", "6"]


def test_a_run_of_today_says_how_to_repeat_it(page: str, board: Board) -> None:
    run = board.runs[0]
    section = page.split(f'id="{views.addresses(board)[run["folder"]]}"')[1]
    section = section.split('<details class="run"')[0]
    assert "<code>python -m dafw.run method=source_only src=synth tgt=digits seed=0</code>" in section
    for line in ("method.weight=1.0", "train.optimizer=sgd", "wandb.tags=[]"):
        assert line in section
    assert section.count("<img ") == 3
    assert "calibration, before</dt><dd>0.11" in section
    assert "Dis² promises at least</dt><dd>61.0" in section


def test_an_old_run_says_less_and_fails_nothing(tmp_path: Path) -> None:
    board = made_board(tmp_path, [made_group(tmp_path, "a", "b", ["dann"])])
    keys = ("folder", "method", "setting", "src", "tgt", "seed", "selection", "status", "target")
    old = [{key: run[key] for key in keys} for run in board.runs]
    old[0]["target"] = None
    shown = render(dataclasses.replace(board, runs=tuple(old)))
    assert "The command that repeats it: –" in shown
    assert "Config: –" in shown
    assert "None" not in re.sub(r"<script.*?</script>", "", shown, flags=re.S)


def test_a_folder_without_runs_makes_a_page_that_says_so(tmp_path: Path) -> None:
    shown = render(Board(tmp_path, (), Across((), {}, ()), (), ()))
    Read(shown)
    assert "No finished run was found in" in shown


def test_collected_runs_are_shown(tmp_path: Path) -> None:
    runs = made_runs(tmp_path, pairs=[("synth", "digits")], methods=["source_only", "dann", "mcd"], seeds=range(3))
    board = collect(runs)
    shown = render(board)
    read = Read(shown)
    assert sum(a.get("class") == "run" for _, a in read.elements) == len(board.runs)
    assert "<script>alert(1)" not in shown
    assert "<img src=x" not in shown
    assert not [a for _, a in read.elements if "onerror" in a]
    for sweep in board.sweeps:
        assert f"Target accuracy of {sweep.method} against {sweep.keys[0]}" in shown
    assert len(list((tmp_path / PICTURES).iterdir())) == len({run["folder"] for run in board.runs if run["pictures"]})


# ---- hostile names


def test_names_and_values_are_text(page: str, read: Read) -> None:
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&lt;b&gt;bold&lt;/b&gt;" in page
    assert all(tag != "b" or "bold" not in a for tag, a in read.elements)
    figures = [json.loads(script) for script in read.scripts if script.startswith("{")]
    named = [trace["name"] for figure in figures for trace in figure["data"] if "onerror" in trace.get("name", "")]
    assert named
    assert all(name.startswith("&lt;/script&gt;&lt;img src=x") for name in named)  # plotly reads HTML in names


# ---- numbers and words


def test_numbers_have_signs_and_what_does_not_exist_a_dash() -> None:
    assert [wording.percent(v) for v in (0.8876, 1.0, None, float("nan"))] == ["88.8", "100.0", "–", "–"]
    assert [wording.points(v) for v in (0.0312, -0.0312, 0.0)] == ["+3.1", "−3.1", "+0.0"]
    assert [wording.seconds(v) for v in (0.04, 99.94, 1234.5, None)] == ["0.0", "99.9", "1,234", "–"]
    assert wording.points_interval(Estimate(0.0, -0.01, 0.02)) == "[−1.0, +2.0]"
    assert wording.percent_interval(Estimate(0.5, None, None)) == ""
    assert wording.decimal(-0.284) == "−0.28"
    assert wording.value({"a": [True, None, 0.123456], "b": ""}) == "a: yes, –, 0.1235; b: –"


def test_a_config_reads_as_it_is_typed() -> None:
    config = {"method": {"name": "dann", "weight": 0.5}, "train": {"steps": 5}, "plugins": [], "data": None}
    assert wording.typed(config) == [
        "method.name=dann",
        "method.weight=0.5",
        "train.steps=5",
        "plugins=[]",
        "data=null",
    ]


def test_nested_records_become_facts_and_tables() -> None:
    nested = {"a": {"b": 1, "c": [0.5, 0.25]}, "long": [[0] * 5] * 5, "t": {"rows": [{"x": 1}, {"y": 2}]}, "none": None}
    assert views.flat(nested) == {"a, b": "1", "a, c": "0.5, 0.25", "long": "25 values, in result.json"}
    assert views.tables_in(nested) == {"t, rows": [{"x": 1}, {"y": 2}]}


def test_dots_stand_on_a_scale_that_rows_share(tmp_path: Path) -> None:
    group = made_group(tmp_path, "a", "b", list(METHODS))
    ends = [e for row in group.rows for e in (*row.accuracies, row.accuracy.low, row.accuracy.high)]
    least, most = min(ends), 1.0  # joint_supervised's interval ends above 1, where no accuracy is
    assert max(ends) > 1
    for row, strip in zip(group.rows, views.strips(group), strict=True):
        assert [seed for _, seed, _ in strip.dots] == list(SEEDS)
        for place, seed, accuracy in strip.dots:
            assert accuracy == row.accuracies[seed]
            assert place == pytest.approx(6 + 100 * (accuracy - least) / (most - least), abs=0.06)
        assert strip.high is not None
        assert strip.high <= 106
    alone = dataclasses.replace(group, rows=(made_row(tmp_path, "a-b", "dann", seeds=(0,)),))
    (strip,) = views.strips(alone)
    assert (strip.low, strip.high) == (None, None)


def test_addresses_stay_apart_where_folders_read_alike(tmp_path: Path) -> None:
    folders = [tmp_path / "a-b" / "x", tmp_path / "a_b" / "x", Path("/elsewhere/x")]
    board = Board(tmp_path, (), Across((), {}, ()), (), tuple({"folder": str(f)} for f in folders))
    assert list(views.addresses(board).values()) == ["run-a-b-x", "run-a-b-x-2", "run-elsewhere-x"]


def test_validators_stand_by_development_pairs_first(board: Board) -> None:
    names = [name for name, _, _ in views.validators_by_pairs(board)]
    assert names == [score.name for score in board.development]
    for _, development, report in views.validators_by_pairs(board):
        assert development is not None
        assert report is not None
        assert development.name == report.name
    only = dataclasses.replace(board, development=())
    assert [line[1] for line in views.validators_by_pairs(only)] == [None] * len(board.report)


# ---- figures


def test_the_cost_figure_has_means_and_their_intervals(tmp_path: Path) -> None:
    group = made_group(tmp_path, "a", "b", list(METHODS))
    figure = charts.accuracy_against_seconds(group, charts.colours_of(list(METHODS)))
    for row, trace in zip(group.rows, figure.data, strict=True):
        assert trace.x == (row.total_seconds,)
        assert trace.y == pytest.approx([100 * row.accuracy.mean])
        assert trace.error_y.array == pytest.approx([2.0])
        assert trace.error_y.arrayminus == pytest.approx([2.0])
    assert figure.layout.xaxis.type == "log"  # 0.1 to 14.2 seconds
    near = dataclasses.replace(group, rows=group.rows[2:5])
    assert charts.accuracy_against_seconds(near, charts.colours_of(list(METHODS))).layout.xaxis.type == "linear"


def test_the_heat_map_has_the_row_of_each_method_in_each_group(board: Board) -> None:
    for gain in (False, True):
        methods, groups, cells = views.matrix(board, gain)
        assert groups == list(board.groups)
        for place, method in enumerate(methods):
            for column, group in enumerate(groups):
                rows = [r for r in group.rows if r.method == method and not r.hyperparameters]
                if not rows or (gain and rows[0].versus_lower is None):
                    assert cells[place][column] is None
                elif gain:
                    assert rows[0].versus_lower is not None
                    assert cells[place][column] == rows[0].versus_lower.difference.mean
                else:
                    assert cells[place][column] == rows[0].accuracy.mean
        (drawn,) = charts.heat_map(methods, groups, cells, gain).data
        assert drawn.z[0][0] == (None if cells[0][0] is None else pytest.approx(100 * cells[0][0]))
    assert (drawn.zmin, drawn.zmid) == (-drawn.zmax, 0)


def test_a_sweep_is_logarithmic_only_over_decades() -> None:
    def axis(values: list[object]) -> str:
        points = tuple({"method": "dann", "accuracy": 0.5, "seed": 0, "method.w": value} for value in values)
        sweep = Sweep("key", "dann", ("method.w",), points, {})
        return str(charts.accuracy_against_key(sweep, "method.w", charts.colours_of(["dann"])).layout.xaxis.type)

    assert axis([0.1, 0.3, 1.0]) == "log"
    assert axis([0.5, 1.0, 2.0]) == "linear"
    assert axis([0.0, 0.1, 10.0]) == "linear"  # zero has no logarithm
    assert axis(["cosine", "constant"]) == "category"
    assert axis([True, False]) == "category"
    assert axis([None, 1.0]) == "linear"


def test_the_line_of_a_sweep_goes_through_the_means() -> None:
    points = tuple(
        {"method": "dann", "seed": seed, "accuracy": accuracy, "w": w}
        for w, seed, accuracy in ((3.0, 0, 0.6), (1.0, 0, 0.4), (1.0, 1, 0.5), (3.0, 1, 0.8))
    )
    line, runs = charts.accuracy_against_key(
        Sweep("k", "dann", ("w",), points, {}), "w", charts.colours_of(["dann"])
    ).data
    assert line.x == (1.0, 3.0)
    assert line.y == pytest.approx((45.0, 70.0))
    assert sorted(zip(runs.x, runs.y, strict=True)) == [(1.0, 40.0), (1.0, 50.0), (3.0, 60.0), (3.0, 80.0)]


# ---- pictures


def test_pictures_are_small_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path, ["tsne"], (1800, 600))
    path, cache = tmp_path / "plots" / "tsne.png", tmp_path / PICTURES
    uri = thumbnails.data_uris([path], cache)[path]
    assert uri is not None
    content = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("WEBP", (900, 300))
    assert [kept.read_bytes() for kept in cache.iterdir()] == [content]
    with monkeypatch.context() as patched:
        patched.delattr(thumbnails, "_encoded")  # nothing is drawn the second time
        assert thumbnails.data_uris([path], cache)[path] == uri
    draw_pictures(tmp_path, ["tsne"], (400, 300))
    os.utime(path, ns=(0, 0))
    assert thumbnails.data_uris([path], cache)[path] != uri
    assert len(list(cache.iterdir())) == 2


def test_what_shines_through_is_white_paper(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(path)
    content = thumbnails.webp(path, None)
    assert content is not None
    with Image.open(io.BytesIO(content)) as image:
        assert image.convert("RGB").getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_broken_picture_is_told(content: bytes | None, tmp_path: Path) -> None:
    board = made_board(tmp_path, [made_group(tmp_path, "a", "b", ["dann"])])
    folder = Path(board.runs[0]["folder"])
    draw_pictures(folder, ["tsne"])
    path = folder / "plots" / "tsne.png"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    assert "plots/tsne.png holds no picture." in render(board)
