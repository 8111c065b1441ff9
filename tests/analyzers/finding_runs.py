"""Runs that hold what one finding names, or all but that: what finding_cases.py is made of.

Times are of steps of 100 ms unless a builder says otherwise, so that milliseconds are percents.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import Analysis
from perfkit.trace.model import DeviceFacts
from perfkit.trace.telemetry import GpuSample
from tests.analyzers import test_model_findings as model
from tests.analyzers import test_network as network
from tests.analyzers import test_telemetry as machine
from tests.analyzers.test_findings import analysed, busy, one_step, reducing
from tests.analyzers.test_groups import pairs_of_a_job
from tests.analyzers.test_slow_loader import cpu_rank
from tests.builders import (
    Item,
    StepItem,
    gloo,
    kernel,
    nccl,
    op,
    rank_trace,
    run_of,
    step,
    step_lines,
)

Made = Callable[[], Analysis]
WRITER = 555
"""A thread that does not train."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A finding: where it must appear, with which numbers, and where it must not, for what reason.

    evidence: a part of its text. ceiling: None where its cost is not recorded.
    """

    id: str
    run: Made
    evidence: str
    ceiling: float | None
    without: Mapping[str, Made]


def gap(*items: Item) -> Made:
    """A device that is idle from 40 to 60 ms."""
    return lambda: analysed(one_step(*busy((40, 60)), *items))


def no_gap(*items: Item) -> Made:
    """The same, with a device that works all the time."""
    return lambda: analysed(one_step(*busy(), *items))


def ranks(
    compute_ms: float, comm_ms: float, *, hidden_ms: float = 0.0, calls: int = 1, elements: int
) -> Made:
    """Two ranks that compute and reduce."""
    return lambda: analysed(
        *reducing(
            compute_ms=compute_ms,
            comm_ms=comm_ms,
            hidden_ms=hidden_ms,
            calls=calls,
            elements=elements,
        )
    )


def mixed(calls: Mapping[int, float], *, compute_ms: float, name: str = "all_reduce") -> Made:
    """Two ranks that compute, then reduce so many elements in so many milliseconds each."""

    def made() -> Analysis:
        traces = []
        for rank in (0, 1):
            at, items = compute_ms, list[Item | StepItem]([op("aten::mm", at_ms=0, ms=compute_ms)])
            for number, (elements, ms) in enumerate(calls.items(), start=1):
                items.append(gloo(name, at_ms=at, ms=ms, elements=elements, sequence=number))
                at += ms
            items.append(step(0, at_ms=0, ms=at))
            traces.append(rank_trace(*items, rank=rank, world_size=2, device_kind="cpu"))
        return analysed(*traces)

    return made


def tiny_under_compute_beside_a_large_one() -> Analysis:
    """20 small all-reduces of 2 ms beside compute, then one of 40 MB that nothing hides."""
    traces = []
    for rank in (0, 1):
        items: list[Item | StepItem] = [step(0, at_ms=0, ms=100), kernel("gemm", at_ms=0, ms=70)]
        items += [
            nccl("all_reduce", at_ms=10 + 3.0 * n, ms=2, elements=100, sequence=n + 1)
            for n in range(20)
        ]
        items.append(nccl("all_reduce", at_ms=70, ms=30, elements=10**7, sequence=21))
        traces.append(rank_trace(*items, rank=rank, world_size=2))
    return analysed(*traces)


SMALL = [2_000, 4_000, 8_000, 20_000, 60_000, 300_000] * 6


def wired(sizes: Sequence[int], compute_ms: float, *, beside: bool = False) -> Made:
    """Four ranks whose network is known: 20 us a ring step, 10 GB/s."""
    return lambda: network.reducing(sizes, compute_ms=compute_ms, beside=beside)


def in_a_graph() -> Analysis:
    """The gap of 40 to 60 ms lies between two kernels of one CUDA graph."""
    kernels = [
        kernel("gemm", at_ms=at, ms=40, launched_at_ms=0, launch_ms=0.1, graph="g")
        for at in (0.1, 60.0)
    ]
    return analysed(one_step(*kernels, op("aten::add", at_ms=40, ms=20)))


def products(name: str, capability: str = "8.0", *more: Item) -> Made:
    """Half of a step in a kernel of this name, on a device of this compute capability."""
    facts = DeviceFacts(index=0, name="GPU", compute_capability=capability)

    def made() -> Analysis:
        rest = more or (kernel("add", at_ms=50, ms=50),)
        trace = one_step(kernel(name, at_ms=0, ms=50), *rest)
        return analysed(replace(trace, devices=(facts,)))

    return made


def optimizer(name: str, pieces: int = 60) -> Made:
    """An optimizer's step of 30 ms in so many kernels of this name."""
    return lambda: model.stepping(pieces, name)


def ddp(*, compute_ms: float = 90.0, **facts: object) -> Made:
    """Two ranks that agree in all, with these facts of their DDP."""
    return lambda: model.two_ranks([[compute_ms] * 4] * 2, **facts)


def turns(*computes: Sequence[float]) -> Made:
    """Two ranks that compute for so long in twelve steps, and wait for each other."""
    return lambda: model.two_ranks([list(own) * 6 for own in computes])


def memory(*allocated: int, reserved: int | None = None) -> Made:
    """A rank that holds so much at the ends of its steps."""

    def made() -> Analysis:
        run, load = run_of(model.holding(allocated, reserved=reserved))
        return analyze(run, load)

    return made


def sampled(own: float, others: float, queued: float, gpu: GpuSample | None = None) -> Made:
    """A machine of two processors, sampled six times."""
    return lambda: machine.analysed(*[machine.sample(own, others, queued, gpu)] * 6)


def errors(first: int, last: int) -> Made:
    """A GPU whose count of memory errors goes from one to the other."""
    samples = [machine.sample(0.5, 0, 0, GpuSample(0, ecc=n)) for n in (first, last)]
    return lambda: machine.analysed(*samples)


def lines(slow_ms: float, checkpoint_ms: float = 0.0, profiled_ms: float = 100.0) -> Made:
    """Sixty steps of 100 ms; twelve are profiled, and every ninth after them is slow."""

    def made() -> Analysis:
        slow = range(15, 60, 9)
        ms = [profiled_ms] * 12 + [slow_ms if k in slow else 100.0 for k in range(12, 60)]
        saved = dict.fromkeys(slow, checkpoint_ms) if checkpoint_ms else None
        told = step_lines(ms, profiled=range(12), checkpoint_ms=saved)
        run, load = run_of(cpu_rank(0, slow=False), lines={0: told})
        return analyze(run, load)

    return made


def one_rank_of_two() -> Analysis:
    return analysed(reducing(compute_ms=80, comm_ms=20, elements=10**7)[0])


def tensor_parallel() -> Analysis:
    return pairs_of_a_job({"a": (0, 1), "b": (2, 3)}, named="TENSOR_MODEL_PARALLEL_GROUP")


GIB, MIB = 1 << 30, 1 << 20
ONE_MB = 250_000  # elements
HELD = (int(4 * GIB),) * 8
SEARCHING: dict[str, object] = {"find_unused_parameters": True}
ALL_USED: dict[str, object] = {"unused_parameter_size": 0}
HOT = GpuSample(3, sm_mhz=990.0, throttle=0x20, temp_c=91.0)
CAPPED = GpuSample(3, sm_mhz=990.0, throttle=0x4, temp_c=60.0)
