"""Curves over the run: few enough points, at the right times, with the samples' own means."""

import pytest

from perfkit.analyzers.telemetry_series import gpu_points, load_points, points_per_curve
from perfkit.trace.telemetry import GpuSample, HostSample, Sample

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND


def samples(count: int) -> list[Sample]:
    return [
        Sample(
            BEGIN + (i + 1) * SECOND,
            SECOND,
            HostSample(busy_ns=i * SECOND, own_ns=SECOND // 2, mem_available=1000 - i),
            (GpuSample(0, sm_mhz=1000.0 + i, power_w=None, throttle=0x20 if i == 5 else 0x4),),
        )
        for i in range(count)
    ]


def test_few_samples_are_the_points() -> None:
    points = load_points(samples(4), BEGIN, most=10)
    assert [p.at_s for p in points] == [0.5, 1.5, 2.5, 3.5]
    assert [p.busy_cores for p in points] == [0.0, 1.0, 2.0, 3.0]
    assert {p.own_cores for p in points} == {0.5}


def test_many_samples_are_joined_by_mean_and_least() -> None:
    points = load_points(samples(100), BEGIN, most=10)
    assert len(points) == 10
    assert [p.at_s for p in points] == [5.0 + 10 * i for i in range(10)]
    assert [p.busy_cores for p in points] == [4.5 + 10 * i for i in range(10)]
    assert [p.free_memory_bytes for p in points] == [991 - 10 * i for i in range(10)]


def test_a_gpu_is_slowed_where_any_sample_was() -> None:
    points = gpu_points(samples(20), 0, BEGIN, most=4)
    assert [p.slowed for p in points] == [False, True, False, False]
    assert points[0].sm_mhz == pytest.approx(1002.0)
    assert points[0].power_w is None
    assert gpu_points(samples(20), 1, BEGIN, most=4) == ()


def test_the_budget_of_points_is_kept() -> None:
    assert points_per_curve(3) == 200
    assert points_per_curve(64 * 9) == 10
    assert points_per_curve(0) == 200
