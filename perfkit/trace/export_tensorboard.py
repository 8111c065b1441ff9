"""Writes a run's step lines and telemetry as scalars that TensorBoard shows.

One folder a curve family, as TensorBoard wants: rank00000, ..., and machine-NODE. A file is a
TFRecord file (length, masked CRC-32C of it, data, masked CRC-32C of that) of Event messages
(tensorflow/core/util/event.proto), encoded here: of them only wall_time = 1, step = 2,
file_version = 3, summary = 5, and in it tag = 1 and simple_value = 2.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from perfkit.trace.model import NodeRecord, RankRecord, Run
from perfkit.trace.redaction import Redaction
from perfkit.trace.telemetry import Sample

VERSION = b"brain.Event:2"
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h
Event = tuple[float, int, Mapping[str, float]]


def event_files(run: Run, redaction: Redaction) -> Iterator[tuple[Path, Iterator[bytes]]]:
    """Yield the place of every file below the target, and its content in pieces."""
    for record in run.ranks:
        if len(record.lines.index):
            began = int(record.lines.start_ns[0])
            place = Path(f"rank{record.rank:05d}") / _file_name(began)
            yield place, encoded(began / 1e9, rank_events(record))
    for node in run.nodes:
        if node.telemetry is not None and node.telemetry.samples:
            first = node.telemetry.samples[0]
            folder = f"machine-{_plain(redaction.host(node.node))}"
            place = Path(folder) / _file_name(first.u - first.dt)
            yield place, encoded((first.u - first.dt) / 1e9, machine_events(node))


def rank_events(record: RankRecord) -> Iterator[Event]:
    """Yield the scalars of each step: milliseconds, and work per second where it is known."""
    lines = record.lines
    for i, step in enumerate(lines.index.tolist()):
        spent = int(lines.end_ns[i] - lines.start_ns[i])
        values = {
            "step/ms": spent / 1e6,
            "step/input_wait_ms": int(lines.input_wait_ns[i]) / 1e6,
            "step/checkpoint_ms": int(lines.checkpoint_ns[i]) / 1e6,
            "step/profiled": float(lines.profiled[i]),
        }
        for name, counts in (("samples", lines.samples), ("tokens", lines.tokens)):
            if counts[i] >= 0 and spent > 0:
                values[f"throughput/{name}_per_s"] = int(counts[i]) / spent * 1e9
        yield int(lines.end_ns[i]) / 1e9, step, values


def machine_events(node: NodeRecord) -> Iterator[Event]:
    """Yield the scalars of each sample; the step is the second since the first sample."""
    assert node.telemetry is not None
    samples = node.telemetry.samples
    began = samples[0].u - samples[0].dt
    for sample in samples:
        yield sample.u / 1e9, (sample.u - began) // 1_000_000_000, _of_machine(sample)


def _of_machine(sample: Sample) -> dict[str, float]:
    host = sample.host
    values: dict[str, float | None] = {
        "machine/processors_in_use": _over(host.busy_ns, sample.dt),
        "machine/processors_of_run": _over(host.own_ns, sample.dt),
        "machine/available_memory_bytes": host.mem_available,
    }
    for gpu in sample.gpus or ():
        values |= {
            f"gpu{gpu.index}/utilisation_percent": gpu.util,
            f"gpu{gpu.index}/sm_mhz": gpu.sm_mhz,
            f"gpu{gpu.index}/power_w": gpu.power_w,
            f"gpu{gpu.index}/temp_c": gpu.temp_c,
            f"gpu{gpu.index}/memory_bytes": gpu.mem_used,
        }
    return {name: float(value) for name, value in values.items() if value is not None}


def _over(value: int | None, by: int) -> float | None:
    return None if value is None else value / by


def encoded(began_s: float, events: Iterable[Event]) -> Iterator[bytes]:
    """Yield the records of a file: its version, then one event after the other."""
    yield _record(_double(1, began_s) + _bytes(3, VERSION))
    for wall_time_s, step, values in events:
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        yield _record(
            _double(1, wall_time_s) + b"\x10" + _varint(max(step, 0)) + _bytes(5, summary)
        )


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    rotated = ((crc >> 15) | (crc << 17)) + _MASK_DELTA
    return struct.pack("<I", rotated & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of the data (RFC 3720, B.4).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        rows.append(value)
    return tuple(rows)


_TABLE = _table()


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _file_name(began_ns: int) -> str:
    return f"events.out.tfevents.{began_ns // 1_000_000_000}.perfkit"


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60] or "0"
