"""The page in a real Chromium: no console errors, no network, sorting, filtering, zoom, themes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfkit.report.html import render
from tests.report.opened import Opened
from tests.report.parts import HOSTILE
from tests.report.sample import SAMPLES, hostile_gpu, io_bound

pytestmark = pytest.mark.needs_chromium


@pytest.fixture(params=[1280, 390])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_quietly_and_never_scrolls_sideways(
    browser: Any, tmp_path: Path, sample: str, theme: str, width: int
) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(SAMPLES[sample]()), encoding="utf-8")
    opened = Opened(browser, file, viewport={"width": width, "height": 900}, color_scheme=theme)
    assert opened.run("document.documentElement.scrollWidth") == width
    assert opened.run("document.querySelectorAll('img').length") == 0
    opened.assert_quiet()
    opened.page.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    file = tmp_path / "report.html"
    file.write_text(render(hostile_gpu()), encoding="utf-8")
    found = Opened(browser, file, viewport={"width": 1280, "height": 900})
    yield found
    found.assert_quiet()
    found.page.close()


def test_the_verdict_budget_and_next_step_need_no_script(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(io_bound()), encoding="utf-8")
    opened = Opened(
        browser, file, viewport={"width": 1280, "height": 900}, java_script_enabled=False
    )
    for found in (".sentence", "#ranks .seg", "#next .advice", "#timeline .lane path"):
        assert opened.page.locator(found).first.is_visible(), found
    assert opened.page.locator("#ranks").bounding_box()["y"] < 900
    opened.assert_quiet()
    opened.page.close()


def test_tables_sort_by_number_with_unrecorded_last(opened: Opened) -> None:
    column = "[...document.querySelectorAll('#collectives td:nth-child(7)')].map(x => x.innerText)"
    button = opened.page.locator("#collectives th button", has_text="Transfer")
    for _ in range(2):
        button.click()
        assert opened.run(column)[-1] == "not recorded"
    names = "[...document.querySelectorAll('#operators td:nth-child(4)')].map(x => +x.dataset.v)"
    opened.page.locator("#operators th button", has_text="Time per step").click()
    assert opened.run(names) == sorted(opened.run(names), reverse=True)
    opened.page.locator("#operators th button", has_text="Time per step").click()
    assert opened.run(names) == sorted(opened.run(names))


def test_a_number_tells_its_definition_on_hover(opened: Opened) -> None:
    cell = opened.page.locator("#operators td.num").nth(1)
    cell.hover()
    assert "Time of this operator or kernel" in cell.get_attribute("title")


def test_rows_filter_by_text(opened: Opened) -> None:
    opened.page.locator("#operators input").fill("{{7*7}}")
    shown = opened.page.locator("#operators tbody tr:visible")
    assert shown.count() == 1 and HOSTILE[1] in shown.first.inner_text()


def test_the_theme_button_changes_the_background(opened: Opened) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    before = opened.run(background)
    opened.page.locator("#theme").click()
    assert opened.run(background) != before


def test_the_timeline_zooms_by_key_and_names_marks(opened: Opened) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    shown = opened.page.locator(".timeline .range")
    whole = shown.inner_text()
    opened.page.locator(".timeline .view").focus()
    opened.page.keyboard.press("+")
    expect(shown).not_to_have_text(whole)
    opened.page.keyboard.press("0")
    expect(shown).to_have_text(whole)
    lane = opened.page.locator(".timeline .lane svg").nth(1)
    lane.scroll_into_view_if_needed()
    box = lane.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] * 0.32, box["y"] + 8)
    tip = opened.page.locator(".timeline .tip").inner_text()
    assert tip.startswith("rank 0: all_reduce float32 4.0 MiB") and "collective 0" in tip
    assert opened.page.locator(".links path.on").count() == 1


def test_collectives_are_linked_across_ranks(opened: Opened) -> None:
    assert opened.page.locator(".links path").count() == 4


def test_print_shows_everything_on_white(opened: Opened) -> None:
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.locator("nav").is_hidden()
    assert opened.page.pdf().startswith(b"%PDF")


A4 = 688
"""Pixels between the margins of an A4 sheet."""


def test_printed_tables_keep_to_the_sheet_and_numbers_to_their_line(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": A4, "height": 900})
    opened.page.emulate_media(media="print")
    assert opened.run("document.documentElement.scrollWidth") <= A4
    wraps = opened.run("""[...document.querySelectorAll('td.num[data-v]')].map(
        (cell) => getComputedStyle(cell).whiteSpace)""")
    assert wraps and set(wraps) == {"nowrap"}


def test_it_is_interactive_within_two_seconds(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(hostile_gpu(64)), encoding="utf-8")
    opened = Opened(browser, file, viewport={"width": 1280, "height": 900})
    took = opened.run("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert took < 2000
    opened.assert_quiet()
    opened.page.close()
