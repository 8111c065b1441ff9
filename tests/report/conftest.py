"""A page in a real Chromium, and everything that it complained about or asked for."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()
