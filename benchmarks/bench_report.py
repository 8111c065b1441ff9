"""How large the HTML report is, and how soon Chromium has it: 8 and 64 ranks of real captures.

The page of 8 ranks is that of a capture with 8 of them; 64 ranks are copies of one of its ranks
(bench_ranks.py). Each page is opened from file:// five times; the median counts. Interactive: the
document's scripts have run (domContentLoadedEventEnd) and a click on the theme button has changed
the page. Needs playwright and Chromium.

    python benchmarks/bench_report.py ../shared/traces/kineto/nanogpt_h100_8ranks
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from perfkit.analyzers.analysis import analyze
from perfkit.report.html import render
from perfkit.trace.model import RankRecord, RankTrace
from perfkit.trace.run import load_rank, open_run

DEFAULT = Path("../shared/traces/kineto/nanogpt_h100_8ranks")
OPENED = 5
LIMITS = {8: (8.0, 2.0), 64: (15.0, 2.0)}
"""Megabytes of the page and seconds until it is interactive, by ranks."""


def page(source: Path, ranks: int, folder: Path) -> Path:
    """Write the report of a capture, or of copies of its first rank."""
    sys.path.insert(0, str(Path(__file__).parent))
    from bench_ranks import Copies, multiply

    run = open_run([source])
    load: Callable[[RankRecord], RankTrace] = partial(load_rank, cache=None)
    if ranks != len(run.ranks):
        run, original = multiply(source, ranks)
        load = Copies(original, folder, ranks)
    analysis = analyze(run, load, jobs=len(os.sched_getaffinity(0)))
    file = folder / f"{ranks}.html"
    file.write_text(render(analysis), encoding="utf-8")
    return file


def opened(browser: Any, file: Path) -> float:
    """Return the seconds from opening a page to its first answer to a click."""
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    began = time.perf_counter()
    view.goto(file.as_uri(), wait_until="domcontentloaded")
    background = "getComputedStyle(document.body).backgroundColor"
    before = view.evaluate(background)
    view.locator("#theme").click()
    view.wait_for_function(f"{background} !== {before!r}")
    took = time.perf_counter() - began
    view.close()
    return took


def main() -> None:
    """Parse the command line, measure, and end with 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?", default=DEFAULT)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    binary = next((p for n in ("chromium", "chromium-browser") if (p := shutil.which(n))), None)
    good = True
    with tempfile.TemporaryDirectory() as name, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        for ranks, (most_mb, most_s) in LIMITS.items():
            file = page(options.source, ranks, Path(name))
            megabytes = file.stat().st_size / 1e6
            took = statistics.median(opened(browser, file) for _ in range(OPENED))
            good &= megabytes <= most_mb and took <= most_s
            print(
                f"{ranks} ranks: {megabytes:.2f} MB (at most {most_mb:.0f}), answers a click "
                f"{took:.2f} s after it is opened (at most {most_s:.0f})"
            )
        browser.close()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
