"""The same run on another GPU, against steps that follow by hand from the ratio of peaks."""

from dataclasses import replace

import pytest

from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.whatif import Answer, ask, baseline
from perfkit.analyzers.whatif_device import other_gpu
from perfkit.cli.whatif import another_gpu
from perfkit.errors import UsageError
from perfkit.roofline.hardware import Hardware, all_hardware
from perfkit.trace.model import RankRecord, RankTrace
from tests.models import known_runs as known
from tests.models.known_runs import cpu_run, gpu_run, gpu_step_ms

HARDWARE = {h.name: h for h in all_hardware()}
V100, A100 = HARDWARE["NVIDIA V100 SXM2"], HARDWARE["NVIDIA A100 SXM 80GB"]


def graph_on(*names: str) -> StepGraph:
    """The known GPU run (sgemm, all-reduce, adam), with rank r on the device names[r]."""
    run, load = gpu_run()

    def renamed(record: RankRecord) -> RankTrace:
        trace = load(record)
        (device,) = trace.devices
        return replace(trace, devices=(replace(device, name=names[trace.rank]),))

    graph = build_graph(run, renamed)
    assert isinstance(graph, StepGraph), graph
    return graph


def reason(graph: StepGraph, target: Hardware) -> str:
    refusal = ask(baseline(graph, None), [other_gpu(target)])
    assert isinstance(refusal, Refusal)
    return refusal.reason


def test_arithmetic_scales_with_its_peak_and_the_rest_with_memory() -> None:
    graph = graph_on("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-16GB")
    arithmetic, memory = 15.7 / 19.5, 900 / 2039
    expected = gpu_step_ms(
        kernel_ms=(known.KERNEL_MS[0] * arithmetic, known.KERNEL_MS[1] * arithmetic),
        optimizer_ms=known.OPTIMIZER_MS * memory,
    )
    answer = ask(baseline(graph, None), [other_gpu(A100)])
    assert isinstance(answer, Answer)
    assert answer.predicted_ms == pytest.approx(expected, rel=2e-3)
    same = ask(baseline(graph, None), [other_gpu(V100)])
    assert isinstance(same, Answer) and same.speed_up == pytest.approx(1)


def test_what_has_no_ratio_of_peaks_is_refused() -> None:
    cpu = build_graph(*cpu_run())
    assert isinstance(cpu, StepGraph)
    assert "CPU" in reason(cpu, A100)
    assert "different devices" in reason(graph_on("Tesla V100-SXM2-16GB", "Tesla T4"), A100)
    assert "no published peaks" in reason(graph_on("My GPU", "My GPU"), A100)
    no_fp32 = replace(A100, matrix_flop_per_s={"bf16": 312e12})
    assert "no fp32 peak" in reason(graph_on("Tesla T4", "Tesla T4"), no_fp32)


def test_a_gpu_is_named_by_a_part_of_its_name() -> None:
    assert another_gpu("h200").name == "NVIDIA H200 SXM"
    with pytest.raises(UsageError, match="A100 PCIe"):
        another_gpu("A100")
    with pytest.raises(UsageError, match="MI300X"):
        another_gpu("abacus")
