"""axe-core finds nothing on any page, in either theme; the keyboard reaches everything."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.report.html import render
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
