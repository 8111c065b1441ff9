"""Ceilings of a CPU by threads: which a rank is held against, and the peak that ranks share.

A product on one thread cannot reach what two threads reach. Each rank's operators are held against
ceilings of as many threads as it computed with, or against none; the peak for utilization is that
of all threads which worked on a machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfkit.roofline.ceilings import Ceilings, threads_in_words
from perfkit.trace.model import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Ceilings whose arithmetic is the peak of one device, and how many devices worked."""

    ceilings: Ceilings | None
    devices: float
    note: str = ""  # how the peak was reckoned from other numbers of threads, "" if it was not


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMeasured:
    """Why operators have no roof of their own number of threads, and the command that brings it."""

    why: str
    remedy: str


def threads_of(run: Run) -> Mapping[int, int]:
    """Return the threads that each rank computed with, of ranks that recorded them."""
    known = ((record.rank, record.facts.get("threads")) for record in run.ranks)
    return {rank: count for rank, count in known if isinstance(count, int) and count > 0}


def ceilings_of(
    measured: Ceilings | None, threads: Mapping[int, int], rank: int
) -> Ceilings | None:
    """Return the ceilings of as many threads as that rank computed with."""
    return measured.of_threads(threads.get(rank)) if measured is not None else None


def shared_peak(run: Run, ranks_of: Mapping[str, Sequence[int]], measured: Ceilings | None) -> Peak:
    """Return the peak of the CPUs that ranks worked on. ranks_of: the ranks of each machine.

    A machine's ranks share its processors, so that more threads than it has count as those it has.
    Where as many threads were measured together, that is a machine's peak; else it grows as the
    threads do. Without a record of threads, a machine is one device.
    """
    threads = threads_of(run)
    told = all(rank in threads for ranks in ranks_of.values() for rank in ranks)
    if measured is None or not told:
        return Peak(ceilings=measured, devices=len(ranks_of))
    most = _available(run)
    used = [sum(threads[rank] for rank in ranks) for ranks in ranks_of.values()]
    used = [min(count, most or count) for count in used]
    if set(used) <= set(measured.threads) and len(set(used)) == 1:
        return Peak(ceilings=measured.of_threads(used[0]), devices=len(used))
    times = sum(used) / max(measured.machine.threads, 1)
    note = f"counted as {times:g} times that, for {threads_in_words(sum(used))}"
    return Peak(ceilings=measured, devices=times, note=note)


def not_measured(run: Run, ranks: Sequence[int], measured: Ceilings | None) -> NotMeasured | None:
    """Say that ranks computed with numbers of threads that the ceilings do not hold; or None."""
    threads = threads_of(run)
    used = {threads[rank] for rank in ranks if rank in threads}
    if measured is None or used <= set(measured.threads):
        return None
    told = " and ".join(map(threads_in_words, sorted(used - set(measured.threads))))
    held = " and ".join(map(threads_in_words, sorted(measured.threads)))
    return NotMeasured(
        why=f"a rank computed with {told}, and the ceilings are of {held}",
        remedy=f"on that machine: {_command(measured, used)}",
    )


def _command(measured: Ceilings, used: set[int]) -> str:
    """Return the command that measures what the file holds, and these numbers of threads too."""
    counts = ",".join(map(str, sorted({*measured.threads, *used})))
    ranks = max((row.ranks for row in measured.network if row.nodes == 1), default=0)
    parts = ["perfkit ceilings", f"--threads {counts}"]
    parts += [f"--ranks {ranks}"] if ranks > 1 else []
    parts += ["--quick"] if measured.quick else []
    return " ".join([*parts, "--out RUN/ceilings.json"])


def _available(run: Run) -> int:
    """Return the processors that a rank may use, of the rank that may use most; 0: unknown."""
    known = (record.facts.get("cpus_available") for record in run.ranks)
    return max((count for count in known if isinstance(count, int)), default=0)
