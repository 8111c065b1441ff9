"""What changed between two arms of runs, and whether it is more than runs differ by themselves.

Step times are compared as ratios (t interval on the logarithms over runs), times by class, operator
and rank as differences in milliseconds. Steps of one run are never counted as repetitions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, expm1, inf, log, log1p

from msgspec.structs import replace

from perfkit.analyzers.compare_notes import notes
from perfkit.analyzers.comparison import SCHEMA_VERSION, Arm, Comparison, Gate, Row, Speed
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis, ClassTime
from perfkit.analyzers.run_spread import Replicates, Spread, spread_for
from perfkit.analyzers.statistics import holm
from perfkit.analyzers.two_arms import ONE_RUN_EACH, Difference, difference
from perfkit.units import change, milliseconds, percent

SIGNIFICANT = 0.05
MEASURES: tuple[tuple[str, Callable[[Analysis], float | None]], ...] = (
    ("median step", lambda a: a.steps.median_ms),
    ("mean step", lambda a: a.steps.mean_ms),
)
"""The mean also holds what happens now and then, such as a checkpoint every hundred steps."""
_PROFILED = "median profiled step"


def compare(
    base: Sequence[Analysis],
    new: Sequence[Analysis],
    *,
    max_slowdown: float | None = None,
    single_run_sd: float | None = None,
    calibrated: Sequence[Replicates] = (),
) -> Comparison | Refusal:
    """Compare two arms of runs of one program.

    max_slowdown: allowed increase of the step time, such as 0.03; the gate fails only where the
    lower 95 % limit of the slow-down exceeds it. single_run_sd: relative standard deviation of the
    step time from run to run, used where each side has one run only; without it the spread of
    earlier replicates of the same program is, if `calibrated` has any. Refused where a run has no
    step time.
    """
    spread = _known_spread(base, new, single_run_sd, calibrated)
    speed = _speeds(base, new, spread)
    if isinstance(speed, Refusal):
        return speed
    verdict = _verdict(speed)
    classes = _rows(base, new, _classes)
    return Comparison(
        schema_version=SCHEMA_VERSION,
        base=_arm(base),
        new=_arm(new),
        verdict=verdict,
        sentence=_sentence(verdict, speed, classes),
        reason=str(ONE_RUN_EACH.reason) if verdict == "cannot_tell" else "",
        speed=speed,
        gate=None if max_slowdown is None else _gate(speed, max_slowdown),
        classes=classes,
        operators=_rows(base, new, _operators),
        ranks=_rank_rows(base, new),
        findings_gone=_only_in(base, new),
        findings_new=_only_in(new, base),
        notes=(*notes(base, new), *_calibration_note(spread)),
    )


def _known_spread(
    base: Sequence[Analysis],
    new: Sequence[Analysis],
    single_run_sd: float | None,
    calibrated: Sequence[Replicates],
) -> Spread | None:
    """Return the deviation between runs that single runs are held against."""
    if len(base) + len(new) > 2:
        return None
    if single_run_sd is not None:
        return Spread(sd=log1p(single_run_sd), freedom=0, runs=0)
    return spread_for(base[0], calibrated)


def _calibration_note(spread: Spread | None) -> tuple[str, ...]:
    if spread is None or not spread.runs:
        return ()
    return (
        f"the interval uses what {spread.runs} earlier runs of this program differed by: "
        f"{percent(expm1(spread.sd))} (standard deviation)",
    )


def _arm(runs: Sequence[Analysis]) -> Arm:
    return Arm(
        runs=tuple(a.run.run_id for a in runs),
        labels=tuple(a.verdict.label for a in runs),
        world_size=runs[0].world.size,
        steps=tuple(a.steps.recorded or a.steps.analysed for a in runs),
    )


def _speeds(
    base: Sequence[Analysis], new: Sequence[Analysis], spread: Spread | None
) -> tuple[Speed, ...] | Refusal:
    measures = [
        (name, values) for name, of in MEASURES if (values := _known([*base, *new], of)) is not None
    ]
    if not measures:
        profiled = _known([*base, *new], lambda a: a.steps.profiled_median_ms)
        if profiled is None:
            return Refusal(
                reason="not every run has a step time",
                remedy="each run must record whole steps: perfkit profile -- CMD",
            )
        measures = [(_PROFILED, profiled)]
    split = len(base)
    return tuple(_speed(name, v[:split], v[split:], spread) for name, v in measures)


def _known(runs: Sequence[Analysis], of: Callable[[Analysis], float | None]) -> list[float] | None:
    values = [v for run in runs if (v := of(run)) is not None and v > 0]
    return values if len(values) == len(runs) else None


def _speed(
    measure: str, base: Sequence[float], new: Sequence[float], spread: Spread | None
) -> Speed:
    logs = [log(v) for v in base], [log(v) for v in new]
    found = difference(
        *logs,
        known_sd=spread.sd if spread else None,
        known_freedom=(spread.freedom if spread else 0) or inf,
    )
    means = [exp(sum(arm) / len(arm)) for arm in logs]
    told = found if isinstance(found, Difference) else None
    return Speed(
        measure=measure,
        base_ms=tuple(base),
        new_ms=tuple(new),
        base_mean_ms=means[0],
        new_mean_ms=means[1],
        ratio=means[1] / means[0],
        low=exp(told.low) if told else None,
        high=exp(told.high) if told else None,
    )


def _verdict(speed: Sequence[Speed]) -> str:
    if any(s.low is None for s in speed):
        return "cannot_tell"
    slower = any(s.low is not None and s.low > 1 for s in speed)
    faster = any(s.high is not None and s.high < 1 for s in speed)
    if slower and faster:
        return "unclear"
    if slower or faster:
        return "slower" if slower else "faster"
    return "no_difference_shown"


def _gate(speed: Sequence[Speed], max_slowdown: float) -> Gate:
    limits = [(s.low - 1, s.measure) for s in speed if s.low is not None]
    lower, measure = max(limits, default=(None, ""))
    outcome = "cannot_tell"
    if lower is not None:
        outcome = "failed" if lower > max_slowdown else "passed"
    return Gate(max_slowdown=max_slowdown, lower_limit=lower, outcome=outcome, measure=measure)


def _sentence(verdict: str, speed: Sequence[Speed], classes: Sequence[Row]) -> str:
    first = speed[0]
    took = (
        f"the {first.measure} went from {milliseconds(first.base_mean_ms)} to "
        f"{milliseconds(first.new_mean_ms)} ({change(first.ratio - 1)})"
    )
    text = {
        "cannot_tell": f"Cannot tell: {ONE_RUN_EACH.reason}; {took}, and how much runs differ by "
        "themselves is not known",
        "slower": f"Slower: {took}",
        "faster": f"Faster: {took}",
        "unclear": f"Unclear: {took}, and the mean step moved the other way",
        "no_difference_shown": f"No difference shown: {took}, within what runs differ by "
        "themselves",
    }[verdict]
    if first.low is not None and first.high is not None:
        text += f"; 95 % interval {change(first.low - 1)} to {change(first.high - 1)}"
    for other in speed[1:]:
        if other.low is not None and other.high is not None and not other.low <= 1 <= other.high:
            text += f"; the {other.measure} changed by {change(other.ratio - 1)}"
    moved = [r for r in classes if r.changed and r.change_ms]
    if moved and verdict in ("slower", "faster"):
        most = max(moved, key=lambda r: abs(r.change_ms or 0.0))
        text += f"; most of all {most.name.replace('_', ' ')}, by {_signed(most.change_ms)}"
    return text


def _signed(ms: float | None) -> str:
    return ("+" if (ms or 0.0) > 0 else "-") + milliseconds(abs(ms or 0.0))


def _classes(run: Analysis) -> dict[str, float | None]:
    if not run.steps.analysed:  # sixteen rows of "not known" tell nobody anything
        return {}
    return {k: t.ms if t is not None else None for k, t in run.budget.classes.items()}


def _operators(run: Analysis) -> dict[str, float | None]:
    return {row.name: row.ms for row in run.operators}


def _windows(run: Analysis) -> dict[str, float | None]:
    return {str(r.rank): r.window_ms for r in run.budget.per_rank}


def _rows(
    base: Sequence[Analysis],
    new: Sequence[Analysis],
    of: Callable[[Analysis], Mapping[str, float | None]],
) -> tuple[Row, ...]:
    """Compare every name that either side lists; the largest change first."""
    before, after = [of(run) for run in base], [of(run) for run in new]
    names = dict.fromkeys(name for table in (*before, *after) for name in table)
    rows: list[Row] = []
    p_values: dict[str, float] = {}
    for name in names:
        row, p_value = _row(name, _values(before, name), _values(after, name))
        rows.append(row)
        if p_value is not None:
            p_values[name] = p_value
    adjusted = holm(p_values)
    rows = [
        replace(row, changed=adjusted[row.name] < SIGNIFICANT) if row.name in adjusted else row
        for row in rows
    ]
    rows.sort(key=lambda r: -abs(r.change_ms or 0.0))
    return tuple(rows)


def _values(tables: Sequence[Mapping[str, float | None]], name: str) -> list[float] | None:
    found = [v for table in tables if (v := table.get(name)) is not None]
    return found if len(found) == len(tables) else None


def _row(name: str, base: list[float] | None, new: list[float] | None) -> tuple[Row, float | None]:
    means = [sum(v) / len(v) if v else None for v in (base, new)]
    if base is None or new is None:
        row = Row(name=name, base_ms=means[0], new_ms=means[1], change_ms=None)
        return row, None
    found = difference(base, new)
    told = found if isinstance(found, Difference) else None
    row = Row(
        name=name,
        base_ms=means[0],
        new_ms=means[1],
        change_ms=sum(new) / len(new) - sum(base) / len(base),
        low_ms=told.low if told else None,
        high_ms=told.high if told else None,
    )
    return row, told.p_value if told else None


def _rank_rows(base: Sequence[Analysis], new: Sequence[Analysis]) -> tuple[Row, ...]:
    """Compare the windows rank by rank; nothing where the sides have different world sizes."""
    if len({run.world.size for run in (*base, *new)}) != 1:
        return ()
    rows = sorted(_rows(base, new, _windows), key=lambda row: int(row.name))
    return tuple(_with_cause(base, new, row) for row in rows)


def _with_cause(base: Sequence[Analysis], new: Sequence[Analysis], row: Row) -> Row:
    before, after = (_mean_classes(runs, int(row.name)) for runs in (base, new))
    moved = {k: after[k] - before[k] for k in before if k in after}
    most = max(moved, key=lambda k: abs(moved[k]), default="")
    return replace(row, mostly=most, mostly_ms=moved[most]) if most else row


def _mean_classes(runs: Sequence[Analysis], rank: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for own in (r for run in runs for r in run.budget.per_rank if r.rank == rank):
        for key, time in _recorded(own.classes.items()):
            found.setdefault(key, []).append(time.ms)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _recorded(
    items: Iterable[tuple[str, ClassTime | None]],
) -> Iterable[tuple[str, ClassTime]]:
    return ((key, time) for key, time in items if time is not None)


def _only_in(some: Sequence[Analysis], others: Sequence[Analysis]) -> tuple[str, ...]:
    """Return findings of every run on one side and of none on the other."""
    every = set.intersection(*({f.id for f in run.findings} for run in some))
    any_other = {f.id for run in others for f in run.findings}
    return tuple(sorted(every - any_other))
