"""axe-core finds nothing on any page, in either theme; the keyboard reaches everything."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.report.html import render
from perfkit.report.writeup import lab04, lab09, page
from tests.report import test_writeup as writeup
from tests.report.opened import Opened
from tests.report.sample import SAMPLES, hostile_gpu

pytestmark = pytest.mark.needs_chromium


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, tmp_path: Path, sample: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    file = tmp_path / "report.html"
    file.write_text(render(SAMPLES[sample]()), encoding="utf-8")
    opened = Opened(browser, file, viewport={"width": 1280, "height": 900}, color_scheme=theme)
    opened.see_everything()
    found = axe.Axe().run(opened.page).response
    assert len(found["passes"]) > 20  # it did run
    told = [
        (v["impact"], v["id"], [node["html"][:120] for node in v["nodes"][:3]])
        for v in found["violations"]
    ]
    assert told == []
    opened.page.close()


@pytest.mark.parametrize("lab", ["lab04", "lab09"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_lab_s_write_up_reads_prints_and_fits(
    browser: Any, tmp_path: Path, lab: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    document = (
        lab04.build(writeup.FULL, writeup.LINE)
        if lab == "lab04"
        else lab09.build(writeup.FULL, lab09.More(), writeup.LINE)
    )
    file = tmp_path / f"{lab}.html"
    file.write_text(page.render(document), encoding="utf-8")
    opened = Opened(browser, file, viewport={"width": width, "height": 900})
    found = axe.Axe().run(opened.page).response
    assert len(found["passes"]) > 10  # it did run
    assert [(v["impact"], v["id"]) for v in found["violations"]] == []
    assert opened.run("document.documentElement.scrollWidth") == width
    opened.page.emulate_media(media="print")
    assert opened.page.pdf().startswith(b"%PDF")
    opened.assert_quiet()
    opened.page.close()


def test_the_keyboard_reaches_every_control(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(hostile_gpu()), encoding="utf-8")
    opened = Opened(browser, file, viewport={"width": 1280, "height": 900})
    seen = set()
    opened.page.keyboard.press("Tab")
    assert opened.run("document.activeElement.className") == "skip"
    for _ in range(400):
        opened.page.keyboard.press("Tab")
        seen.add(
            opened.run("[document.activeElement].map(e => e.id || e.className || e.tagName)[0]")
        )
    assert {"theme", "view", "filter", "scroll", "term"} <= seen
    opened.page.keyboard.press("Shift+Tab")
    outline = opened.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    opened.page.close()
