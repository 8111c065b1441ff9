"""The whole run from its step lines: step time over the run, slow steps, what comes back."""

from collections.abc import Sequence

from perfkit import units
from perfkit.analyzers.result import Analysis, StepPoint, Steps
from perfkit.report import palette, show
from perfkit.report.model import (
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Note,
    Section,
    SeriesChart,
    SeriesPoint,
    Span,
    StepBar,
    Table,
    Tick,
)
from perfkit.report.names import name

MOST_POINTS = 600
"""Bars of the step-time chart; beyond, neighbours share a bar that shows the slowest of them."""

LIVE_POINTS = 2_000
"""Bars of the zoomable chart at most."""

_TALLEST = 4.0
"""Times the median at which the chart's axis is cut."""


def run_section(analysis: Analysis) -> Section:
    """Return step time over the whole run."""
    steps = analysis.steps
    blocks: list[Block] = [_facts(steps)]
    if steps.series:
        blocks.insert(0, series_chart(steps))
    else:
        blocks.append(
            Note(text="This capture has no step lines: only the profiled steps are known.")
        )
    if steps.slow:
        blocks.append(_slow_table(steps))
    if steps.periodic:
        blocks.append(_periodic_table(steps))
    return Section(
        id="run-steps",
        short="Run",
        title="Step time over the run",
        lead="From the always-on record, outside the profiler too.",
        blocks=tuple(blocks),
    )


def series_chart(steps: Steps) -> SeriesChart:
    """Return step time against step number with its known parts."""
    points = steps.series
    first, last = points[0].step, points[-1].step
    width = 100 / max(last - first + 1, 1)
    top = _axis_top(steps)
    slow = {s.step for s in steps.slow}
    drawn = _thinned(points, MOST_POINTS)
    per_point = width * max(1, -(-len(points) // MOST_POINTS))
    windows = _profiled(points)
    bars = tuple(_point(p, first, width, per_point, top, slow) for p in drawn)
    median = steps.median_ms
    return SeriesChart(
        id="series",
        caption="Time of every step on its slowest rank",
        points=bars,
        x_ticks=_step_ticks(first, last, width),
        y_ticks=tuple(Tick(at=v / top * 100, text=units.milliseconds(v)) for v in show.ticks(top)),
        spans=_profiled_spans(windows, first, width),
        profiled=windows,
        median=None
        if median is None
        else Tick(at=median / top * 100, text=f"median {units.milliseconds(median)}"),
        legend=tuple(
            key
            for key, spent in (
                ("input_wait", any(p.input_wait_ms for p in points)),
                ("checkpoint", any(p.checkpoint_ms for p in points)),
            )
            if spent
        ),
        note=_series_note(points, drawn, top),
        steps=tuple(_step_bar(p, slow) for p in _thinned(points, LIVE_POINTS)),
        median_ms=median,
    )


def _axis_top(steps: Steps) -> float:
    tallest = max(p.ms for p in steps.series)
    if steps.median_ms:
        tallest = min(tallest, steps.median_ms * _TALLEST)
    return max(tallest * 1.05, 1e-6)


def _thinned(points: Sequence[StepPoint], most: int) -> list[StepPoint]:
    if len(points) <= most:
        return list(points)
    stride = -(-len(points) // most)
    groups = (points[i : i + stride] for i in range(0, len(points), stride))
    return [max(group, key=lambda p: p.ms) for group in groups]


def _point(
    p: StepPoint, first: int, width: float, drawn_width: float, top: float, slow: set[int]
) -> SeriesPoint:
    heights = (("input_wait", p.input_wait_ms), ("checkpoint", p.checkpoint_ms))
    rest = max(p.ms - p.input_wait_ms - p.checkpoint_ms, 0.0)
    parts, room = [], 100.0
    for key, milliseconds in (*heights, ("", rest)):
        height = min(milliseconds / top * 100, room)
        room -= height
        if height > 0:
            parts.append((key, round(height, 2)))
    return SeriesPoint(
        left=round((p.step - first) * width, 3),
        width=round(drawn_width, 3),
        parts=tuple(parts),
        hover=_hover(p),
        slow=p.step in slow,
    )


def _step_bar(p: StepPoint, slow: set[int]) -> StepBar:
    rest = max(p.ms - p.input_wait_ms - p.checkpoint_ms, 0.0)
    parts = (p.input_wait_ms, p.checkpoint_ms, rest)
    return StepBar(
        step=p.step,
        parts_ms=tuple(round(part, 4) for part in parts),
        hover=_hover(p),
        slow=p.step in slow,
    )


def _hover(p: StepPoint) -> str:
    parts = (("input_wait", p.input_wait_ms), ("checkpoint", p.checkpoint_ms))
    notes = [f"step {p.step}: {units.milliseconds(p.ms)} on rank {p.rank}"]
    notes += [f"{palette.label(k)} {units.milliseconds(ms)}" for k, ms in parts if ms > 0]
    notes += ["profiled"] * p.profiled + ["holds an evaluation"] * p.has_eval
    return ", ".join(notes)


def _step_ticks(first: int, last: int, width: float) -> tuple[Tick, ...]:
    marks = sorted({int(v) + first for v in show.ticks(last - first, 6)})
    return tuple(Tick(at=(s - first + 0.5) * width, text=f"{s:,}") for s in marks)


def _profiled(points: Sequence[StepPoint]) -> tuple[tuple[int, int], ...]:
    """Return the first and last step of each stretch of profiled steps."""
    runs: list[tuple[int, int]] = []
    for step in (p.step for p in points if p.profiled):
        if runs and step == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], step)
        else:
            runs.append((step, step))
    return tuple(runs)


def _profiled_spans(
    windows: Sequence[tuple[int, int]], first: int, width: float
) -> tuple[Span, ...]:
    return tuple(
        Span(
            left=round((a - first) * width, 3),
            width=round((b - a + 1) * width, 3),
            label=f"profiled: steps {a} to {b}",
        )
        for a, b in windows
    )


def _series_note(points: Sequence[StepPoint], drawn: list[StepPoint], top: float) -> str:
    notes = []
    if len(drawn) < len(points):
        notes.append(
            f"{show.plural(len(points), 'step')} in {len(drawn)} bars; each shows its slowest step."
        )
    over = sum(p.ms > top for p in points)
    if over:
        notes.append(f"{show.plural(over, 'bar')} cut at {units.milliseconds(top)}; hover tells.")
    return " ".join(notes)


def _facts(steps: Steps) -> Facts:
    on_device = [ms for ms in steps.per_rank_device_median_ms if ms is not None]
    shown = [
        ("Median step", units.milliseconds, steps.median_ms, "median_step"),
        ("95th percentile", units.milliseconds, steps.p95_ms, "p95_step"),
        ("99th percentile", units.milliseconds, steps.p99_ms, "p99_step"),
        ("Median profiled step", units.milliseconds, steps.profiled_median_ms, "profiled_step"),
        ("Input wait, whole run", units.percent, steps.input_wait_share, "whole_run_input"),
        ("Checkpoint, whole run", units.percent, steps.checkpoint_share, "whole_run_checkpoint"),
        ("Drift", _drift, steps.drift_percent, "drift"),
    ]
    items = [Fact(name=t, text=show.known(f, v), meaning=m) for t, f, v, m in shown]
    if on_device:
        slowest = units.milliseconds(max(on_device))
        items.insert(1, Fact(name="On the device", text=slowest, meaning="device_step"))
    if steps.eval_steps:
        note = show.plural(steps.eval_steps, "step")
        cost = units.milliseconds(steps.eval_ms)
        items.append(Fact(name="Evaluation", text=cost, meaning="eval_cost", note=note))
    return Facts(items=tuple(items), tiles=True)


def _drift(percent: float | None) -> str:
    return units.change(None if percent is None else percent / 100)


def _slow_table(steps: Steps) -> Table:
    rows = tuple(
        (
            Cell(text=f"{s.step:,}", value=s.step),
            Cell(text=f"rank {s.rank}", value=s.rank),
            Cell(text=units.milliseconds(s.ms), value=s.ms),
            Cell(text=units.ratio(s.over_median), value=s.over_median),
            _cause_cell(s.cause),
        )
        for s in steps.slow
    )
    return Table(
        id="slow-steps",
        caption="Slow steps",
        columns=(
            Column(title="Step", numeric=True),
            Column(title="Slowest rank"),
            Column(title="Time", meaning="step_time", numeric=True),
            Column(title="Over median", meaning="over_median", numeric=True),
            Column(title="Cause"),
        ),
        rows=rows,
    )


def _cause_cell(cause: str) -> Cell:
    words = {"gc": "garbage collection", "compile": "compilation", "eval": "evaluation"}
    swatch = {"gc": "host_gc", "compile": "host_compile"}.get(cause, cause)
    return Cell(
        text=name(words.get(cause, palette.label(cause)), 80),
        swatch=swatch if swatch in palette.CLASSES else "",
    )


def _periodic_table(steps: Steps) -> Table:
    rows = tuple(
        (
            Cell(text=f"every {p.every:,} steps", value=p.every),
            Cell(text=f"{p.count:,}", value=p.count),
            Cell(text=units.milliseconds(p.extra_ms), value=p.extra_ms),
            _cause_cell(p.cause),
        )
        for p in steps.periodic
    )
    return Table(
        id="periodic",
        caption="Slow steps that come back",
        columns=(
            Column(title="Period", numeric=True),
            Column(title="Times", numeric=True),
            Column(title="Extra each time", meaning="periodic_extra", numeric=True),
            Column(title="Cause"),
        ),
        rows=rows,
    )
