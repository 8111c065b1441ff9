"""What is wrong with one rank's trace: events dropped, without time or overlapping, graphs cut.

Each flaw is an issue; what it undermines, and no more, is withheld in `withholding.py`.
"""

from collections.abc import Iterator

import numpy as np

from perfkit.analyzers.windows import Windows, is_device_work
from perfkit.trace.kinds import Kind
from perfkit.trace.model import I64, NONE, Bool, Events, Issue, RankTrace
from perfkit.units import percent

DROPPED, OVERLAPPING = "EVENTS_DROPPED", "OVERLAPPING_EVENTS"
ZERO_TIME = "ZERO_TIME_EVENTS"
GRAPH_CUT, STEPS_MISSING = "GRAPH_UNDER_RECORDED", "STEPS_MISSING"
FEW = 0.01
"""Below this share a flaw changes nothing that is shown."""
CUT_GRAPH = 0.5
"""A launch of a graph with less than this part of the usual kernels was recorded in part."""
_GRAPH_LAUNCHES = ("cudaGraphLaunch", "hipGraphLaunch")
_KERNEL_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "hipLaunchKernel", "hipModuleLaunch")


def trace_flaws(trace: RankTrace, windows: Windows) -> tuple[Issue, ...]:
    """Return the flaws of a rank's analysed steps."""
    found = [*_missing_steps(windows)]
    if windows.on_device:
        found += [
            *_dropped(trace, windows),
            *_without_time(trace, windows),
            *_overlapping(trace, windows),
            *_graphs(trace, windows),
        ]
    return tuple(found)


def _issue(code: str, message: str, severity: str = "warning") -> Issue:
    return Issue(code=code, severity=severity, message=message)


def _missing_steps(windows: Windows) -> Iterator[Issue]:
    gaps = np.diff(windows.step)
    missing = int((gaps - 1)[gaps > 1].sum())
    # Separate windows are asked for; single holes are losses.
    if missing and int(gaps.max()) == 2:
        yield _issue(
            STEPS_MISSING,
            f"{missing} steps inside the window were not captured whole: what happens in them, "
            "and from one step to the next, is not seen",
            "info",
        )


def _dropped(trace: RankTrace, windows: Windows) -> Iterator[Issue]:
    """Launch calls whose kernel is not in the trace, in all analysed steps but the last."""
    events = trace.events
    asked = _named(events, events.kind == Kind.LAUNCH, _KERNEL_LAUNCHES)
    asked &= np.isin(events.step, windows.step[:-1]) & (events.correlation != NONE)
    answered = np.zeros(len(events), dtype=np.bool_)
    answered[events.launch[is_device_work(events) & (events.launch != NONE)]] = True
    if not asked.any() or not answered[asked].any():
        return  # a trace of the host alone, or one that links nothing
    share = float((~answered[asked]).mean())
    if share > FEW:
        yield _issue(
            DROPPED,
            f"{percent(share)} of the kernels that were launched are not in the trace: the device "
            "seems idle where they ran",
        )


def _without_time(trace: RankTrace, windows: Windows) -> Iterator[Issue]:
    """Kernels and transfers of no duration: the profiler lost when they ended.

    Not so where durations are whole microseconds, as of Kineto before 2022: there it is rounding.
    """
    events = trace.events
    work = np.isin(events.kind, (Kind.KERNEL, Kind.COMM_KERNEL)) & np.isin(
        events.step, windows.step
    )
    lasting = events.duration_ns[work]
    rounded = not (lasting % 1000).any() and not (events.start_ns[work] % 1000).any()
    share = float((lasting <= 0).mean()) if work.any() and not rounded else 0.0
    if share > FEW:
        yield _issue(
            ZERO_TIME,
            f"{percent(share)} of the kernels have no duration: the device seems idle where they "
            "ran, and sums over kernels lack them",
        )


def _overlapping(trace: RankTrace, windows: Windows) -> Iterator[Issue]:
    """Kernels of one stream that run at the same time, which no stream does."""
    events = trace.events
    rows = np.flatnonzero(is_device_work(events) & np.isin(events.step, windows.step))
    order = rows[np.lexsort((events.start_ns[rows], events.thread[rows]))]
    start, end, stream = events.start_ns[order], events.end_ns[order], events.thread[order]
    over = (stream[1:] == stream[:-1]) & (start[1:] < end[:-1])
    whole = int((end - start).sum())
    doubled = int((end[:-1] - start[1:])[over].sum()) if over.any() else 0
    if whole and doubled > FEW * whole:
        yield _issue(
            OVERLAPPING,
            f"{percent(doubled / whole)} of the device's work overlaps other work of its own "
            "stream: sums over kernels count that time twice (the budget does not)",
        )


def _graphs(trace: RankTrace, windows: Windows) -> Iterator[Issue]:
    """Launches of CUDA graphs whose kernels were recorded in part, or not at all."""
    events = trace.events
    launches = _named(events, events.kind == Kind.LAUNCH, _GRAPH_LAUNCHES)
    rows = np.flatnonzero(launches & np.isin(events.step, windows.step[:-1]))
    if len(rows) < 2:
        return
    kernels = _kernels_of(events)[rows]
    short = kernels < CUT_GRAPH * np.median(kernels)
    share = float(short.mean()) if kernels.any() else 1.0
    if share > FEW:
        yield _issue(
            GRAPH_CUT,
            f"{percent(share)} of the launches of CUDA graphs show less than half of the kernels "
            "of the others: the device seems idle where the rest ran",
        )


def _kernels_of(events: Events) -> I64:
    """Return for each row the number of device activities that it launched."""
    launched = events.launch[is_device_work(events) & (events.launch != NONE)]
    return np.bincount(launched, minlength=len(events)).astype(np.int64)


def _named(events: Events, rows: Bool, starts: tuple[str, ...]) -> Bool:
    wanted = [
        i for i in np.unique(events.name[rows]).tolist() if events.names[i].startswith(starts)
    ]
    return np.asarray(rows & np.isin(events.name, wanted))
