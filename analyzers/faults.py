"""What killing a rank cost, and whether the job came back to where its checkpoint had it.

Two runs of one command: one left alone, one in which a rank dies after a step and the launcher
restarts all. The new attempt counts its steps from 0; the step of the job at which it began is the
one from which its losses are those of the run left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isnan
from statistics import median

from perfkit.analyzers import reliability
from perfkit.analyzers.faults_result import (
    SCHEMA_VERSION,
    CheckpointCost,
    Faults,
    FleetRow,
    LossPair,
    Times,
)
from perfkit.analyzers.faults_words import sentence
from perfkit.analyzers.refusal import Refusal
from perfkit.trace.attempts import Attempt, Death
from perfkit.version import __version__

SAME = 1e-6
"""Relative difference of float losses below which they count as the same."""
TIMES_THE_NOISE = 10.0
"""So much more than two untouched runs differ is still no sign of a wrong restart."""
TOO_NOISY = 0.01
"""Runs that differ so much without any kill cannot show a wrong restart."""
FLEET = (8, 64, 512, 1024, 10_000)
MTBF_OF_ONE_RANK_S = 54 * 86400 / 419 * 16384
"""54 days on 16384 H100 with 419 unexpected interruptions (Llama 3, 2024): 50,700 h for one."""
MTBF_SOURCE = "assumed: Llama 3 reported 419 interruptions in 54 days of 16384 GPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user asked, and what only the launcher knows."""

    command: str
    mtbf_of_one_rank_s: float | None = None
    notice_ns: int | None = None  # Unix time of the launcher's line about the dead rank
    failure: str = ""  # how the killed job ended, if not well


def checkpoint_steps(attempt: Attempt) -> list[int]:
    """Return the steps of the job that a checkpoint holds: it was written inside the next one."""
    found: set[int] = set()
    for rank in attempt.ranks:
        found |= {int(i) for i in rank.lines.index[rank.lines.checkpoint_ns > 0]}
    return sorted(found)


def step_to_kill(untouched: Attempt) -> int | Refusal:
    """Return a step half-way between two checkpoints near the middle of the run.

    A checkpoint after step c is written inside step c+1; the kill comes after that, and leaves at
    least one step to lose and two to go.
    """
    known = [c for c in checkpoint_steps(untouched) if c + 2 < untouched.steps]
    if not known:
        return Refusal(
            reason="the uninterrupted run wrote no checkpoint early enough to resume from",
            remedy="let the script checkpoint (torch.save or torch.distributed.checkpoint), and "
            "train a few steps beyond the first one",
        )
    middle = untouched.steps / 2
    chosen = min(known, key=lambda c: (abs(c - middle), c))
    after = [c for c in known if c > chosen] or [untouched.steps - 1]
    return min(chosen + max(1, (after[0] - chosen) // 2), untouched.steps - 2)


def judge(untouched: Attempt, killed: Sequence[Attempt], asked: Asked) -> Faults | Refusal:
    """Compare the run left alone with the attempts of the killed one."""
    death = _death(killed)
    if death is None:
        return Refusal(
            reason="no rank was killed: the rank never completed that step",
            remedy=f"the uninterrupted run has {len(untouched.ranks)} ranks and "
            f"{untouched.steps} steps: choose --kill-rank and --at-step among them",
        )
    again = killed[-1] if len(killed) > 1 and killed[-1].steps else None
    start = None if again is None else _resumed_at(untouched, again, death)
    before = _pairs(untouched, killed[0], 0)
    after = () if again is None or start is None else _pairs(untouched, again, start)
    floor, difference = _difference(before), _difference(after)
    verdict = _verdict(asked, again, start, difference, floor)
    times = None if again is None or start is None else _times(death, again, start, asked)
    mtbf = asked.mtbf_of_one_rank_s or MTBF_OF_ONE_RANK_S
    step_ms, cost = _step_ms(untouched), _cost(untouched)
    found = Faults(
        schema_version=SCHEMA_VERSION,
        perfkit_version=__version__,
        command=asked.command,
        ranks=len(untouched.ranks),
        killed_rank=death.rank,
        killed_after_step=death.step,
        passed=verdict == "resumed",
        verdict=verdict,
        sentence="",
        resumed_at_step=start,
        lost_steps=None if start is None else death.step + 1 - start,
        steps_without_kill=untouched.steps,
        steps_done=None if again is None or start is None else start + again.steps,
        losses=(*before, *after),
        difference=difference,
        difference_before=floor,
        times=times,
        step_ms=step_ms,
        checkpoint=cost,
        goodput=_goodput(untouched, killed, step_ms) if verdict == "resumed" else None,
        mtbf_of_one_rank_s=mtbf,
        mtbf_source=MTBF_SOURCE if asked.mtbf_of_one_rank_s is None else "given with --mtbf",
        fleet=_fleet(mtbf, len(untouched.ranks), step_ms, cost, times),
        notes=tuple(_notes(untouched, again, start, cost, floor)),
    )
    return sentence(found, asked.failure)


def _death(killed: Sequence[Attempt]) -> Death | None:
    ranks = killed[0].ranks if killed else ()
    return next((rank.death for rank in ranks if rank.death is not None), None)


def _pairs(untouched: Attempt, attempt: Attempt, start: int) -> tuple[LossPair, ...]:
    """Hold each loss of the attempt, begun at step `start` of the job, against the other run's."""
    others = {rank.rank: rank.losses for rank in untouched.ranks}
    return tuple(
        LossPair(
            step=start + step,
            rank=rank.rank,
            attempt=attempt.number,
            uninterrupted=others[rank.rank][start + step],
            killed=loss,
        )
        for rank in attempt.ranks
        for step, loss in sorted(rank.losses.items())
        if start + step in others.get(rank.rank, {})
    )


def relative_difference(left: float, right: float) -> float:
    """Return |left - right| over the larger size; infinite where only one is a number."""
    if left == right or (isnan(left) and isnan(right)):
        return 0.0
    size = max(abs(left), abs(right))
    return abs(left - right) / size if size < inf and not isnan(left + right) else inf


def _difference(pairs: Sequence[LossPair]) -> float | None:
    found = [relative_difference(p.uninterrupted, p.killed) for p in pairs]
    return None if not found else max(found)


def _resumed_at(untouched: Attempt, again: Attempt, death: Death) -> int | None:
    """Return the step of the job at which the new attempt began, by its losses, else by count."""
    by_count = untouched.steps - again.steps
    candidates = range(min(death.step + 1, untouched.steps - 1) + 1)
    fits = {start: _difference(_pairs(untouched, again, start)) for start in candidates}
    known = {start: gap for start, gap in fits.items() if gap is not None}
    if known:
        best = min(known, key=lambda start: (known[start], abs(start - by_count)))
        if known[best] <= SAME or by_count not in candidates:
            return best
    return by_count if by_count in candidates else None


def _verdict(
    asked: Asked,
    again: Attempt | None,
    start: int | None,
    difference: float | None,
    floor: float | None,
) -> str:
    if again is None:
        return "not_restarted"
    if asked.failure:
        return "not_finished"
    if start == 0:
        return "from_scratch"
    if start is None or difference is None or floor is None or floor > TOO_NOISY:
        return "losses_unknown"
    return "resumed" if difference <= max(SAME, TIMES_THE_NOISE * floor) else "wrong_loss"


def _times(death: Death, again: Attempt, start: int, asked: Asked) -> Times | None:
    begun = [r.process_started_ns for r in again.ranks if r.process_started_ns is not None]
    redo = death.step - start  # of the new attempt: the step after which the rank had died
    if not begun or again.steps <= max(redo, 0):
        return None
    process = min(begun)
    first = max(int(rank.lines.start_ns[0]) for rank in again.ranks)
    caught_up = first
    if redo >= 0:
        caught_up = max(int(rank.lines.end_ns[redo]) for rank in again.ranks)
    notice = asked.notice_ns
    known = notice is not None and death.at_ns <= notice <= process
    return Times(
        detection_s=(process - death.at_ns) / 1e9,
        restart_s=(first - process) / 1e9,
        lost_work_s=(caught_up - first) / 1e9,
        total_s=(caught_up - death.at_ns) / 1e9,
        notice_s=(notice - death.at_ns) / 1e9 if known and notice is not None else None,
    )


def _step_ms(untouched: Attempt) -> float | None:
    """Return the median step, slowest rank, of those after the first that wrote no checkpoint."""
    skipped = {0, *checkpoint_steps(untouched)}
    longest = [
        max(int(r.lines.end_ns[k] - r.lines.start_ns[k]) for r in untouched.ranks)
        for k in range(untouched.steps)
        if k not in skipped
    ]
    return median(longest) / 1e6 if longest else None


def _cost(untouched: Attempt) -> CheckpointCost | None:
    steps = [k for k in checkpoint_steps(untouched) if k < untouched.steps]
    if not steps:
        return None
    longest = [max(int(r.lines.checkpoint_ns[k]) for r in untouched.ranks) for k in steps]
    gaps = [later - sooner for sooner, later in pairwise(steps)]
    return CheckpointCost(
        count=len(steps),
        median_ms=median(longest) / 1e6,
        every_steps=float(median(gaps)) if gaps else None,
    )


def _goodput(untouched: Attempt, killed: Sequence[Attempt], step_ms: float | None) -> float | None:
    if step_ms is None:
        return None
    first = min(int(rank.lines.start_ns[0]) for rank in killed[0].ranks if len(rank.lines.index))
    last = max(int(rank.lines.end_ns[-1]) for rank in killed[-1].ranks)
    return reliability.goodput_of_run(untouched.steps, step_ms / 1e3, (last - first) / 1e9)


def _fleet(
    mtbf_s: float,
    ranks: int,
    step_ms: float | None,
    cost: CheckpointCost | None,
    times: Times | None,
) -> tuple[FleetRow, ...]:
    if cost is None or times is None or cost.median_ms <= 0:
        return ()
    write, restart = cost.median_ms / 1e3, times.detection_s + times.restart_s
    now = None
    if step_ms is not None and cost.every_steps is not None:
        now = cost.every_steps * step_ms / 1e3
    rows = []
    for count in sorted({ranks, *FLEET}):
        mtbf = reliability.cluster_mtbf_s(mtbf_s, count)
        plan = reliability.checkpoint_plan(write, mtbf, restart_s=restart)
        rows.append(
            FleetRow(
                ranks=count,
                mtbf_s=mtbf,
                young_s=reliability.young_interval_s(write, mtbf),
                daly_s=reliability.daly_interval_s(write, mtbf),
                best_s=plan.interval_s,
                goodput=plan.goodput,
                goodput_now=None
                if now is None
                else reliability.goodput(now, write, mtbf, restart_s=restart),
            )
        )
    return tuple(rows)


def _notes(
    untouched: Attempt,
    again: Attempt | None,
    start: int | None,
    cost: CheckpointCost | None,
    floor: float | None,
) -> list[str]:
    found = ["times are of one kill: kill more often for their spread"]
    if cost is None:
        found.append("no checkpoint was seen in the uninterrupted run: no interval can be advised")
    if floor is None:
        found.append("no step called backward on one scalar loss, so losses are not compared")
    elif floor > SAME:
        found.append(
            f"the losses of both runs differ by up to {floor:.1e} before anything was killed: "
            "the training is not deterministic"
        )
    if again is not None and start is not None and start + again.steps != untouched.steps:
        found.append(
            f"the killed job ended after {start + again.steps} steps, the uninterrupted one after "
            f"{untouched.steps}"
        )
    return found
