"""One step over all ranks as lanes of marks, bounded in number whatever the capture holds."""

from collections.abc import Sequence

from perfkit import units
from perfkit.analyzers.result import Analysis, Timeline, TimelineLane, TimelineSpan
from perfkit.report import palette, show
from perfkit.report.model import Lane, Mark, Section, TimelineChart
from perfkit.report.names import name

LANE_MARKS = 2_000
"""Marks of one lane at most."""

PAGE_MARKS = 120_000
"""Marks of all lanes at most: about 3 MB of the page."""

_LABEL_LIMIT = 120


def timeline_section(analysis: Analysis) -> Section | None:
    """Return the timeline of one step."""
    timeline = analysis.timeline
    if timeline is None or not timeline.lanes or timeline.span_us <= 0:
        return None
    return Section(
        id="timeline",
        short="Timeline",
        title="Timeline of one step",
        lead="Drag to pan, wheel with Ctrl or the buttons to zoom, hover a mark for its name.",
        blocks=(chart(timeline, {s.rank for s in analysis.stragglers}),),
    )


def chart(timeline: Timeline, late: set[int]) -> TimelineChart:
    """Return the lanes of `timeline`, ranks in order; ranks in `late` are marked as stragglers."""
    limit = min(LANE_MARKS, max(PAGE_MARKS // max(len(timeline.lanes), 1), 50))
    keys, labels = _Index(), _Index()
    windows = {rank: (start, end) for rank, start, end in timeline.windows}
    lanes, was_merged = [], timeline.merged
    for lane in timeline.lanes:
        spans = _merged(lane.spans, limit, timeline.span_us)
        was_merged |= len(spans) < len(lane.spans)
        lanes.append(_lane(lane, spans, windows.get(lane.rank), late, keys, labels))
    return TimelineChart(
        id="timeline-chart",
        caption=f"Step {timeline.step}, {units.microseconds(timeline.span_us)} over "
        f"{show.plural(len({lane.rank for lane in timeline.lanes}), 'rank')}",
        span_us=timeline.span_us,
        keys=tuple(keys.order),
        labels=tuple(labels.order),
        lanes=tuple(lanes),
        note=_note(timeline, was_merged),
    )


class _Index:
    """Numbers distinct texts in the order in which they come."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.order)
            self.order.append(text)
        return number


def _lane(
    lane: TimelineLane,
    spans: Sequence[TimelineSpan],
    window: tuple[float, float] | None,
    late: set[int],
    keys: _Index,
    labels: _Index,
) -> Lane:
    return Lane(
        rank=f"rank {lane.rank}",
        name=name(lane.lane, 60),
        marks=tuple(
            Mark(
                start=round(span.start_us, 2),
                duration=round(span.duration_us, 2),
                key=keys(span.class_ if span.class_ in palette.CLASSES else "other"),
                label=labels(name(span.label, _LABEL_LIMIT)),
                events=span.events,
                collective=-1 if span.collective is None else span.collective,
            )
            for span in spans
        ),
        window=window,
        straggler=lane.rank in late,
    )


def _merged(spans: Sequence[TimelineSpan], limit: int, span_us: float) -> list[TimelineSpan]:
    """Return at most `limit` spans: neighbours of one class in one stretch of time become one.

    A merged mark begins with its first span and is as long as its spans together, so that the
    time a lane shows stays what was spent. Spans longer than a stretch are never merged.
    """
    if len(spans) <= limit:
        return list(spans)
    short = sorted((s.duration_us for s in spans), reverse=True)[limit // 4]
    merged = list(spans)
    # A stretch holds at most one mark a class: with 16 classes the last division always fits.
    for stretches in (limit // 2, limit // 4, limit // 8, limit // 32):
        merged = _by_stretch(spans, short, max(span_us / max(stretches, 1), 1e-3))
        if len(merged) <= limit:
            break
    return merged


def _by_stretch(spans: Sequence[TimelineSpan], short: float, stretch: float) -> list[TimelineSpan]:
    groups: dict[tuple[int, str], list[TimelineSpan]] = {}
    for number, span in enumerate(spans):
        merges = span.duration_us <= short
        key = (int(span.start_us / stretch), span.class_) if merges else (-1 - number, "")
        groups.setdefault(key, []).append(span)
    return sorted((_one(group) for group in groups.values()), key=lambda s: s.start_us)


def _one(group: list[TimelineSpan]) -> TimelineSpan:
    first = min(group, key=lambda s: s.start_us)
    if len(group) == 1:
        return first
    longest = max(group, key=lambda s: s.duration_us)
    return TimelineSpan(
        start_us=first.start_us,
        duration_us=sum(s.duration_us for s in group),
        class_=first.class_,
        label=f"{longest.label} and others",
        events=sum(s.events for s in group),
        collective=longest.collective,
    )


def _note(timeline: Timeline, was_merged: bool) -> str:
    notes = []
    if was_merged:
        notes.append("Short neighbouring marks are merged; hovering tells how many they stand for.")
    if not timeline.aligned:
        notes.append("Clocks of the machines could not be aligned: compare ranks with care.")
    return " ".join(notes)
