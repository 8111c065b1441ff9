"""Memory of a rank: peaks, the step of the peak, growth, and a course that keeps its maxima."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfkit.analyzers.memory import STRETCHES, rank_memory
from perfkit.trace.model import NONE, MemorySamples, RankTrace
from perfkit.trace.run import load_rank, open_run
from tests.builder_items import step
from tests.builders import ORIGIN_NS, rank_trace

GIB = 1 << 30


def traced(samples: list[tuple[float, int, int, int]], *, device_kind: str = "cuda") -> RankTrace:
    """Five steps of 10 ms; samples are (at_ms, device, allocated, reserved)."""
    trace = rank_trace(
        *(step(i, at_ms=10.0 * i, ms=10.0) for i in range(5)), device_kind=device_kind
    )
    columns = list(zip(*samples, strict=True))
    return replace(
        trace,
        memory=MemorySamples(
            at_ns=ORIGIN_NS + np.array([round(at * 1e6) for at in columns[0]], dtype=np.int64),
            device=np.array(columns[1], dtype=np.int16),
            allocated_bytes=np.array(columns[2], dtype=np.int64),
            reserved_bytes=np.array(columns[3], dtype=np.int64),
        ),
    )


def test_the_peak_is_that_of_the_rank_s_own_device() -> None:
    found = rank_memory(
        traced([(1, 0, 2 * GIB, 4 * GIB), (22, 0, 3 * GIB, 4 * GIB), (23, 1, 9 * GIB, 9 * GIB)])
    )
    assert found is not None
    assert (found.peak_allocated_bytes, found.peak_reserved_bytes) == (3 * GIB, 4 * GIB)
    assert (found.device, found.peak_step, found.samples) == ("cuda:0", 2, 2)


def test_a_run_on_the_host_is_asked_for_the_host_s_memory() -> None:
    found = rank_memory(traced([(1, NONE, GIB, 0), (2, 0, 5 * GIB, 5 * GIB)], device_kind="cpu"))
    assert found is not None and found.peak_allocated_bytes == GIB and found.device == "cpu"


def test_a_peak_before_the_first_step_is_outside_the_steps() -> None:
    found = rank_memory(traced([(-5, 0, 3 * GIB, 0), (1, 0, GIB, 0)]))
    assert found is not None and found.peak_step is None


@pytest.mark.parametrize("leak", [0, 1 << 20])
def test_growth_is_that_of_the_ends_of_steps(leak: int) -> None:
    rows = []
    for i in range(5):
        rows += [(10.0 * i + 3, 0, GIB + 500_000_000, 0), (10.0 * i + 9, 0, GIB + i * leak, 0)]
    found = rank_memory(traced(rows))
    assert found is not None and found.growth_bytes_per_step == leak


def test_growth_needs_three_whole_steps() -> None:
    found = rank_memory(traced([(31.0, 0, GIB, 0), (41.0, 0, GIB, 0)]))
    assert found is not None and found.growth_bytes_per_step is None


def test_a_long_course_keeps_its_maxima() -> None:
    rows = [(i * 0.005, 0, 100 + i % 97, 200) for i in range(10_000)]
    rows[4321] = (4321 * 0.005, 0, 10_000, 200)
    found = rank_memory(traced(rows))
    assert found is not None and len(found.series) <= STRETCHES
    assert max(point.allocated_bytes for point in found.series) == 10_000
    assert [p.at_ms for p in found.series] == sorted(p.at_ms for p in found.series)


def test_nothing_recorded_is_none() -> None:
    assert rank_memory(rank_trace(step(0, at_ms=0.0, ms=10.0))) is None
    assert rank_memory(traced([(1, 1, GIB, 0)])) is None


def test_a_real_trace_of_five_steps_is_steady(shared_traces: Path) -> None:
    run = open_run([shared_traces / "kineto" / "hta_v100_5steps_54MB.json.gz"])
    found = rank_memory(load_rank(run.ranks[0], cache=None))
    assert found is not None
    assert found.peak_allocated_bytes == 6_629_508_096  # largest Total Allocated of cuda:1
    assert found.peak_reserved_bytes == 12_782_141_440
    assert found.growth_bytes_per_step == pytest.approx(0, abs=1 << 20)
