"""Reads nodes/NODE/telemetry.jsonl: samples of one machine while the command ran."""

from dataclasses import dataclass
from pathlib import Path

import msgspec


class HostSample(msgspec.Struct, frozen=True, gc=False):
    """The machine in one interval. Times in ns over all processors; None: not offered there."""

    busy_ns: int | None = None
    own_ns: int | None = None  # of the command and all below it
    steal_ns: int | None = None
    disk_read: int | None = None  # bytes
    disk_written: int | None = None
    net_sent: int | None = None
    net_received: int | None = None
    mem_available: int | None = None
    swap_used: int | None = None
    load: float | None = None


class RankSample(msgspec.Struct, frozen=True, gc=False):
    """One rank process in one interval."""

    rank: int
    pid: int = 0
    rss: int | None = None  # bytes
    cpu_ns: int | None = None
    queued_ns: int | None = None  # its main thread could run and found no free processor


class GpuSample(msgspec.Struct, frozen=True, gc=False):
    """One GPU at the end of an interval, as NVML states it."""

    index: int
    util: float | None = None  # percent
    mem_used: int | None = None  # bytes
    sm_mhz: float | None = None
    mem_mhz: float | None = None
    power_w: float | None = None
    temp_c: float | None = None
    throttle: int | None = None  # bit mask of clock throttle reasons
    pcie_tx: int | None = None  # bytes per second
    pcie_rx: int | None = None
    ecc: int | None = None  # uncorrected errors since the driver was loaded
    xid: tuple[int, ...] = ()


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One line: what happened in the `dt` ns before Unix time `u`."""

    u: int
    dt: int
    host: HostSample = HostSample()
    gpus: tuple[GpuSample, ...] | None = None
    ranks: tuple[RankSample, ...] = ()


class GpuFacts(msgspec.Struct, frozen=True):
    """What does not change of a GPU."""

    index: int
    name: str | None = None
    uuid: str | None = None
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    max_sm_mhz: float | None = None


class _Header(msgspec.Struct, frozen=True):
    node: str = ""
    processors: int = 0
    gpus: tuple[GpuFacts, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The samples of one node in the order they were taken."""

    node: str
    processors: int  # of the whole machine; 0: not recorded
    gpus: tuple[GpuFacts, ...]
    samples: tuple[Sample, ...]


_HEADER = msgspec.json.Decoder(_Header)
_SAMPLE = msgspec.json.Decoder(Sample)


def read_telemetry(path: Path) -> Telemetry | None:
    """Return the samples of a file; None where there is none. Damaged lines are left out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    header, samples = _Header(), []
    for number, line in enumerate(lines):
        try:
            if number == 0:
                header = _HEADER.decode(line)
            else:
                samples.append(_SAMPLE.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    usable = tuple(s for s in samples if s.dt > 0)
    return Telemetry(
        node=header.node,
        processors=header.processors,
        gpus=header.gpus or (),
        samples=usable,
    )
