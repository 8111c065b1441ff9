"""Samples of a machine become loads and findings; on a quiet machine they become none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfkit.analyzers.analysis import analyze, decode, encode
from perfkit.analyzers.result import Analysis
from perfkit.trace.model import NodeRecord
from perfkit.trace.telemetry import GpuFacts, GpuSample, HostSample, RankSample, Sample, Telemetry
from tests.builders import op, rank_trace, run_of, step, step_lines

SECOND = 1_000_000_000
MS = 1_000_000


def analysed(*samples: Sample, gpus: tuple[GpuFacts, ...] = ()) -> Analysis:
    """A run of ten steps of a second each, sampled on a machine of two processors."""
    trace = rank_trace(
        *(item for i in range(10) for item in (step(i, at_ms=1000 * i, ms=1000),)),
        *(op("aten::mm", at_ms=1000 * i, ms=990) for i in range(10)),
        device_kind="cpu",
    )
    run, load = run_of(trace, lines={0: step_lines([1000.0] * 10)})
    begin = int(run.ranks[0].lines.start_ns[0])
    samples = tuple(
        Sample(begin + (i + 1) * SECOND, SECOND, s.host, s.gpus, s.ranks)
        for i, s in enumerate(samples)
    )
    told = Telemetry(node="n", processors=2, gpus=gpus, samples=samples)
    return analyze(replace(run, nodes=(NodeRecord(node="n", facts={}, telemetry=told),)), load)


def sample(own: float, others: float, queued: float, gpu: GpuSample | None = None) -> Sample:
    host = HostSample(busy_ns=int((own + others) * SECOND), own_ns=int(own * SECOND), steal_ns=0)
    rank = RankSample(0, 1, 5 << 20, int(own * SECOND), int(queued * SECOND))
    return Sample(0, SECOND, host, None if gpu is None else (gpu,), (rank,))


def test_loads_are_means_over_the_samples_inside_the_steps() -> None:
    outside = [sample(0.0, 2.0, 1.0)] * 5  # after the last step
    analysis = analysed(*[sample(0.5, 0.1, 0.0)] * 5, *[sample(1.0, 0.2, 0.0)] * 5, *outside)
    (load,) = analysis.telemetry
    assert (load.samples, load.seconds) == (10, 10.0)
    assert load.own_cores == pytest.approx(0.75)
    assert load.other_cores == pytest.approx(0.15)
    assert load.ranks[0].peak_rss_bytes == 5 << 20
    assert load.ranks[0].cpu_cores == pytest.approx(0.75)
    assert decode(encode(analysis)).telemetry == analysis.telemetry
    assert analysis.findings == ()


@pytest.mark.parametrize(
    ("own", "others", "queued", "expected"),
    [
        (1.0, 1.0, 0.3, ("busy_neighbour", "high")),
        (1.0, 0.9, 0.1, ("busy_neighbour", "moderate")),
        (2.0, 0.0, 0.3, ("oversubscribed_processors", "high")),
        (1.0, 1.0, 0.01, None),  # busy, and no rank is held up
        (0.5, 0.5, 0.3, None),  # there was room: the wait has another cause
    ],
)
def test_who_uses_the_processors(
    own: float, others: float, queued: float, expected: tuple[str, str] | None
) -> None:
    found = analysed(*[sample(own, others, queued)] * 6).findings
    assert [(f.id, f.severity) for f in found] == ([expected] if expected else [])
    if expected:
        assert found[0].gain_ceiling == pytest.approx(1 / (1 - queued), abs=0.01)


def test_a_gpu_slowed_by_heat_is_named_with_what_it_can_cost() -> None:
    hot = GpuSample(3, sm_mhz=990.0, throttle=0x20, temp_c=91.0)
    cool = GpuSample(3, sm_mhz=1980.0, throttle=0x4, temp_c=60.0)
    facts = (GpuFacts(index=3, name="H200", max_sm_mhz=1980.0),)
    samples = [sample(0.5, 0, 0, hot)] * 4 + [sample(0.5, 0, 0, cool)] * 4
    analysis = analysed(*samples, gpus=facts)
    (gpu,) = analysis.telemetry[0].gpus
    assert (gpu.slowed_share, gpu.power_capped_share, gpu.slowed_sm_mhz) == (0.5, 0.5, 990.0)
    (finding,) = analysis.findings
    assert (finding.id, finding.severity) == ("slowed_gpu", "high")
    assert finding.gain_ceiling == pytest.approx(1 / (1 - 0.25))


@pytest.mark.parametrize("pause", [0, 12])
def test_errors_of_a_gpu_are_named(pause: int) -> None:
    """What ends a run is told of after its last step, the tenth."""
    first, last = GpuSample(0, ecc=2), GpuSample(0, ecc=5, xid=(79,))
    between = [sample(0.5, 0, 0, GpuSample(0, ecc=2))] * pause
    analysis = analysed(sample(0.5, 0, 0, first), *between, sample(0.5, 0, 0, last))
    (finding,) = analysis.findings
    assert finding.id == "gpu_errors"
    assert "XID 79 and 3 uncorrected" in finding.evidence
