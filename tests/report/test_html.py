"""The HTML file: complete, offline, bounded in size, and foreign names only ever text."""

import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser

import msgspec
import pytest

from perfkit.report import interactive
from perfkit.report.build import build
from perfkit.report.html import LIVE, figure_data, prose, render, timeline_data, write
from perfkit.report.model import Lane, Mark, TimelineChart
from perfkit.report.names import name
from tests.report.parts import HOSTILE
from tests.report.sample import SAMPLES, hostile_gpu, no_trace

MEGABYTE = 1_000_000
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:], self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module", params=SAMPLES)
def page(request: pytest.FixtureRequest) -> str:
    return render(SAMPLES[request.param]())


def test_tags_are_balanced_and_ids_unique(page: str) -> None:
    reader = Reader(page)
    assert reader.open == []
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for tag, a in reader.tags if tag == "a"}
    assert {t[1:] for t in targets if t} <= set(ids)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert tag not in {"img", "link", "iframe", "object", "embed", "base", "form"}, tag
        assert "src" not in attributes and "srcset" not in attributes
        assert not [a for a in attributes if a.startswith("on")], attributes
        assert (attributes.get("href") or "#").startswith("#")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in style and not re.findall(r"url\((?!#)", style)


def test_the_policy_allows_exactly_the_scripts_of_the_page(page: str) -> None:
    reader = Reader(page)
    policy = next(a["content"] for tag, a in reader.tags if "http-equiv" in a)
    assert policy and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy
    code = [text for attributes, text in reader.scripts if "type" not in attributes]
    packed = [text for attributes, text in reader.scripts if attributes.get("id") == "plotly"]
    assert len(packed) == 1
    code.append(gzip.decompress(base64.b64decode(packed[0])).decode())
    assert code[-1] == interactive.bundle()
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in code
    }
    assert hashes == set(re.findall(r"'sha256-[^']+'", policy))


def test_the_verdict_stands_before_any_script(page: str) -> None:
    first_code = re.search(r"<script(?! type=\"application/json\")", page)
    assert first_code is not None
    assert page.index('id="verdict"') < page.index('id="budget"') < first_code.start()


def test_hostile_names_are_text_and_nothing_else() -> None:
    page = render(hostile_gpu())
    reader = Reader(page)
    text = "".join(reader.text)
    for hostile in HOSTILE:
        assert name(hostile) in text
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert "\x00" not in page and "\x1b" not in page and "\u202e" not in page


def test_timeline_data_cannot_leave_its_script_element() -> None:
    marks = tuple(Mark(start=0.0, duration=1.0, key=0, label=i) for i in range(len(HOSTILE)))
    chart = TimelineChart(
        id="t",
        caption="",
        span_us=1.0,
        keys=("compute",),
        labels=(*HOSTILE[:5], "\u2028", "&lt;"),
        lanes=(Lane(rank="rank 0", name="</script>", marks=marks),),
    )
    encoded = str(timeline_data(chart))
    assert not set("<>&\u2028\u2029") & set(encoded)
    assert msgspec.json.decode(encoded)["labels"] == list(chart.labels)


def test_every_section_heading_is_in_the_navigation(page: str) -> None:
    reader = Reader(page)
    sections = {a["id"] for tag, a in reader.tags if tag == "section"}
    links = {str(a["href"])[1:] for tag, a in reader.tags if tag == "a" and "href" in a}
    assert sections <= links


def test_pages_stay_small() -> None:
    assert len(render(hostile_gpu(8)).encode()) < 3 * MEGABYTE
    assert len(render(hostile_gpu(64)).encode()) < 6 * MEGABYTE
    assert len(render(hostile_gpu(8), light=True).encode()) < 0.6 * MEGABYTE
    assert len(render(hostile_gpu(64), light=True).encode()) < 3 * MEGABYTE


def test_a_light_page_has_the_charts_and_no_plotly() -> None:
    light, full = render(hostile_gpu(), light=True), render(hostile_gpu())
    assert "Plotly" not in light and 'id="plotly"' not in light
    for chart in ('id="roofline-chart"', 'id="busbw-chart"', 'id="bounds"', 'id="memory-chart"'):
        assert chart in light and chart in full
    assert Reader(light).open == []


def test_a_page_without_charts_carries_no_plotly() -> None:
    page = msgspec.structs.replace(build(no_trace()), sections=build(no_trace()).sections[:2])
    assert 'id="plotly"' not in write(page)


def test_chart_data_cannot_leave_its_script_element() -> None:
    for block in (b for s in build(hostile_gpu()).sections for b in s.blocks):
        if isinstance(block, LIVE):
            encoded = str(figure_data(block))
            assert not set("<>&\u2028\u2029") & set(encoded)
            assert msgspec.json.decode(encoded)["traces"]


def test_the_page_is_the_same_each_time() -> None:
    assert render(hostile_gpu()) == render(hostile_gpu())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `a < b` now", "run <code>a &lt; b</code> now"),
        ("<b>`", "&lt;b&gt;`"),
        ("`</code><img>`", "<code>&lt;/code&gt;&lt;img&gt;</code>"),
    ],
)
def test_backticks_make_code_and_nothing_else(text: str, shown: str) -> None:
    assert str(prose(text)) == shown
