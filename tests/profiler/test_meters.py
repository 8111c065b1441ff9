"""Device time and memory of steps, with a stand-in for torch.cuda; memory that runs out, for real.

No CUDA device was at hand: what a real one answers is not verified here.
"""

from __future__ import annotations

import inspect
import json
import pickle
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from perfkit.analyzers.memory import memory_of_steps
from perfkit.profiler.inrank import meters, nsight, out_of_memory
from perfkit.trace.run import load_rank, open_run
from perfkit.trace.steplines import read_step_file
from tests.profiler.launching import profile, ranks
from tests.profiler.window_rank import WindowRank

STATS = {"memory_stats_as_nested_dict"}


class Event:
    """An event of a device that is `behind` the host by some of them."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.number = -1

    def record(self) -> None:
        self.number = self.device.recorded
        self.device.recorded += 1

    def query(self) -> bool:
        return self.number <= self.device.recorded - 1 - self.device.behind

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds; step k takes k + 1."""
        if not (self.query() and other.query()):
            raise AssertionError("asked before the device had come so far: that would wait")
        return float(sum(range(self.number + 1, other.number + 1)))


class Device:
    """As much of torch.cuda as the meters use."""

    def __init__(self, behind: int = 0) -> None:
        self.behind = behind
        self.recorded = 0
        self.made = 0
        self.capturing = False

    def Event(self, enable_timing: bool) -> Event:
        assert enable_timing
        self.made += 1
        return Event(self)

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def synchronize(self) -> None:
        raise AssertionError("no meter may wait for the device")

    def memory_stats_as_nested_dict(self) -> dict[str, Any]:
        one = {"all": {"current": 5, "peak": 9}}
        two = {"all": {"current": 16, "peak": 32}}
        return {"allocated_bytes": one, "reserved_bytes": two, "num_alloc_retries": 3}


def pairs(fields: list[bytes]) -> dict[int, int]:
    found = {}
    for field in fields:
        found.update(json.loads(b'{"x":0' + field + b"}").get("dv", []))
    return found


@pytest.mark.parametrize("behind", [0, 1, 3])
def test_device_times_come_without_waiting(behind: int) -> None:
    device = Device(behind)
    times = meters.DeviceTimes(device)
    fields = [times(step) for step in range(10)]
    assert fields[0] == b""
    found = pairs(fields)
    assert found == {step: step * 10**6 for step in range(1, 10 - behind)}
    device.behind = 0
    assert times.finished() == [(step, step * 10**6) for step in range(10 - behind, 10)]
    assert device.made <= behind + 3  # events are used again


def test_a_graph_capture_gets_no_event_of_ours() -> None:
    device = Device()
    times = meters.DeviceTimes(device)
    times(0)
    device.capturing = True
    assert times(1) == b""
    device.capturing = False
    assert (times(2), times(3)) == (b"", b',"dv":[[3,2000000]]')
    assert device.recorded == 3


def test_a_device_that_never_answers_keeps_few_events() -> None:
    device = Device(behind=10**6)
    times = meters.DeviceTimes(device)
    assert {times(step) for step in range(500)} == {b""}
    assert len(times._pending) == meters.MOST_PENDING


def test_device_memory_is_told_in_the_window_or_always() -> None:
    line = b',"mem":[5,9,16,32,3]'
    for every, inside in ((True, False), (False, True), (False, False)):
        meter = meters.DeviceMemory(Device(), every, partial(bool, inside))
        assert meter(3) == (line if every or inside else b"")


def test_resident_memory_grows_with_what_is_held() -> None:
    def now() -> tuple[int, int]:
        (now, peak) = json.loads(b'{"x":0' + meters.resident_memory(0) + b"}")["rss"]
        return now, peak

    before = now()[0]
    held = np.ones(1 << 23)  # 64 MiB, every page touched
    after, peak = now()
    assert 60 << 20 < after - before < 90 << 20
    assert peak >= after
    assert held[0] == 1


def test_lines_with_meters_are_read(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"k": "header", "schema_version": 1}]
    for i in range(6):
        line = {"k": "step", "i": i, "t0": i * 100, "t1": i * 100 + 100, "u1": 10**18 + i}
        line |= {"dv": [[i - 2, 70 + i]]} if i > 2 else {}
        line |= {"mem": [i * 10, max(i, 3) * 10 + 5, 100, 200, 2 + i // 4], "rss": [1000 + i, 2000]}
        lines.append(line)
    lines.append({"k": "device_steps", "dv": [[4, 99]]})
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_step_file(tmp_path / "steps.jsonl").lines
    assert read.device_ns is not None and read.device_ns.tolist() == [-1, 73, 74, 75, 99, -1]
    assert read.resident_bytes is not None and read.resident_bytes.tolist()[-1] == 1005
    trace: Any = SimpleNamespace(rank=1, device_kind="cuda", device=1)
    memory = memory_of_steps(trace, read.memory)
    assert memory is not None
    assert (memory.device, memory.peak_allocated_bytes, memory.peak_step) == ("cuda:1", 55, 5)
    assert (memory.peak_reserved_bytes, memory.growth_bytes_per_step) == (200, 10.0)
    assert memory.rises
    assert (memory.retries, memory.retries_in_steps) == (3, 1)


def test_lines_of_older_runs_say_nothing_of_retries(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"k": "header", "schema_version": 1}]
    for i in range(3):
        line = {"k": "step", "i": i, "t0": i * 100, "t1": i * 100 + 100, "u1": 10**18 + i}
        lines.append({**line, "mem": [1, 2, 3, 4] if i else [1, 2]})
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_step_file(tmp_path / "steps.jsonl").lines
    trace: Any = SimpleNamespace(rank=0, device_kind="cuda", device=0)
    memory = memory_of_steps(trace, read.memory)
    assert memory is not None and memory.samples == 2
    assert (memory.retries, memory.retries_in_steps) == (None, None)


def test_the_allocator_tells_before_it_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observers: list[Any] = []
    attach = "_cuda_attach_out_of_memory_observer"
    monkeypatch.setattr(torch._C, attach, observers.append, raising=False)
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"segments": [1, 2]})
    rank = WindowRank(tmp_path)
    out_of_memory.watch(rank)
    for _ in range(3):
        observers[0](0, 1 << 30, 80 << 30, 1 << 20)
    assert [record["file"] for record in rank.records] == ["oom-1.pickle", "oom-2.pickle"]
    assert pickle.loads((tmp_path / "oom-1.pickle").read_bytes()) == {"segments": [1, 2]}
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: 1 / 0)
    out_of_memory.watch(rank)
    observers[1](0, 1, 2, 3)  # our own failure does not reach the program
    assert len(rank.warnings) == 1


def test_what_is_asked_of_cuda_is_what_torch_has() -> None:
    """A CPU build lacks the functions themselves; torch's own lists of them are in every build."""
    known = (Path(torch.__file__).parent / "_dynamo" / "trace_rules.py").read_text()
    assert f'"torch._C.{out_of_memory.ATTACH}"' in known
    source = inspect.getsource(torch.cuda.memory.memory_stats)
    assert all(f'"{key}' in source for key in ("allocated_bytes.", "reserved_bytes."))
    assert '"num_alloc_retries"' in source
    asked = inspect.getsource(meters) + inspect.getsource(nsight)
    of_cuda = set(re.findall(r"\b(?:self|torch)\.cuda\.(\w+)", asked))
    assert of_cuda == {"Event", "cudart", "is_current_stream_capturing", *STATS}
    assert all(callable(getattr(torch.cuda, name)) for name in of_cuda)
    assert inspect.signature(torch.cuda.Event).parameters["enable_timing"].default is False
    assert all(hasattr(torch.cuda.Event, name) for name in ("record", "query", "elapsed_time"))


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory of the past"), False),
    ],
)
def test_which_exceptions_are_of_memory(error: BaseException, is_memory: bool) -> None:
    assert out_of_memory.is_out_of_memory(error) == is_memory


SCRIPT = """
import torch
w = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(5):
    w.sum().backward()
    optimizer.step()
    if step == 3:
        torch.empty(1 << 50)
"""


def test_a_rank_that_runs_out_of_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = profile(tmp_path / "run", sys.executable, str(tmp_path / "train.py"), memory=True)
    assert done.returncode == 1
    assert "can't allocate memory" in done.stderr
    (rank,) = ranks(tmp_path / "run")
    assert all(record["rss"][0] > 1 << 20 for record in rank.records("step")[1:])
    run = open_run([tmp_path / "run"])
    (issue,) = [i for i in run.ranks[0].issues if i.code == "RANK_OUT_OF_MEMORY"]
    assert issue.message.startswith("rank 0 ran out of memory: RuntimeError: ")
    assert "resident after its last step" in issue.message
    assert load_rank(run.ranks[0], cache=None).steps.index.tolist() == []
