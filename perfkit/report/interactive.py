"""Charts as data for plotly, and plotly itself: an extra over drawings that stand without it.

The page holds plotly's own bundle once, compressed, as inert text; the page's script unpacks and
runs it when a chart comes into view. Its hash is in the page's policy, so nothing else can run.
"""

import base64
import gzip
from functools import cache
from typing import Any

from perfkit.report import geometry
from perfkit.report.model import Axis, BoundChart, Dots, Line, PlotChart, SeriesChart

Chart = PlotChart | BoundChart | SeriesChart
Figure = dict[str, Any]

STEP_PARTS = ("input_wait", "checkpoint", "rest")
_NAMES = {"input_wait": "waiting for input", "checkpoint": "checkpoint", "rest": "rest of the step"}


@cache
def bundle() -> str:
    """Return plotly.js as the installed plotly package ships it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def packed_bundle() -> str:
    """Return the bundle gzipped and in base64: the same for the same plotly."""
    return base64.b64encode(gzip.compress(bundle().encode(), mtime=0)).decode()


def figure(chart: Chart) -> Figure:
    """Return the traces and axes of `chart`; colours are keys, texts are plain text."""
    if isinstance(chart, SeriesChart):
        return _series(chart)
    return _plot(chart) if isinstance(chart, PlotChart) else _bounds(chart)


def _plot(chart: PlotChart) -> Figure:
    traces = [_line(line) for line in chart.lines] + [_dots(dots) for dots in chart.dots]
    return {
        "traces": traces,
        "labels": [
            {
                "text": label.text,
                "x": label.x,
                "y": label.y,
                "end": label.at_end,
                "above": label.above,
                "row": label.row,
            }
            for label in geometry.line_labels(chart)
        ],
        "x": _axis(chart.x),
        "y": _axis(chart.y),
    }


def _line(line: Line) -> Figure:
    return {
        "kind": "line",
        "name": line.name,
        "key": line.key,
        "dashed": line.dashed,
        "labelled": line.labelled,
        "x": [x for x, _ in line.points],
        "y": [y for _, y in line.points],
    }


def _dots(dots: Dots) -> Figure:
    return {
        "kind": "dots",
        "name": dots.name,
        "key": dots.key,
        "shape": dots.shape,
        "x": [dot.x for dot in dots.dots],
        "y": [dot.y for dot in dots.dots],
        "size": [dot.radius * 2 for dot in dots.dots],
        "text": [dot.hover for dot in dots.dots],
    }


def _axis(axis: Axis) -> Figure:
    return {
        "title": axis.title,
        "log": axis.log,
        "suffix": axis.suffix,
        "low": axis.low,
        "high": axis.high,
        "values": axis.values,
        "labels": [tick.text for tick in axis.ticks] if axis.values else [],
    }


def _series(chart: SeriesChart) -> Figure:
    steps = chart.steps
    traces: list[Figure] = [
        {
            "kind": "bars",
            "name": _NAMES[key],
            "key": key,
            "x": [step.step for step in steps],
            "y": [step.parts_ms[i] for step in steps],
            "text": [step.hover for step in steps],
            "keys": ["slow" if step.slow else "" for step in steps] if key == "rest" else [],
        }
        for i, key in enumerate(STEP_PARTS)
        if any(step.parts_ms[i] for step in steps)
    ]
    if chart.median_ms is not None and len(steps) > 1:
        ends = [steps[0].step, steps[-1].step]
        traces.append(
            {
                "kind": "line",
                "name": "median of unprofiled steps",
                "key": "",
                "dashed": True,
                "labelled": False,
                "x": ends,
                "y": [chart.median_ms] * 2,
            }
        )
    return {
        "traces": traces,
        "labels": [],
        "shaded": chart.profiled,
        "x": {"title": "step", "log": False, "suffix": ""},
        "y": {"title": "step time", "log": False, "suffix": " ms"},
    }


def _bounds(chart: BoundChart) -> Figure:
    scale = chart.longest / 100
    rows = list(reversed(chart.rows))
    places = list(range(len(rows)))
    traces: list[Figure] = [
        {
            "kind": "across",
            "name": "",
            "key": key,
            "x": [row.measured * scale for row in rows if row.key == key],
            "y": [place for place, row in zip(places, rows, strict=True) if row.key == key],
            "text": [row.hover for row in rows if row.key == key],
            "wide": True,
        }
        for key in chart.legend
    ]
    bounds = {
        "kind": "across",
        "name": "bound",
        "key": "",
        "x": [(row.least or 0.0) * scale for row in rows],
        "y": places,
        "text": [row.hover for row in rows],
        "wide": False,
    }
    traces += [bounds] * any(row.least is not None for row in rows)
    return {
        "traces": traces,
        "labels": [],
        "x": {"title": chart.across, "log": False, "suffix": chart.unit},
        "y": {"title": "", "values": places, "labels": [row.name for row in rows]},
        "rows": len(rows),
    }
