"""What the kernel says of this machine and of the ranks on it, from /proc.

Counters are cumulative in the kernel; a sample holds their growth since the sample before, so that
a line stands for itself. What a kernel does not offer is null.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SECTOR_BYTES = 512  # the unit of /proc/diskstats on every device
VIRTUAL_DISKS = ("loop", "ram", "zram", "dm-", "md", "nbd")
GROWING = ("busy_ns", "steal_ns", "own_ns", "disk_read", "disk_written", "net_sent", "net_received")


class HostCounters:
    """The machine's counters, each sample as growth since the one before."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.proc = proc
        self._before = self._totals()

    def sample(self) -> dict[str, int | float | None]:
        """Growth of the counters since the last call, and what is now of the rest."""
        now = self._totals()
        grown = {name: _growth(self._before.get(name), now.get(name)) for name in GROWING}
        self._before = now
        return {**grown, **self._memory(), "load": self._load()}

    def _totals(self) -> dict[str, int | None]:
        return {**self._processors(), "own_ns": self._own(), **self._disks(), **self._network()}

    def _processors(self) -> dict[str, int | None]:
        """Processor time in use and stolen, ns over all processors."""
        try:
            fields = (self.proc / "stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return {}
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
        del idle, iowait
        busy = user + nice + system + irq + softirq + steal
        return {"busy_ns": _ns(busy), "steal_ns": _ns(steal)}

    def _own(self) -> int | None:
        """Processor time of this process and all below it, ns, ended children included."""
        total = 0
        try:
            for pid in family(os.getpid(), self.proc):
                total += processor_ticks(pid, self.proc)
        except OSError:
            return None
        return _ns(total)

    def _disks(self) -> dict[str, int | None]:
        """Bytes read and written by whole physical disks; partitions would count twice."""
        read = written = 0
        try:
            lines = (self.proc / "diskstats").read_text().splitlines()
        except OSError:
            return {}
        for line in lines:
            fields = line.split()
            name = fields[2]
            if name.startswith(VIRTUAL_DISKS) or not Path(f"/sys/block/{name}").exists():
                continue
            read += int(fields[5]) * SECTOR_BYTES
            written += int(fields[9]) * SECTOR_BYTES
        return {"disk_read": read, "disk_written": written}

    def _network(self) -> dict[str, int | None]:
        """Bytes over all interfaces of this network namespace but the loopback."""
        sent = received = 0
        try:
            lines = (self.proc / "net/dev").read_text().splitlines()[2:]
        except OSError:
            return {}
        for line in lines:
            name, _, counters = line.partition(":")
            if name.strip() != "lo":
                received += int(counters.split()[0])
                sent += int(counters.split()[8])
        return {"net_sent": sent, "net_received": received}

    def _memory(self) -> dict[str, int | None]:
        found: dict[str, int] = {}
        with suppress(OSError):
            for line in (self.proc / "meminfo").read_text().splitlines():
                name, _, value = line.partition(":")
                found[name] = int(value.split()[0]) * 1024
        return {
            "mem_available": found.get("MemAvailable"),
            "swap_used": found["SwapTotal"] - found["SwapFree"] if "SwapFree" in found else None,
        }

    def _load(self) -> float | None:
        """Processes that run or want to, mean over the last minute."""
        try:
            return float((self.proc / "loadavg").read_text().split()[0])
        except (OSError, ValueError):
            return None


class RankCounters:
    """One rank process: its memory, its processor time, its main thread's time in the run queue."""

    def __init__(self, rank: int, pid: int, proc: Path = Path("/proc")) -> None:
        self.rank = rank
        self.pid = pid
        self.proc = proc
        self._cpu: int | None = None
        self._queued: int | None = None

    def sample(self) -> dict[str, int | None] | None:
        """Growth since the last call; None once the process has ended."""
        try:
            resident = int((self.proc / f"{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES
            cpu = _ns(processor_ticks(self.pid, self.proc))
        except OSError:
            return None
        if not resident:  # a zombie: it has ended and nobody has asked how
            return None
        queued = self._in_run_queue()
        found = {
            "rank": self.rank,
            "pid": self.pid,
            "rss": resident,
            "cpu_ns": _growth(self._cpu, cpu),
            "queued_ns": _growth(self._queued, queued),
        }
        self._cpu, self._queued = cpu, queued
        return found

    def _in_run_queue(self) -> int | None:
        """Time in which the main thread could have run and no processor was free, ns."""
        try:
            return int((self.proc / f"{self.pid}/schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None


def family(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """`pid` and every process below it. Raises OSError where the kernel does not list children."""
    found, fresh = [pid], [pid]
    (proc / f"{pid}/task/{pid}/children").read_text()  # not every kernel has it
    while fresh:
        children = [child for parent in fresh for child in _children(parent, proc)]
        found += children
        fresh = children
    return found


def _children(pid: int, proc: Path) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for listed in (proc / f"{pid}/task").glob("*/children"):
            children += [int(child) for child in listed.read_text().split()]
    return children


def processor_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """Clock ticks of the process and of its children that have ended; 0 once it has ended."""
    try:
        fields = (proc / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def _ns(ticks: int) -> int:
    return ticks * 1_000_000_000 // TICKS_PER_S


def _growth(before: int | None, now: int | None) -> int | None:
    if before is None or now is None:
        return None
    return max(now - before, 0)
