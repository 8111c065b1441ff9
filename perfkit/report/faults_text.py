"""A fault run for the terminal."""

from collections.abc import Iterator

from perfkit import units
from perfkit.analyzers.faults_result import Faults, FleetRow

TEN_THOUSAND = 10_000


def render(found: Faults, *, report_path: str) -> str:
    """Return the whole summary."""
    lines = [found.sentence, "", *_times(found), *_checkpoints(found), *_fleet(found)]
    lines += [f"Note: {note}." for note in found.notes]
    return "\n".join([*lines, "", f"Report: {report_path}"])


def _times(found: Faults) -> Iterator[str]:
    times = found.times
    if times is None:
        return
    notice = ""
    if times.notice_s is not None:
        notice = f" (the launcher noticed after {units.seconds(times.notice_s)})"
    yield f"  detection  {units.seconds(times.detection_s):>10}  kill to new processes{notice}"
    yield f"  restart    {units.seconds(times.restart_s):>10}  new processes to their first step"
    yield (
        f"  lost work  {units.seconds(times.lost_work_s):>10}  "
        f"until step {found.killed_after_step} was done again"
    )
    yield f"  total      {units.seconds(times.total_s):>10}"
    if found.goodput is not None:
        yield (
            f"  goodput    {units.percent(found.goodput):>10}  of this short run: useful steps at "
            f"{units.milliseconds(found.step_ms)} over its time"
        )
    yield ""


def _checkpoints(found: Faults) -> Iterator[str]:
    cost = found.checkpoint
    if cost is None:
        return
    every = "" if cost.every_steps is None else f" every {units.count(cost.every_steps)} steps"
    yield f"Checkpoints: {cost.count}{every}, {units.milliseconds(cost.median_ms)} each (median)."


def _fleet(found: Faults) -> Iterator[str]:
    if not found.fleet:
        return
    hours = units.number(found.mtbf_of_one_rank_s / 3600)
    yield f"If one rank fails every {hours} h ({found.mtbf_source}):"
    yield f"{'ranks':>8}  {'job fails every':>16}  {'Young':>11}  {'Daly':>11}  goodput"
    for row in found.fleet:
        yield (
            f"{row.ranks:>8}  {units.seconds(row.mtbf_s):>16}  {units.seconds(row.young_s):>11}  "
            f"{units.seconds(row.daly_s):>11}  {units.percent(row.goodput)}{now(row)}"
        )
    yield assumption(found)
    yield ""


def now(row: FleetRow) -> str:
    """Return what the present interval would give."""
    return "" if row.goodput_now is None else f" ({units.percent(row.goodput_now)} as now)"


def assumption(found: Faults) -> str:
    """Return what the table takes for granted."""
    return (
        "Writing a checkpoint and restarting are taken to last as long on any number of ranks as "
        f"on the {found.ranks} measured; the first goodput is at the best interval."
    )
