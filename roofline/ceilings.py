"""Ceilings of a machine: measured ones from a file, published ones behind them, and which was used.

The file (ceilings.json) is written by `perfkit ceilings`; every value says how it was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from perfkit import units
from perfkit.errors import InputError
from perfkit.roofline.hardware import Hardware

SCHEMA_VERSION = 1
WITHOUT_THREADS = ("storage_sequential", "storage_random")
"""Quantities that one thread measures, however many compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Clocks around a measurement, in MHz; None where the machine does not tell."""

    before_mhz: float | None = None
    after_mhz: float | None = None
    sustained_mhz: float | None = None  # while the sustained run was going on

    @property
    def moved(self) -> float | None:
        """Relative change over the measurement."""
        if not self.before_mhz or self.after_mhz is None:
            return None
        return self.after_mhz / self.before_mhz - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """One measured ceiling. `value` is the best median over the settings that were tried.

    quantity: matrix, vector (FLOP/s); copy, triad, h2d, d2h, storage_sequential, storage_random
    (bytes/s); launch (s). precision: of matrix and vector.
    """

    quantity: str
    value: float
    unit: str
    method: str
    precision: str = ""
    samples: int = 0
    spread: float | None = None  # interquartile range / median of the best setting
    sustained: float | None = None  # mean over a longer run at the best setting
    clocks: Clocks = Clocks()


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePoint:
    """Copy bandwidth at one working set, read plus written bytes."""

    working_set_bytes: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectivePoint:
    """One size of a collective sweep; bytes is S of nccl-tests, seconds the median over repeats."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCeiling:
    """A collective over one group of ranks: bus bandwidth and start-up time from a size sweep."""

    collective: str
    backend: str
    ranks: int
    nodes: int  # 1: within a node
    bus_bytes_per_s: float
    alpha_s: float
    method: str
    points: tuple[CollectivePoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was measured: the device, or the host where there is none."""

    device_kind: str  # cpu, cuda, rocm
    device_name: str
    memory_bytes: int
    threads: int  # used for CPU measurements
    host: str  # CPU model; no host name
    torch: str
    last_level_cache_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherThreads:
    """What the same CPU does with another number of threads than the file's `machine.threads`."""

    threads: int
    ceilings: tuple[Ceiling, ...]
    copy_by_working_set: tuple[CachePoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The content of ceilings.json. `ceilings` and the copies are of `machine.threads` threads."""

    schema_version: int
    machine: Machine
    measured_utc: str
    quick: bool
    ceilings: tuple[Ceiling, ...]
    copy_by_working_set: tuple[CachePoint, ...] = ()
    network: tuple[NetworkCeiling, ...] = ()
    warnings: tuple[str, ...] = ()
    other_threads: tuple[OtherThreads, ...] = ()  # of a CPU

    @property
    def threads(self) -> tuple[int, ...]:
        """Numbers of threads that a CPU was measured with, the file's first."""
        return (self.machine.threads, *(entry.threads for entry in self.other_threads))

    def of_threads(self, count: int | None) -> "Ceilings":
        """Return what a process that computes with so many threads is held against.

        As they are where the count is not known (None) or a device does the computing. Where a CPU
        was not measured with so many threads, only what does not depend on them is left.
        """
        if count is None or self.machine.device_kind != "cpu" or count == self.machine.threads:
            return self
        found = next((entry for entry in self.other_threads if entry.threads == count), None)
        theirs = tuple(c for c in self.ceilings if c.quantity in WITHOUT_THREADS)
        return replace(
            self,
            machine=replace(self.machine, threads=count),
            ceilings=(*found.ceilings, *theirs) if found else theirs,
            copy_by_working_set=found.copy_by_working_set if found else (),
            other_threads=(),
        )

    def get(self, quantity: str, precision: str = "") -> Ceiling | None:
        """The ceiling of that quantity and precision, if it was measured."""
        matches = (c for c in self.ceilings if (c.quantity, c.precision) == (quantity, precision))
        return next(matches, None)


def decode(text: bytes, where: str = "ceilings") -> Ceilings:
    """Ceilings from the bytes of a file; InputError if it is something else."""
    try:
        found = msgspec.json.decode(text, type=Ceilings)
    except msgspec.DecodeError as error:
        raise InputError(
            f"{where} is no ceilings file: {error}",
            hint="write one with: perfkit ceilings --out FILE",
        ) from None
    if found.schema_version != SCHEMA_VERSION:
        raise InputError(
            f"{where} has schema version {found.schema_version}, not {SCHEMA_VERSION}",
            hint="measure again with: perfkit ceilings --out FILE",
        )
    return found


def encode(ceilings: Ceilings) -> bytes:
    """The bytes of a ceilings file, indented, the same for equal content."""
    return msgspec.json.format(msgspec.json.encode(ceilings), indent=2) + b"\n"


def read(path: Path) -> Ceilings:
    """Ceilings from a file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read ceilings from {path}: {error.strerror}",
            hint="write them with: perfkit ceilings --out FILE",
        ) from None
    return decode(text, str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One ceiling as it is used: its value and where it comes from."""

    value: float
    source: str  # "measured ..." or "published ..."


@dataclass(frozen=True, slots=True)
class Roofs:
    """Measured ceilings with published ones behind them; every lookup says which it used."""

    measured: Ceilings | None = None
    published: Hardware | None = None

    def matrix(self, precision: str) -> Roof | None:
        """Peak of matrix arithmetic in FLOP/s."""
        return self._measured("matrix", precision) or self._published_matrix(precision)

    def vector(self) -> Roof | None:
        """Peak of fp32 arithmetic outside the matrix units in FLOP/s.

        A CPU has no matrix units apart: its fp32 products run on the vector units, so they measure
        this ceiling too.
        """
        measured = self._measured("vector", "fp32")
        if measured is None and self.measured and self.measured.machine.device_kind == "cpu":
            measured = self._measured("matrix", "fp32")
        if measured or self.published is None:
            return measured
        return self._publish(self.published.vector_fp32_flop_per_s)

    def memory(self) -> Roof | None:
        """Bandwidth of main (device) memory in bytes/s."""
        measured = self._measured("copy")
        if measured or self.published is None:
            return measured
        return self._publish(self.published.memory_bytes_per_s)

    def cached(self, working_set_bytes: int) -> Roof | None:
        """Bandwidth when so much data lies in the last-level cache; None if it does not fit."""
        points = self.measured.copy_by_working_set if self.measured else ()
        cache = self.last_level_cache_bytes
        if cache is None or working_set_bytes > cache:
            return None
        # Nothing that fits is slower than a larger set that fits: the fastest such set bounds it.
        holding = [p for p in points if working_set_bytes <= p.working_set_bytes <= cache]
        if not holding:
            return None
        point = max(holding, key=lambda p: p.bytes_per_s)
        size = units.size(point.working_set_bytes)
        return Roof(value=point.bytes_per_s, source=f"measured: copy over a working set of {size}")

    def launch(self) -> Roof | None:
        """Least time between two launches in seconds."""
        return self._measured("launch")

    def host_link(self, direction: str) -> Roof | None:
        """Bandwidth between host and device in bytes/s; direction is h2d or d2h."""
        measured = self._measured(direction)
        if measured or self.published is None or self.published.pcie_bytes_per_s is None:
            return measured
        return self._publish(self.published.pcie_bytes_per_s)

    def network(self, collective: str, nodes: int) -> Roof | None:
        """Bus bandwidth of a collective within a node (1) or across nodes, in bytes/s."""
        found = self.network_ceiling(collective, nodes)
        if found is not None:
            return Roof(value=found.bus_bytes_per_s, source=f"measured: {found.method}")
        published = self.published
        if published is None or nodes > 1 or published.link_bytes_per_s is None:
            return None
        return self._publish(published.link_bytes_per_s)

    def network_ceiling(self, collective: str, nodes: int) -> NetworkCeiling | None:
        """The measurement behind `network`: that collective, else all-reduce, on that level."""
        rows = self.measured.network if self.measured else ()
        level = [row for row in rows if (row.nodes > 1) == (nodes > 1)]
        return _first(level, collective) or _first(level, "all_reduce")

    @property
    def last_level_cache_bytes(self) -> int | None:
        """Size of the last-level cache, measured or published."""
        if self.measured and self.measured.machine.last_level_cache_bytes:
            return self.measured.machine.last_level_cache_bytes
        return self.published.last_level_cache_bytes if self.published else None

    def fits_cache(self, working_set_bytes: int) -> bool:
        """Whether so much data fits the last-level cache, as far as its size is known."""
        return working_set_bytes <= (self.last_level_cache_bytes or 0)

    def _measured(self, quantity: str, precision: str = "") -> Roof | None:
        found = self.measured.get(quantity, precision) if self.measured else None
        if found is None or self.measured is None:
            return None
        machine = self.measured.machine
        by = f", {threads_in_words(machine.threads)}" if machine.device_kind == "cpu" else ""
        return Roof(value=found.value, source=f"measured: {found.method}{by}")

    def _published_matrix(self, precision: str) -> Roof | None:
        if self.published is None:
            return None
        peak = self.published.matrix_flop_per_s.get(precision)
        return self._publish(peak) if peak else None

    def _publish(self, value: float) -> Roof:
        assert self.published is not None
        source = f"published: {self.published.name} ({self.published.source})"
        return Roof(value=value, source=source)


def threads_in_words(count: int) -> str:
    """Return "1 thread", "2 threads"."""
    return f"{count} thread{'s' * (count != 1)}"


def _first(rows: Sequence[NetworkCeiling], collective: str) -> NetworkCeiling | None:
    named = [row for row in rows if row.collective == collective]
    return max(named, key=lambda row: row.ranks, default=None)
