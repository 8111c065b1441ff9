"""A page opened in a browser, and everything that it complained about or asked for."""

from pathlib import Path
from typing import Any


class Opened:
    """A page in the browser and everything that it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.file = file

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def assert_quiet(self) -> None:
        assert self.complaints == []
        assert self.requests == [self.file.as_uri()]

    def show(self, selector: str) -> None:
        """Scroll to an element at once; playwright's own way waits until nothing moves."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")

    def see_everything(self) -> None:
        """Scroll from the top to the end, so that every lazy chart is drawn."""
        tall = self.run("document.documentElement.scrollHeight")
        for place in range(0, int(tall) + 4000, 800):
            self.run(f"scrollTo(0, {place})")
            self.page.wait_for_timeout(10)
        charts = self.run("document.querySelectorAll('figure.chart').length")
        self.page.wait_for_function(
            f"document.querySelectorAll('.drawn .live svg.main-svg').length >= {charts}"
        )
