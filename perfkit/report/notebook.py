"""An analysis as a notebook cell shows it: verdict, budget and what to try, in plain HTML.

Colours are written into the elements: a notebook keeps no style sheet of ours, and viewers strip
scripts. Everything foreign is escaped.
"""

import sys
from collections.abc import Iterator

from markupsafe import Markup, escape

from perfkit.analyzers.result import Analysis
from perfkit.report import palette
from perfkit.report.build import build
from perfkit.report.model import Advice, BarChart, Headline

BARS, ADVICE = 8, 3


def register() -> None:
    """Have IPython show analyses with `fragment`; does nothing where no IPython runs."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(Analysis, fragment)


def fragment(analysis: Analysis) -> str:
    """Return the verdict, the budget of up to 8 ranks and up to 3 things to try, as HTML."""
    blocks = [block for section in build(analysis).sections for block in section.blocks]
    parts: list[Markup] = []
    for headline in [b for b in blocks if isinstance(b, Headline)][:1]:
        parts += _headline(headline)
    for chart in [b for b in blocks if isinstance(b, BarChart) and b.id == "ranks"]:
        parts += _budget(chart)
    advice = [b for b in blocks if isinstance(b, Advice)][:ADVICE]
    if advice:
        parts += [Markup("<ol>"), *map(_advice, advice), Markup("</ol>")]
    return str(Markup('<div style="max-width:60em">{}</div>').format(Markup("").join(parts)))


def _headline(shown: Headline) -> Iterator[Markup]:
    yield Markup("<p><b>{}</b></p><p>{}</p>").format(shown.badge, shown.sentence)
    for doubt in shown.doubts:
        yield Markup("<p><i>{}</i></p>").format(doubt)


def _budget(chart: BarChart) -> Iterator[Markup]:
    yield Markup("<p>{}</p>").format(chart.caption)
    for bar in chart.bars[:BARS]:
        segments = Markup("").join(
            Markup(
                '<span title="{}" style="display:inline-block;height:1.2em;width:{}%;'
                'background:{}"></span>'
            ).format(segment.hover, round(segment.width, 2), palette.look(segment.key).light)
            for segment in bar.segments
        )
        yield Markup(
            '<div style="display:flex;gap:.6em"><span style="flex:0 0 6em">{}</span>'
            '<span style="flex:1;white-space:nowrap;font-size:0;line-height:0">{}</span>'
            '<span style="flex:0 0 6em">{}</span></div>'
        ).format(bar.label, segments, bar.total)
    if len(chart.bars) > BARS:
        yield Markup("<p>{} more ranks are in the report.</p>").format(len(chart.bars) - BARS)
    names = Markup(" ").join(
        Markup('<span style="border-left:1em solid {};padding-left:.3em">{}</span>').format(
            palette.look(key).light, palette.label(key)
        )
        for key in chart.legend
    )
    yield Markup("<p>{}</p>").format(names)


def _advice(advice: Advice) -> Markup:
    gain = Markup(" ({})").format(advice.gain) if advice.gain else escape("")
    return Markup("<li><b>{}</b>{}<br>{}</li>").format(advice.title, gain, advice.evidence)
