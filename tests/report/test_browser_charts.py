"""Charts in a real Chromium: drawn without scripts, then by plotly, under the strict policy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfkit.report.html import render
from perfkit.report.names import name
from tests.report.opened import Opened
from tests.report.parts import HOSTILE
from tests.report.sample import hostile_gpu, io_bound

pytestmark = pytest.mark.needs_chromium

SCREEN = {"width": 1280, "height": 900}


def written(tmp_path: Path, page: str) -> Path:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


@pytest.fixture
def drawn(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    """A page of hostile ranks, scrolled through."""
    found = Opened(browser, written(tmp_path, render(hostile_gpu())), viewport=SCREEN)
    found.see_everything()
    yield found
    found.assert_quiet()
    found.page.close()


def test_without_scripts_every_chart_is_drawn(browser: Any, tmp_path: Path) -> None:
    file = written(tmp_path, render(hostile_gpu()))
    opened = Opened(browser, file, viewport=SCREEN, java_script_enabled=False)
    for found in (
        "#roofline-chart .area .dot",
        "#roofline-chart .area path.line",
        "#bounds .took",
        "#busbw-chart .area .dot",
        "#memory-chart path.line",
        "#network-chart .label",
    ):
        assert opened.page.locator(found).first.is_visible(), found
    assert opened.page.locator(".live:visible").count() == 0
    opened.assert_quiet()
    opened.page.close()


def test_plotly_is_run_only_when_a_chart_comes_into_view(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, written(tmp_path, render(hostile_gpu())), viewport=SCREEN)
    opened.page.wait_for_timeout(300)
    assert opened.run("typeof window.Plotly") == "undefined"
    opened.show("#roofline-chart")
    opened.page.wait_for_selector("#roofline-chart .live .main-svg")
    assert opened.run("typeof window.Plotly") == "object"
    assert opened.page.locator("#roofline-chart .still").is_hidden()
    opened.assert_quiet()
    opened.page.close()


def test_hovering_an_operator_names_it_as_text(drawn: Opened) -> None:
    # Hostile names pass through plotly's own markup: what shows must be the name, letter by letter.
    drawn.show("#bounds")
    shown = set()
    for bar in range(len(HOSTILE)):
        place = drawn.run(
            f"""(() => {{
            const bars = [...document.querySelectorAll('#bounds .live .trace.bars .point path')];
            const box = bars[{bar}].getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 4];
        }})()"""
        )
        drawn.page.mouse.move(*place)
        drawn.page.wait_for_timeout(80)
        text = "".join(drawn.page.locator("#bounds .live .hoverlayer text").all_text_contents())
        shown |= {hostile for hostile in HOSTILE if name(hostile, 60)[:12] in text}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[6]} <= shown
    # plotly's own classes meet the page's: a rule of ours once painted these words with no colour.
    inks = drawn.run(
        """[...document.querySelectorAll('#bounds .live .hoverlayer :is(text, tspan)')]
            .map(part => getComputedStyle(part).fill)"""
    )
    assert len(inks) > 1 and len(set(inks)) == 1 and "rgb" in inks[0]
    assert drawn.run("document.querySelectorAll('img, .live a').length") == 0


def test_a_chart_zooms_and_labels_what_is_in_view(drawn: Opened) -> None:
    chart = drawn.page.locator("#roofline-chart")
    drawn.show("#roofline-chart")
    labels = "#roofline-chart .live .ytick text"
    before = drawn.page.locator(labels).all_text_contents()
    plot = chart.locator(".live .nsewdrag").bounding_box()
    middle = (plot["x"] + plot["width"] * 0.4, plot["y"] + plot["height"] * 0.3)
    drawn.page.mouse.move(*middle)
    drawn.page.mouse.down()
    drawn.page.mouse.move(middle[0] + 120, middle[1] + 60, steps=5)
    drawn.page.mouse.up()
    drawn.page.wait_for_timeout(400)
    after = drawn.page.locator(labels).all_text_contents()
    assert after and after != before
    assert all("FLOP/s" in text for text in after)


def test_the_legend_hides_a_kind(drawn: Opened) -> None:
    marks = drawn.page.locator("#roofline-chart .live .scatterlayer .point")
    before = marks.count()
    drawn.page.locator("#roofline-chart .live .legendtoggle").first.click()
    drawn.page.wait_for_timeout(800)  # plotly waits for a second click
    assert 0 < marks.count() < before


def test_the_theme_button_recolours_drawn_charts(drawn: Opened) -> None:
    text = "getComputedStyle(document.querySelector('#roofline-chart .live .xtick text')).fill"
    before = drawn.run(text)
    drawn.page.locator("#theme").click()
    drawn.page.wait_for_timeout(300)
    assert drawn.run(text) != before


def test_print_shows_the_drawings(drawn: Opened) -> None:
    drawn.page.emulate_media(media="print")
    assert drawn.page.locator("#roofline-chart .still").is_visible()
    assert drawn.page.locator(".live:visible").count() == 0
    assert drawn.page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [1280, 390])
def test_drawn_charts_never_scroll_sideways(browser: Any, tmp_path: Path, width: int) -> None:
    opened = Opened(
        browser, written(tmp_path, render(io_bound())), viewport={"width": width, "height": 900}
    )
    opened.see_everything()
    assert opened.run("document.documentElement.scrollWidth") == width
    opened.assert_quiet()
    opened.page.close()


def test_a_light_page_stays_as_it_is_drawn(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, written(tmp_path, render(hostile_gpu(), light=True)), viewport=SCREEN)
    opened.show("#roofline-chart")
    opened.page.wait_for_timeout(300)
    assert opened.page.locator(".drawn").count() == 0
    assert opened.page.locator("#roofline-chart .dot").first.is_visible()
    opened.assert_quiet()
    opened.page.close()
