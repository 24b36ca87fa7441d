"""The page in a real browser: filter, sort, dark and light, charts, keyboard, paper, and names that try to act."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import HOSTILE, small_board

from dafw.report.leaderboard import Board
from dafw.report.page import render, views

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [
    *(["the package playwright"] if importlib.util.find_spec("playwright") is None else []),
    *(["Chromium"] if CHROMIUM is None else []),
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"the page is looked at with {' and '.join(MISSING)}, not found here"),
]
WIDE = {"width": 1440, "height": 900}
FIRST = "#leaderboard table"  # of the first group


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return small_board(tmp_path_factory.mktemp("runs"), seeds=(0, 1))


@pytest.fixture(scope="module")
def address(board: Board) -> str:
    file = board.out / "report.html"
    file.write_text(render(board), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[Any]:
    """A context whose pages may say nothing to the console, ask for nothing and open no dialog."""
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    context.set_default_timeout(10_000)
    said: list[str] = []

    def watch(page: Any) -> None:
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(f"request: {request.url}") if fetched(request.url) else None)

    def fetched(url: str) -> bool:
        return not url.startswith(("data:", "blob:")) and url.split("#")[0] != address

    context.on("page", watch)
    yield context
    context.close()
    assert said == []


@pytest.fixture
def page(watched: Any, address: str) -> Any:
    opened = watched.new_page()
    opened.goto(address)
    return opened


def shown(page: Any, selector: str) -> list[str]:
    """The methods of the rows that can be seen."""
    return page.locator(f"{selector}:visible").evaluate_all("rows => rows.map(row => row.dataset.method)")


def column(page: Any, heading: str, table: str = FIRST) -> list[str]:
    """What the cells of a column sort by."""
    return page.locator(table).first.evaluate(
        """(table, heading) => {
          const buttons = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
          return [...table.tBodies[0].rows].map(row => row.cells[buttons.indexOf(heading)].dataset.value);
        }""",
        heading,
    )


def until(page: Any, holds: str, *given: str) -> None:
    """Wait until a function of the page returns true; playwright's own waiting needs the eval that the page forbids."""
    for _ in range(200):
        if page.evaluate(holds, *given):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {holds}")


# ---- filter


def test_filters_hide_rows_and_runs(page: Any, board: Board) -> None:
    everything = page.locator("details.run:visible").count()
    assert everything == len(board.runs)
    page.get_by_role("combobox", name="Method").select_option("dann")
    assert set(shown(page, "#leaderboard tbody tr[data-method]")) == {"dann"}
    assert set(shown(page, "details.run")) == {"dann"}
    page.get_by_role("combobox", name="Pair").select_option("usps → mnist")
    assert page.locator("#leaderboard section.group:visible").count() == 2
    assert page.locator("#shown").text_content() == f"4 of {everything} runs shown"
    page.get_by_role("combobox", name="Setting").select_option("source_free")
    assert shown(page, "#leaderboard tbody tr[data-method]") == []
    page.get_by_role("button", name="Clear").click()
    until(page, "() => !document.querySelector('details.run[hidden]')")
    assert page.locator("details.run:visible").count() == everything


def test_all_words_must_be_found(page: Any) -> None:
    page.get_by_label("Find").fill("SYNTH shot seed1-")
    assert page.locator("details.run:visible").count() == 1
    page.get_by_label("Find").fill("<img")
    assert set(shown(page, "details.run")) == {HOSTILE}
    assert page.locator("#others tr[data-text]:visible").count() > 0  # a failure's reason has the word


def test_stale_rows_can_be_left_out(page: Any) -> None:
    assert HOSTILE in shown(page, "#leaderboard tbody tr[data-method]")
    page.get_by_label("without stale").check()
    assert HOSTILE not in shown(page, "#leaderboard tbody tr[data-method]")
    assert HOSTILE not in shown(page, "details.run")
    assert page.locator("#others [data-stale]:visible").count() == 0


# ---- sort


def test_a_click_sorts_by_number_and_another_turns_it(page: Any) -> None:
    heading = page.locator(FIRST).first.get_by_role("columnheader", name="total s")
    for order in ("ascending", "descending"):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == order
        values = [float(value) for value in column(page, "total s")]
        assert values == sorted(values, reverse=order == "descending")
        assert len({len(str(int(value))) for value in values}) > 1  # as text 14.2 would stand before 3.7
    other = page.locator(FIRST).first.get_by_role("columnheader", name="method")
    other.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert column(page, "method") == sorted(column(page, "method"))


def test_the_keyboard_sorts_and_what_is_missing_stays_last(page: Any) -> None:
    button = page.locator(FIRST).first.get_by_role("button", name="over lower")
    button.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, sign in (("Enter", -1), ("Space", 1)):
        page.keyboard.press(key)
        *values, last = column(page, "over lower")
        assert last == ""  # source_only has no lower reference
        numbers = [float(value) for value in values]
        assert numbers == sorted(numbers, key=lambda value: sign * value)


def test_each_group_is_sorted_alone(page: Any) -> None:
    second = "#leaderboard section.group:nth-of-type(2) table"
    before = column(page, "accuracy", second)
    page.locator(FIRST).first.get_by_role("button", name="accuracy").click()
    assert column(page, "accuracy", second) == before


# ---- keyboard


def test_the_first_tab_skips_to_the_results(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.locator(".skip").bounding_box()["width"] > 50  # seen once it has the focus
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_every_control_is_reached_by_tab(page: Any) -> None:
    wanted = page.locator("#filter input, #filter select, #filter button, nav a, nav button").count()
    reached = []
    for _ in range(wanted + 1):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('#filter, nav') !== null"))
    assert reached == [False] + [True] * wanted


# ---- dark and light


def background(page: Any) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_dark_is_remembered_and_charts_follow(page: Any) -> None:
    ink = "() => document.querySelector('.chart .xtick text')?.style.fill"
    until(page, ink)
    light = background(page), page.evaluate(ink)
    page.get_by_role("button", name="Dark").click()
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    until(page, "before => document.querySelector('.chart .xtick text').style.fill !== before", light[1])
    dark = background(page)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark == "rgb(21, 22, 23)"
    page.reload()
    assert background(page) == dark
    page.get_by_role("button", name="Dark").click()
    assert background(page) == light[0]


def test_the_system_decides_where_nobody_did(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    assert background(page) == "rgb(21, 22, 23)"
    page.get_by_role("button", name="Dark").click()
    assert background(page) == "rgb(255, 255, 255)"


CONTRASTS = """() => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll('body *:not(script):not(svg *)')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const [first, second] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const name = `${element.tagName}.${element.className}`;
    found[name] = Math.min(found[name] ?? 99, (first + .05) / (second + .05));
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_paper(page: Any, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    page.locator("details.run summary").first.click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert {name: value for name, value in contrasts.items() if value < 4.5} == {}  # WCAG 2.2, 1.4.3, level AA


# ---- charts


def test_charts_are_drawn_when_they_come_into_view(page: Any) -> None:
    first, last = page.locator("#leaderboard .chart").first, page.locator("#sweeps .chart").last
    assert last.locator("svg.main-svg").count() == 0
    first.scroll_into_view_if_needed()
    first.locator("svg.main-svg").first.wait_for()
    assert first.locator(".scatterlayer .trace").count() == 9  # a row each
    last.scroll_into_view_if_needed()
    last.locator("svg.main-svg").first.wait_for()
    page.locator("#across .chart").first.scroll_into_view_if_needed()
    page.locator("#across .heatmaplayer image, #across .heatmaplayer rect").first.wait_for(state="attached")
    assert "source_only" in page.locator("#across .chart").first.text_content()


def test_names_in_charts_are_text(page: Any) -> None:
    chart = page.locator("#leaderboard section.group:nth-of-type(2) .chart")
    chart.scroll_into_view_if_needed()
    chart.locator(".legendtext").first.wait_for()
    legends = chart.locator(".legendtext").all_text_contents()
    assert [text for text in legends if text.startswith("</script><img src=x onerror=alert(1)><b>bold")]
    assert page.locator("img[src='x']").count() == 0


# ---- runs


def test_a_link_opens_its_run(page: Any, board: Board, address: str) -> None:
    run = views.addresses(board)[board.runs[-1]["folder"]]
    page.goto(f"{address}#{run}")
    assert page.locator(f"#{run}").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.parentElement.id") == run
    page.get_by_label("Find").fill("nothing is called so")
    page.locator(f"#{run}").wait_for(state="hidden")
    page.evaluate("location.hash = ''")
    page.evaluate("run => { location.hash = run }", run)
    page.locator(f"#{run} .body").wait_for()  # a link goes before the filter
    assert page.get_by_label("Find").input_value() == ""


def test_pictures_are_seen(page: Any) -> None:
    page.locator("details.run summary").first.click()
    picture = page.locator("details.run[open] img").first
    picture.scroll_into_view_if_needed()
    until(page, "() => document.querySelector('details.run[open] img').naturalWidth === 900")
    assert picture.get_attribute("alt") == "confusion of source_only, seed 0"


def test_the_command_is_copied(watched: Any, page: Any, board: Board) -> None:
    watched.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("details.run summary").first.click()
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == board.runs[0]["command"]


def test_a_closed_clipboard_leaves_the_command_selected(page: Any, board: Board) -> None:
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('closed')) }")
    page.locator("details.run summary").first.click()
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Selected: press Ctrl+C").wait_for()
    assert page.evaluate("getSelection().toString().trim()") == board.runs[0]["command"]


# ---- paper and phone


def test_paper_is_light_whole_and_without_controls(page: Any) -> None:
    page.get_by_role("button", name="Dark").click()
    until(page, "() => Boolean(window.Plotly)")
    page.emulate_media(media="print")
    until(page, "() => [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg.main-svg'))")
    assert background(page) == "rgb(255, 255, 255)"
    assert page.locator("#filter:visible, nav:visible, .copy:visible").count() == 0
    assert page.locator("details[data-print]:not([open])").count() == 0
    assert page.locator(FIRST).first.evaluate("t => getComputedStyle(t.parentElement).overflowX") == "visible"
    page.emulate_media(media="screen")
    until(page, "() => !document.querySelector('details[data-print][open]')")
    assert background(page) == "rgb(21, 22, 23)"


def test_tables_fit_on_paper(page: Any) -> None:
    until(page, "() => Boolean(window.Plotly)")
    page.set_viewport_size({"width": 1032, "height": 700})  # A4 across, less its margins, at 96 pixels an inch
    page.emulate_media(media="print")
    widths = page.locator("table:visible").evaluate_all("tables => tables.map(t => t.getBoundingClientRect().right)")
    assert max(widths) <= 1032
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_phone_scrolls_tables_and_not_the_page(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    until(page, "() => document.documentElement.scrollWidth <= 390")  # charts follow a moment later
    region = page.locator("#leaderboard .scrolled").first
    assert region.evaluate("r => r.scrollWidth > r.clientWidth")
    region.focus()
    page.keyboard.press("ArrowRight")
    until(page, "() => document.querySelector('#leaderboard .scrolled').scrollLeft > 0")
    name = page.locator(FIRST).first.locator("tbody th").first.bounding_box()
    assert name["x"] >= 0  # the name stays in view
    assert Path(page.url).name == "report.html"
