"""Page to one offline HTML file: no network, a strict content policy, readable without scripts.

Every chart is drawn as HTML and SVG first: it stands before any script runs, without scripts, and
in print. Where scripts run, plotly takes over those in which zoom, hover and legend toggles help
(interactive.py); a light page leaves it out.
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
from perfkit.report import axes, geometry, interactive, palette
from perfkit.report.build import build
from perfkit.report.definitions import definitions, meaning
from perfkit.report.model import (
    Bar,
    BoundChart,
    Lane,
    Page,
    PlotChart,
    Section,
    SeriesChart,
    TimelineChart,
)

LIVE = (PlotChart, BoundChart, SeriesChart)
"""Blocks that plotly takes over."""


def render(
    analysis: Analysis, *, light: bool = False, more: Sequence[Section] = (), called: str = ""
) -> str:
    """Return the report of `analysis` as one HTML document; `light` leaves plotly out.

    more: what other commands found with the same run. called: its name, else its id is shown.
    """
    return write(build(analysis, more, called), light=light)


def write(page: Page, *, light: bool = False) -> str:
    """Return `page` as one HTML document."""
    blocks = [block for section in page.sections for block in section.blocks]
    live = not light and any(isinstance(block, LIVE) for block in blocks)
    names = ["page.js"]
    names += ["timeline.js"] if any(isinstance(b, TimelineChart) for b in blocks) else []
    names += ["charts.js"] if live else []
    scripts = [_asset(name) for name in names]
    return (
        _environment()
        .get_template("page")
        .render(
            page=page,
            policy=policy([*scripts, *([interactive.bundle()] if live else [])]),
            style=Markup(_style()),
            scripts=[Markup(script) for script in scripts],
            live=live,
            packed=Markup(interactive.packed_bundle()) if live else "",
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


@cache
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
        "line_path": geometry.line_path,
        "line_labels": geometry.line_labels,
        "place": axes.place,
        "figure_data": figure_data,
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


def figure_data(chart: interactive.Chart) -> Markup:
    """Return a chart's data as JSON that is safe inside a script element."""
    return _script_json(msgspec.json.encode(interactive.figure(chart)).decode())


_UNSAFE_IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def _script_json(text: str) -> Markup:
    return Markup(text.translate(_UNSAFE_IN_SCRIPT))


def _style() -> str:
    """Return the page's CSS with the palette's colours put before it."""
    return "\n".join([palette_css(), _asset("page.css")])


def palette_css() -> str:
    """Return the palette as CSS variables for both themes, and the classes that use them."""
    looks = palette.FAMILIES | palette.CLASSES | palette.LIMITS
    light = "".join(f"--{k}:{v.light};--{k}-ink:{v.light_text};" for k, v in looks.items())
    dark = "".join(f"--{k}:{v.dark};--{k}-ink:{v.dark_text};" for k, v in looks.items())
    rules = [
        f".k-{k}{{background-color:var(--{k});color:var(--{k}-ink)}}.f-{k}{{fill:var(--{k})}}"
        f".t-{k}{{fill:{f'url(#hatch-{k})' if v.hatched else f'var(--{k})'}}}"
        f".c-{k}{{stroke:var(--{k})}}"
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
