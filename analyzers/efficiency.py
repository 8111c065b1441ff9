"""How efficiently the ranks work together: the POP/TALP tree of multiplicative factors.

With u useful computation, h host work and o I/O of each rank (seconds), and T the elapsed time:
parallel efficiency = mean(u)/T = load balance * orchestration * I/O * communication, and
communication = serialisation * transfer when the time T* on an ideal network is known by replay.
Each factor lies in (0, 1] and says what share of time the cause left over; POP calls 0.8 and
more acceptable. Sources: POP metrics (co-design.pop-coe.eu), BSC basicanalysis; the host and I/O
factors are this project's telescoping extension (models.md 1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit.analyzers.refusal import Refusal

ACCEPTABLE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyTree:
    """The factors of one run; None where the capture cannot tell."""

    parallel: float
    load_balance: float  # mean(u) / max(u): unequal computation
    orchestration: float  # max(u) / max(u+h): the host keeps the device waiting
    io: float  # max(u+h) / max(u+h+o): input, copies, checkpoints
    communication: float  # max(u+h+o) / T: transfer and waits that remain
    serialisation: float | None  # dependencies between ranks, even on an ideal network
    transfer: float | None  # T* / T: what the real network adds


def efficiency_tree(
    useful_s: Sequence[float],
    elapsed_s: float,
    *,
    host_s: Sequence[float] | None = None,
    io_s: Sequence[float] | None = None,
    ideal_network_s: float | None = None,
) -> EfficiencyTree | Refusal:
    """Return the tree for ranks with the given times, one entry a rank, over one elapsed time.

    Refused: no useful time, and times of a rank that exceed the elapsed time (they overlap, so
    they are not exclusive). `ideal_network_s` is the replayed time without transfer costs.
    """
    ranks = len(useful_s)
    host = host_s if host_s is not None else [0.0] * ranks
    io = io_s if io_s is not None else [0.0] * ranks
    if not ranks or not max(useful_s) > 0 or not elapsed_s > 0:
        return Refusal(reason="no rank has useful computation in the window")
    with_host = [u + h for u, h in zip(useful_s, host, strict=True)]
    with_io = [w + o for w, o in zip(with_host, io, strict=True)]
    if max(with_io) > elapsed_s * (1 + 1e-9):
        return Refusal(reason="a rank's exclusive times exceed the elapsed time")
    mean = sum(useful_s) / ranks
    communication = max(with_io) / elapsed_s
    transfer = ideal_network_s / elapsed_s if ideal_network_s is not None else None
    return EfficiencyTree(
        parallel=mean / elapsed_s,
        load_balance=mean / max(useful_s),
        orchestration=max(useful_s) / max(with_host),
        io=max(with_host) / max(with_io),
        communication=communication,
        serialisation=communication / transfer if transfer else None,
        transfer=transfer,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalEfficiency:
    """One point of a scaling series against its reference point."""

    parallel: float
    computation_scalability: float
    overall: float
    speed_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured run: useful time summed over ranks, elapsed time, number of ranks."""

    useful_sum_s: float
    elapsed_s: float
    ranks: int


def global_efficiency(reference: Point, point: Point, *, weak: bool) -> GlobalEfficiency:
    """Return parallel efficiency * computation scalability against a reference run.

    Strong scaling keeps the total work, weak scaling the work of a rank.
    """
    growth = point.ranks / reference.ranks if weak else 1.0
    scalability = reference.useful_sum_s / point.useful_sum_s * growth
    parallel = point.useful_sum_s / point.ranks / point.elapsed_s
    return GlobalEfficiency(
        parallel=parallel,
        computation_scalability=scalability,
        overall=parallel * scalability,
        speed_up=reference.elapsed_s / point.elapsed_s * growth,
    )
