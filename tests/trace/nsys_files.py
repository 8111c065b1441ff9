"""Builds small Nsight exports, table by table, for tests of the reader."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

PID = 77
EPOCH_NS = 1_790_000_000_000_000_000
HARDWARE = 1 << 48

Row = Sequence[object]


def owner(pid: int, thread: int = 0) -> int:
    """Return a globalPid, or the globalTid of a thread."""
    return HARDWARE | pid << 24 | thread


class Export:
    """An export under construction; `write` makes the file."""

    def __init__(self, *, epoch: bool = True) -> None:
        self.tables: dict[str, tuple[Sequence[str], list[Row]]] = {}
        self.strings: dict[str | bytes, int] = {}
        if epoch:
            self.add("TARGET_INFO_SESSION_START_TIME", ("utcEpochNs",), [(EPOCH_NS,)])

    def text(self, value: str | bytes) -> int:
        return self.strings.setdefault(value, len(self.strings) + 1)

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        known = self.tables.setdefault(table, (columns, []))
        assert known[0] == columns
        known[1].extend(rows)

    def kernel(
        self, name: str, start: int, end: int, correlation: int, *, pid: int = PID, device: int = 0
    ) -> None:
        columns = (
            "start", "end", "deviceId", "streamId", "correlationId", "globalPid", "demangledName",
            "shortName",
        )  # fmt: skip
        number = self.text(name)
        row = (start, end, device, 7, correlation, owner(pid), number, number)
        self.add("CUPTI_ACTIVITY_KIND_KERNEL", columns, [row])

    def call(
        self, name: str, start: int, end: int, correlation: int, *, pid: int = PID, thread: int = 0
    ) -> None:
        columns = ("start", "end", "eventClass", "globalTid", "correlationId", "nameId")
        row = (start, end, 0, owner(pid, thread or pid), correlation, self.text(name))
        self.add("CUPTI_ACTIVITY_KIND_RUNTIME", columns, [row])

    def range(
        self, text: str | bytes, start: int, end: int | None, *, pid: int = PID, by_id: bool = False
    ) -> None:
        columns = ("start", "end", "eventType", "text", "globalTid", "textId", "domainId")
        said = (None, self.text(text)) if by_id else (text, None)
        row = (start, end, 59, said[0], owner(pid, pid), said[1], 0)
        self.add("NVTX_EVENTS", columns, [row])

    def payload(self, text: str, start: int, end: int, blob: object, *, thread: int = 0) -> None:
        columns = ("start", "end", "eventType", "globalTid", "textId", "domainId", "binaryData")
        row = (start, end, 59, owner(PID, thread or PID), self.text(text), 1, blob)
        self.add("NVTX_EVENTS", columns, [row])

    def copy(self, kind: int, start: int, end: int, correlation: int, **more: int) -> None:
        columns = (
            "start", "end", "deviceId", "streamId", "correlationId", "globalPid", "bytes",
            "copyKind", "srcKind", "dstKind", "srcDeviceId", "dstDeviceId",
        )  # fmt: skip
        places = (more.get("source", 0), more.get("target", 0))
        row = (start, end, 0, 7, correlation, owner(PID), 1 << 20, kind, 0, 2, *places)
        self.add("CUPTI_ACTIVITY_KIND_MEMCPY", columns, [row])

    def environment(self, **values: str) -> None:
        rows = [
            ("PROCESS_0:ENVIRONMENT_VARIABLE", f'{name}="{value}"')
            for name, value in values.items()
        ]
        self.add("META_DATA_CAPTURE", ("name", "value"), rows)

    def write(self, path: Path) -> Path:
        self.add("StringIds", ("id", "value"), [(i, text) for text, i in self.strings.items()])
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        for table, (columns, rows) in self.tables.items():
            named = ", ".join(f'"{column}"' for column in columns)
            connection.execute(f"CREATE TABLE {table} ({named})")
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.commit()
        connection.close()
        return path


def two_steps(*, pid: int = PID, device: int = 0, export: Export | None = None) -> Export:
    """Return an export of a process that runs two kernels in each of two steps of 1 ms."""
    made = export or Export()
    for step in range(2):
        at = 1_000_000 * step
        made.range(f"step {step}", at, at + 1_000_000, pid=pid)
        for part in range(2):
            begin = at + 100_000 * part
            correlation = 10 * step + part + 1
            made.range(
                f"aten::mm, seq = {correlation}, op_id = {correlation}",
                begin,
                begin + 50_000,
                pid=pid,
            )
            made.call("cudaLaunchKernel_v7000", begin + 1_000, begin + 5_000, correlation, pid=pid)
            made.kernel("gemm", begin + 10_000, begin + 60_000, correlation, pid=pid, device=device)
    return made
