"""Why a step misses the ideal: the difference of the budgets, class by class, cause by cause.

ideal(p) is the step of the smallest rank count, divided by the growth in ranks where the global
batch is kept. Each class is held against its own ideal in the same way, so the losses sum to
measured less ideal exactly. Waits inside collectives go to what the late rank was doing; of those
for compute, what the ranks' mean compute times explain (max less mean, as in the POP metrics) is
load imbalance, together with what the busy ranks compute beyond the usual one (the lower median);
the rest varies from step to step. Of the compute, what transfers beside it add (contention.py) is a
cause of its own, and so is what operators take beyond the time that their FLOP took at the speed of
the smallest rank count. The rest of the compute did not shrink: work that does not divide.
"""

from collections.abc import Mapping, Sequence
from statistics import median_low

from perfkit.analyzers.scaling_result import Loss
from perfkit.analyzers.scaling_runs import MeasuredRun

CAUSES: dict[str, str] = {
    "compute": "compute that did not shrink with the ranks",
    "slower_kernels": "kernels slower than on fewer ranks: smaller batches, shared cores or memory",
    "contention": "compute slowed down by transfers beside it",
    "load_imbalance": "load imbalance: a rank computes longer than the others",
    "straggler_wait": "waiting for ranks that are late in turn",
    "exposed_transfer": "communication that compute does not hide",
    "pipe_bubble": "pipeline bubble",
    "unsplit_communication": "communication, waiting and transfer not told apart",
    "input": "waiting for input",
    "checkpoint": "checkpoints",
    "copies": "copies between host and device",
    "host": "host work: Python, launches, synchronisation",
}
"""Every cause and its words. Keys are the names in scale.json."""

FAMILY: dict[str, str] = {
    "compute": "compute",
    "slower_kernels": "compute",
    "contention": "compute",
    "load_imbalance": "compute",
    "straggler_wait": "communication",
    "exposed_transfer": "communication",
    "pipe_bubble": "communication",
    "unsplit_communication": "communication",
    "input": "io",
    "checkpoint": "io",
    "copies": "io",
    "host": "host",
}
"""The family of a cause, as in the roll-up of the budget."""

NEGLIGIBLE = 0.01
"""A loss below this share of the step is not named the main one."""

_BY_CLASS = {
    "compute": "compute",
    "comm_transfer": "exposed_transfer",
    "pipe_bubble": "pipe_bubble",
    "comm_unmatched": "unsplit_communication",
    "memcpy": "copies",
    "checkpoint": "checkpoint",
    "input_wait": "input",
}


def causes_ms(run: MeasuredRun) -> dict[str, float]:
    """Return the step of a run by cause, scaled so that the causes sum to its unprofiled step."""
    found = dict.fromkeys(CAUSES, 0.0)
    for key, ms in run.classes_ms.items():
        if key != "comm_wait" and ms is not None:
            found[_BY_CLASS.get(key, "host")] += ms
    waited = run.classes_ms.get("comm_wait") or 0.0
    for cause, ms in _waits_ms(run, waited).items():
        found[cause] += ms
    extra = _own_extra_ms(run) if found["load_imbalance"] > 0 else 0.0
    found["compute"] -= extra
    found["load_imbalance"] += extra
    if run.contention is not None:
        slowed = min(run.contention.ms_per_step, max(found["compute"], 0.0))
        found["compute"] -= slowed
        found["contention"] = slowed
    total = sum(found.values())
    scale = run.step_ms / total if total > 0 else 0.0
    return {cause: ms * scale for cause, ms in found.items()}


def _waits_ms(run: MeasuredRun, waited_ms: float) -> dict[str, float]:
    """Split the time spent waiting in collectives by what the late rank was doing."""
    found = {"straggler_wait": waited_ms}
    for blame in run.blame:
        if blame.rank < 0 or blame.class_.startswith(("comm_", "pipe_")):
            continue
        cause = _BY_CLASS.get(blame.class_, "host")
        cause = "straggler_wait" if cause == "compute" else cause
        if cause != "straggler_wait":
            found[cause] = found.get(cause, 0.0) + blame.ms
            found["straggler_wait"] -= blame.ms
    on_compute = sum(b.ms for b in run.blame if b.rank >= 0 and b.class_ == "compute")
    uneven = 0.0
    if run.compute_ms:
        uneven = max(run.compute_ms) - sum(run.compute_ms) / len(run.compute_ms)
    found["load_imbalance"] = min(uneven, on_compute, max(found["straggler_wait"], 0.0))
    found["straggler_wait"] = max(found["straggler_wait"] - found["load_imbalance"], 0.0)
    return found


def _own_extra_ms(run: MeasuredRun) -> float:
    """Return what the mean compute owes to ranks that compute more than the usual rank."""
    mean = sum(run.compute_ms) / len(run.compute_ms)
    return max(mean - median_low(run.compute_ms), 0.0)


def mean_causes_ms(runs: Sequence[MeasuredRun], step_ms: float) -> dict[str, float]:
    """Return the causes of several runs of one rank count, averaged and scaled to its step."""
    each = [causes_ms(run) for run in runs]
    mean = {cause: sum(own[cause] for own in each) / len(each) for cause in CAUSES}
    total = sum(mean.values())
    return {cause: ms * step_ms / total if total > 0 else 0.0 for cause, ms in mean.items()}


def slower_kernels_ms(base: Sequence[MeasuredRun], runs: Sequence[MeasuredRun]) -> float:
    """Return what operators take beyond the time of their FLOP at the base's speed, per step.

    Only operators whose FLOP are counted on both sides are compared; what transfers beside them
    add is left out, as it is a cause of its own. On the unprofiled step.
    """
    found = []
    for run in runs:
        total = sum(ms for ms in run.classes_ms.values() if ms is not None)
        excess = sum(
            ms - flop * sum(b[0] for b in own) / work
            for name, (ms, flop) in run.kernels.items()
            if (own := [b.kernels[name] for b in base if name in b.kernels])
            and (work := sum(b[1] for b in own)) > 0
        )
        slowed = run.contention.ms_per_step if run.contention is not None else 0.0
        found.append((excess - slowed) * (run.step_ms / total if total > 0 else 0.0))
    return sum(found) / len(found)


def losses(
    base: Mapping[str, float],
    point: Mapping[str, float],
    *,
    growth: float,
    weak: bool,
    slower_ms: float = 0.0,
) -> tuple[Loss, ...]:
    """Return what a point loses against the ideal, the largest loss first.

    base, point: milliseconds by cause; growth: ranks over the base's ranks; slower_ms: the part of
    the compute that `slower_kernels_ms` explains.
    """
    keep = 1.0 if weak else 1.0 / growth
    step = sum(point.values())
    found = {cause: point[cause] - base[cause] * keep for cause in CAUSES}
    slower = max(min(slower_ms, found["compute"]), 0.0)
    found["compute"] -= slower
    found["slower_kernels"] += slower
    return tuple(
        Loss(cause=cause, ms=ms, share=ms / step if step else 0.0)
        for cause, ms in sorted(found.items(), key=lambda item: -item[1])
        if ms != 0.0
    )


def main_loss(found: Sequence[Loss]) -> str | None:
    """Return the cause of the largest loss, None where nothing worth naming is lost."""
    return found[0].cause if found and found[0].share >= NEGLIGIBLE else None
