"""What a scaling series takes from each run, and whether the runs belong to one series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perfkit.analyzers.contention import Contention
from perfkit.analyzers.evidence import fact
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis, Blame
from perfkit.analyzers.step_table import steady_steps, tabulate_steps
from perfkit.trace.model import RankRecord, Run

SAME_WORK = 0.02
"""Samples per step may differ by this share and still count as the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One run of a series. Times in ms are per step, means over ranks unless they say otherwise."""

    name: str
    ranks: int
    nodes: int
    step_ms: float  # median of the unprofiled steady steps, slowest rank
    samples_per_step: float  # of all ranks together
    tokens_per_step: float | None
    classes_ms: dict[str, float | None]  # of the profiled steps, before blame
    compute_ms: tuple[float, ...]  # of each rank
    blame: tuple[Blame, ...]
    skew_sd_ms: float | None  # of a rank's compute from step to step, drift of all ranks removed
    placements: tuple[str, ...]
    factors: dict[str, float | None]
    cores: int | None  # that the busiest machine's ranks may use; None on accelerators
    oversubscribed: bool
    threads: int | None
    command: str
    model: str
    dtypes: tuple[str, ...]
    contention: Contention | None = None  # None: cannot be told, or one rank
    kernels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By operator: ms and executed FLOP per step, where a formula counts them; mean over ranks."""


def measure(run: Run, analysis: Analysis, name: str) -> MeasuredRun | Refusal:
    """Take from a run what a scaling series needs, or say what it lacks."""
    step = analysis.steps.median_ms
    if step is None:
        return Refusal(
            reason=f"{name}: no unprofiled steady step was recorded",
            remedy="run at least ten steps beside the profiled window",
        )
    samples, tokens = _work_per_step(run)
    if samples is None:
        return Refusal(
            reason=f"{name}: the samples per step were not recorded, so strong and weak scaling "
            "cannot be told apart",
            remedy="batches need a leading dimension that is the batch, from a DataLoader",
        )
    machine = max(_machines(run), key=len)
    cores = _cores(machine, analysis.world.device_kind)
    efficiency = analysis.efficiency
    return MeasuredRun(
        name=name,
        ranks=run.world_size,
        nodes=analysis.world.nodes,
        step_ms=step,
        samples_per_step=samples,
        tokens_per_step=tokens,
        classes_ms={
            key: None if time is None else time.ms for key, time in analysis.budget.classes.items()
        },
        compute_ms=_compute_ms(analysis),
        blame=analysis.verdict.blame,
        skew_sd_ms=_skew_sd_ms(analysis),
        placements=tuple(sorted(n.placement for n in analysis.networks)),
        factors={} if efficiency is None else {f.name: f.value for f in efficiency.factors},
        cores=cores,
        oversubscribed=cores is not None and len(machine) > cores,
        threads=_number(fact(run.ranks[0], "threads")),
        command=analysis.run.command,
        model=analysis.run.model,
        dtypes=_dtypes(run.ranks[0]),
        kernels=_kernels(analysis),
    )


def _kernels(analysis: Analysis) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    points = analysis.roofline.points if analysis.roofline is not None else ()
    for point in points:
        if point.executed_flop > 0:
            ms, flop = found.get(point.name, (0.0, 0.0))
            found[point.name] = (ms + point.time_s * 1e3, flop + point.executed_flop)
    return found


def _work_per_step(run: Run) -> tuple[float | None, float | None]:
    """Return samples and tokens of all ranks in a usual step; None where a rank has none."""
    table = tabulate_steps({record.rank: record.lines for record in run.ranks})
    mask = steady_steps(table).mask
    if len(table.ranks) < run.world_size or not mask.any():
        return None, None
    found: list[float | None] = []
    for counts in (table.samples[mask], table.tokens[mask]):
        known = not np.isnan(counts).any()
        found.append(float(np.median(counts.sum(axis=1))) if known else None)
    return found[0], found[1]


def _machines(run: Run) -> list[list[RankRecord]]:
    """Group ranks by the machine they ran on: one kernel, one boot id, whatever the namespace."""
    groups: dict[str, list[RankRecord]] = {}
    for record in run.ranks:
        where = fact(record, "clock_domain") or fact(record, "node")
        groups.setdefault(str(where), []).append(record)
    return list(groups.values())


def _cores(machine: Sequence[RankRecord], device_kind: str) -> int | None:
    if device_kind != "cpu":
        return None
    known = [_number(fact(record, "cpus_available")) for record in machine]
    return max((n for n in known if n is not None), default=None)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _dtypes(record: RankRecord) -> tuple[str, ...]:
    """Return the parameters' types and, where it is on, the one that autocast computes in."""
    known = fact(record, "model", "dtypes")
    found = [str(d) for d in known] if isinstance(known, list) else []
    autocast = fact(record, "autocast")
    return tuple(found) + ((f"autocast {autocast}",) if autocast else ())


def _compute_ms(analysis: Analysis) -> tuple[float, ...]:
    times = [rank.classes.get("compute") for rank in analysis.budget.per_rank]
    return tuple(time.ms for time in times if time is not None)


def _skew_sd_ms(analysis: Analysis) -> float | None:
    """Return the sd of compute over steps, less each rank's mean and each step's mean."""
    rows = analysis.budget.per_step
    ranks, steps = sorted({r.rank for r in rows}), sorted({r.step for r in rows})
    if len(ranks) < 2 or len(steps) < 2 or len(rows) != len(ranks) * len(steps):
        return None
    times = np.zeros((len(ranks), len(steps)))
    for row in rows:
        times[ranks.index(row.rank), steps.index(row.step)] = row.classes_ms.get("compute", 0.0)
    rest = times - times.mean(1, keepdims=True) - times.mean(0, keepdims=True) + times.mean()
    freedom = (len(ranks) - 1) * (len(steps) - 1)
    return float(np.sqrt((rest**2).sum() / freedom))


def mode_of(runs: Sequence[MeasuredRun]) -> str | Refusal:
    """Return "strong" or "weak", by what the runs recorded; refuse what is neither, or no series.

    Strong: the same samples per step in all. Weak: the same samples per step and rank.
    """
    counts = sorted({run.ranks for run in runs})
    if len(counts) < 2:
        return Refusal(
            reason=f"all runs have {counts[0]} rank{'s' * (counts[0] != 1)}",
            remedy="a scaling series needs runs of two numbers of ranks at least",
        )
    for what, values in (
        ("models", {run.model for run in runs}),
        ("data types", {", ".join(run.dtypes) for run in runs}),
    ):
        if len(values) > 1:
            listed = " and ".join(sorted(v or "an unknown one" for v in values))
            return Refusal(
                reason=f"the runs are of different {what}: {listed}",
                remedy="compare like with like",
            )
    total = [run.samples_per_step for run in runs]
    each = [run.samples_per_step / run.ranks for run in runs]
    if _same(total):
        return "strong"
    if _same(each):
        return "weak"
    listed = ", ".join(f"{r.samples_per_step:g} on {r.ranks}" for r in _by_ranks(runs))
    return Refusal(
        reason="neither the samples per step nor those per rank are the same "
        f"(samples per step and ranks: {listed}): this is neither strong nor weak scaling",
        remedy="keep one of them, and measure strong and weak series apart",
    )


def _same(values: Sequence[float]) -> bool:
    return max(values) <= min(values) * (1 + SAME_WORK)


def _by_ranks(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    first = {run.ranks: run for run in reversed(runs)}
    return [first[ranks] for ranks in sorted(first)]
