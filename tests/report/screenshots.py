"""Pictures of reports for the documentation: python -m tests.report.screenshots OUT NAME=PAGE...

Needs playwright and Chromium. The same page gives the same pictures on the same fonts.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.report.opened import Opened

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

RESULTS = {"lab04": "Speedup", "lab09": "Predicted before"}
"""A word in the table that holds what a lab found."""
SECTIONS = ("timeline", "communication", "roofline", "machines")


def main(arguments: list[str]) -> int:
    """Write PNG files of every page into the folder OUT."""
    binary = next((p for n in ("chromium", "chromium-browser") if (p := shutil.which(n))), None)
    if binary is None or len(arguments) < 2:
        print("needs Chromium; usage: OUT NAME=PAGE...", file=sys.stderr)
        return 2
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        for argument in arguments[1:]:
            name, _, page = argument.partition("=")
            file = Path(page).absolute()
            if "<nav" in file.read_text(encoding="utf-8"):
                picture(browser, name, file, out)
            else:
                writeup(browser, name, file, out)
        browser.close()
    return 0


def picture(browser: Any, name: str, page: Path, out: Path) -> None:
    """Write the first screen in both themes and widths, and the sections that hold charts."""
    for size, theme in ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light")):
        opened = Opened(browser, page, viewport=size, color_scheme=theme)
        opened.see_everything()
        opened.run("scrollTo(0, 0)")
        opened.page.wait_for_timeout(200)
        opened.page.screenshot(path=out / f"{name}-{size['width']}-{theme}.png")
        if (size, theme) == (WIDE, "light"):
            opened.run("document.querySelector('nav').style.position = 'static'")
            for section in SECTIONS:
                found = opened.page.locator(f"#{section}")
                if found.count():
                    _section(opened, found, out / f"{name}-{section}.png")
        opened.assert_quiet()
        opened.page.close()


def writeup(browser: Any, name: str, page: Path, out: Path) -> None:
    """Write the beginning and the figures of a lab's write-up, which is one long sheet."""
    for size in (WIDE, NARROW):
        opened = Opened(browser, page, viewport=size, color_scheme="light")
        clip = {"x": 0, "y": 0, "width": size["width"], "height": 2 * size["height"]}
        opened.page.screenshot(path=out / f"{name}-{size['width']}.png", full_page=True, clip=clip)
        if size is WIDE:
            results = opened.page.locator("table", has_text=RESULTS[name]).first
            _section(opened, results, out / f"{name}-results.png")
        opened.assert_quiet()
        opened.page.close()


def _section(opened: Opened, found: Any, file: Path) -> None:
    """Write the upper part of a section: at most one and a half screens."""
    found.scroll_into_view_if_needed()
    opened.page.wait_for_timeout(300)
    box = found.bounding_box()
    top = box["y"] + opened.run("scrollY")
    clip = {"x": 24, "y": top, "width": 1232, "height": min(box["height"], 1350)}
    opened.page.screenshot(path=file, full_page=True, clip=clip)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
