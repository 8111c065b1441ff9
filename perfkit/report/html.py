"""Page to one offline HTML file: no network, a strict content policy, readable without scripts.

Charts are HTML and SVG written here, not plotly: its bundle is 4.8 MB and draws nothing before it
has run, and labels in it pass through a markup of its own; the whole page here is a few hundred
kilobytes, prints, follows the theme by CSS, and foreign names can only ever be text.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import groupby

import msgspec
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from perfkit.analyzers.result import Analysis
from perfkit.report import geometry, palette
from perfkit.report.build import build
from perfkit.report.definitions import definitions, meaning
from perfkit.report.model import Bar, Lane, Page, TimelineChart


def render(analysis: Analysis) -> str:
    """Return the report of `analysis` as one HTML document."""
    return write(build(analysis))


def write(page: Page) -> str:
    """Return `page` as one HTML document."""
    with_timeline = any(isinstance(b, TimelineChart) for s in page.sections for b in s.blocks)
    names = ["page.js", "timeline.js"] if with_timeline else ["page.js"]
    scripts = [_asset(name) for name in names]
    return (
        _environment()
        .get_template("page")
        .render(
            page=page,
            policy=policy(scripts),
            style=Markup(_style()),
            scripts=[Markup(script) for script in scripts],
            definitions=definitions(),
            classes=palette.CLASSES,
            hatched=[key for key, look in palette.CLASSES.items() if look.hatched],
        )
    )


def policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that lets exactly these inline scripts run."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return resources.files("perfkit.report").joinpath(f"assets/{name}").read_text("utf-8")


@cache
def _environment() -> Environment:
    # One template that is our own; autoescape covers every value that it prints.
    environment = Environment(
        loader=DictLoader({"page": _asset("page.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "meaning": meaning,
        "look": palette.look,
        "prose": prose,
        "kind_of": _kind_of,
        "grouped": _grouped,
        "stacked": geometry.stacked,
        "by_rank": _by_rank,
        "paths": geometry.lane_paths,
        "edges": geometry.window_edges,
        "axis": geometry.axis,
        "timeline_data": timeline_data,
    }
    return environment


def _kind_of(block: msgspec.Struct) -> str:
    return str(block.__struct_config__.tag)


def prose(text: str) -> Markup:
    """Return text with what stands between backticks as code; everything escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    code = Markup("<code>{}</code>")
    shown = [code.format(part) if i % 2 else escape(part) for i, part in enumerate(parts)]
    return Markup("").join(shown)


def _grouped(bars: Sequence[Bar]) -> Iterator[list[Bar]]:
    for _, group in groupby(bars, key=lambda bar: bar.group):
        yield list(group)


def _by_rank(lanes: Sequence[Lane]) -> Iterator[tuple[str, list[Lane]]]:
    for rank, group in groupby(lanes, key=lambda lane: lane.rank):
        yield rank, list(group)


def timeline_data(chart: TimelineChart) -> Markup:
    """Return the marks as JSON that is safe inside a script element."""
    document = {
        "span": chart.span_us,
        "keys": chart.keys,
        "labels": chart.labels,
        "lanes": [
            {
                "rank": lane.rank,
                "name": lane.name,
                "window": lane.window or (),
                "marks": [
                    number
                    for m in lane.marks
                    for number in (m.start, m.duration, m.key, m.label, m.events, m.collective)
                ],
            }
            for lane in chart.lanes
        ],
    }
    return _script_json(msgspec.json.encode(document).decode())


_UNSAFE_IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def _script_json(text: str) -> Markup:
    return Markup(text.translate(_UNSAFE_IN_SCRIPT))


def _style() -> str:
    """Return the page's CSS with the palette's colours put before it."""
    return "\n".join([palette_css(), _asset("page.css")])


def palette_css() -> str:
    """Return the palette as CSS variables for both themes, and the classes that use them."""
    looks = palette.FAMILIES | palette.CLASSES
    light = "".join(f"--{k}:{v.light};--{k}-ink:{v.light_text};" for k, v in looks.items())
    dark = "".join(f"--{k}:{v.dark};--{k}-ink:{v.dark_text};" for k, v in looks.items())
    rules = [
        f".k-{k}{{background-color:var(--{k});color:var(--{k}-ink)}}.f-{k}{{fill:var(--{k})}}"
        f".t-{k}{{fill:{f'url(#hatch-{k})' if v.hatched else f'var(--{k})'}}}"
        for k, v in looks.items()
    ]
    return "\n".join(
        [
            f":root{{{light}}}",
            "@media screen and (prefers-color-scheme:dark)"
            f"{{:root:not([data-theme=light]){{{dark}}}}}",
            f"@media screen{{:root[data-theme=dark]{{{dark}}}}}",
            *rules,
        ]
    )
