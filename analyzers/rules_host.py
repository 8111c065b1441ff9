"""Findings about the host: late launches, syncs, pauses, precision, and the profiler itself."""

from collections.abc import Iterator

from msgspec.structs import replace

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.quality import DILATION_LIMIT
from perfkit.analyzers.result import Finding
from perfkit.analyzers.rules import HOST, PAUSES, affected, finding
from perfkit.trace.kinds import TimeClass
from perfkit.units import milliseconds, percent, ratio

FP32_SHARE = 0.05
TENSOR_CORES_FROM = (8, 0)
"""TF32 exists from compute capability 8.0 on."""
TENSOR_CORE_SPEEDUP = 8.0
"""Dense TF32 over FP32 peak of A100 and H100 (NVIDIA data sheets): bounds the gain ceiling."""
SLOW_STEP_SHARE = 0.05
GRAPHED = 0.5
"""From this share of the kernels on a model counts as captured in CUDA graphs."""


def launch_bound(evidence: Evidence) -> Iterator[Finding]:
    """The device is idle because Python and the dispatcher are late with the next kernel."""
    share = evidence.share(TimeClass.HOST_LAUNCH, TimeClass.LAUNCH_LATENCY)
    severity = HOST.severity(share)
    if severity is None or not evidence.on_device:
        return
    counts = [s.counts for s in evidence.surveys.values() if s.counts.steps]
    kernels = sum(c.kernels / c.steps for c in counts) / max(len(counts), 1)
    mean = sum(c.kernel_ns for c in counts) / max(sum(c.kernels for c in counts), 1) / 1e6
    short = sum(c.short_kernels for c in counts) / max(sum(c.kernels for c in counts), 1)
    in_graphs = sum(c.graph_kernels for c in counts) / max(sum(c.kernels for c in counts), 1)
    found = finding(
        "launch_bound",
        severity,
        "The device waits for the host to launch work",
        evidence=f"{percent(share)} of the step idle for late launches; {kernels:.0f} kernels per "
        f"step of {milliseconds(mean)} on average, {percent(short)} shorter than their launch call"
        + (f"; CUDA graphs launch {percent(in_graphs)} of them" if in_graphs else ""),
        ranks=affected(evidence.rank_ms(TimeClass.HOST_LAUNCH)),
        share=share,
        next_step="the kernels are in CUDA graphs already: capture what runs between them as well, "
        "or launch the next graph earlier"
        if in_graphs >= GRAPHED
        else "torch.compile, CUDA graphs, a fused optimizer, or a larger batch per launch",
    )
    yield replace(found, recipe=None) if in_graphs >= GRAPHED else found


def host_bound(evidence: Evidence) -> Iterator[Finding]:
    """On a CPU run, time passes in Python outside any operator."""
    share = evidence.share(TimeClass.HOST_LAUNCH)
    severity = HOST.severity(share)
    if severity is None or evidence.on_device:
        return
    yield finding(
        "host_bound",
        severity,
        "Time passes in Python outside operators",
        evidence=f"{milliseconds(evidence.ms(TimeClass.HOST_LAUNCH))} per step before blame, "
        f"{percent(share)} of the step after it, in neither operators nor communication",
        ranks=affected(evidence.rank_ms(TimeClass.HOST_LAUNCH)),
        share=share,
        next_step="find the lines: perfkit profile --with-stack -- CMD",
    )


def host_syncs(evidence: Evidence) -> Iterator[Finding]:
    """The host waits for the device and then launches too late."""
    share = evidence.share(TimeClass.HOST_SYNC)
    severity = PAUSES.severity(share)
    if severity is None:
        return
    counts = [s.counts for s in evidence.surveys.values() if s.counts.steps]
    syncs = sum(c.syncs / c.steps for c in counts) / max(len(counts), 1)
    reads = sum(c.blocking_reads / c.steps for c in counts) / max(len(counts), 1)
    name = next((c.commonest_sync for c in counts if c.commonest_sync), "")
    yield finding(
        "host_syncs",
        severity,
        "The host waits for the device in every step",
        evidence=f"{syncs:.3g} synchronisations per step, mostly {name or 'unnamed'}, and "
        f"{reads:.3g} calls of .item(); {percent(share)} of the step idle because of them",
        ranks=affected(evidence.rank_ms(TimeClass.HOST_SYNC)),
        share=share,
        next_step="keep losses and metrics on the device; read them every N steps",
    )


_PAUSES = {
    TimeClass.HOST_GC: (
        "gc_pauses",
        "Garbage collections stop the step",
        "gc.freeze() after set-up, or gc.disable() and collect every N steps",
    ),
    TimeClass.HOST_ALLOC: (
        "allocator",
        "The allocator asks the driver for memory during steps",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, and steady batch shapes",
    ),
    TimeClass.HOST_COMPILE: (
        "recompiles",
        "Compilation runs during analysed steps",
        "TORCH_LOGS=recompiles names the guards; mark changing dimensions as dynamic",
    ),
}


def pauses(evidence: Evidence) -> Iterator[Finding]:
    """Garbage collection, the allocator or the compiler hold the step up."""
    for time_class, (rule, title, advice) in _PAUSES.items():
        share = evidence.share(time_class)
        severity = PAUSES.severity(share)
        if severity is not None:
            yield finding(
                rule,
                severity,
                title,
                evidence=f"{milliseconds(evidence.ms(time_class))} per step, "
                f"{percent(share)} of the step after blame" + _in_steps(evidence, time_class),
                ranks=affected(evidence.rank_ms(time_class)),
                share=share,
                next_step=advice,
            )


def _in_steps(evidence: Evidence, time_class: TimeClass) -> str:
    """Say how many of the analysed steps are affected: a warm-up shows in the first ones only."""
    rows = evidence.budget.per_step
    hit = {row.step for row in rows if row.classes_ms.get(time_class.key, 0.0) > 0}
    if not hit:
        return ""
    analysed = len({row.step for row in rows})
    return f"; in {len(hit)} of {analysed} analysed steps, last in step {max(hit)}"


def fp32_matmul(evidence: Evidence) -> Iterator[Finding]:
    """Matrix products run in full single precision on hardware with tensor cores."""
    shares = {}
    for rank, survey in evidence.surveys.items():
        window = sum((survey.windows.end_ns - survey.windows.start_ns).tolist())
        if window and survey.device is not None and _has_tf32(survey.device.compute_capability):
            shares[rank] = survey.counts.fp32_matmul_ns / window
    share = sum(shares.values()) / len(shares) if shares else 0.0
    if share < FP32_SHARE:
        return
    mixed = any(evidence.surveys[rank].counts.half_matmuls for rank in shares)
    yield finding(
        "fp32_matmul",
        "high" if share >= 4 * FP32_SHARE else "moderate",
        "Matrix products run in fp32 beside idle tensor cores",
        evidence=f"{percent(share)} of the step in fp32 matmul kernels"
        + (", beside others in 16 or 8 bits: mixed precision is on" if mixed else ""),
        ranks=tuple(shares),
        share=share * (1.0 - 1.0 / TENSOR_CORE_SPEEDUP),
        next_step="torch.set_float32_matmul_precision('high') for what autocast leaves in fp32"
        if mixed
        else "torch.set_float32_matmul_precision('high'), or autocast to bf16",
    )


def _has_tf32(capability: str) -> bool:
    major, _, minor = capability.partition(".")
    if not major.isdigit():
        return False
    return (int(major), int(minor) if minor.isdigit() else 0) >= TENSOR_CORES_FROM


def profiler_overhead(evidence: Evidence) -> Iterator[Finding]:
    """The profiler slows the steps that it measures."""
    dilation = evidence.whole.dilation
    steps = evidence.whole.steps
    if dilation is None or dilation <= DILATION_LIMIT:
        return
    yield finding(
        "profiler_overhead",
        "info",
        "The profiler slowed the traced steps",
        evidence=f"{milliseconds(steps.profiled_median_ms)} with it, "
        f"{milliseconds(steps.median_ms)} without ({ratio(1 + dilation)})",
        next_step="trust step times without the profiler; read shares of host time as upper bounds",
    )


def slow_steps(evidence: Evidence) -> Iterator[Finding]:
    """Some steps take far longer than the rest, for a reason the step lines do not hold."""
    steps = evidence.whole.steps
    odd = [s for s in steps.slow if s.cause == "unknown"]
    if steps.median_ms is None or not odd or steps.recorded == 0:
        return
    lost = sum(s.ms - steps.median_ms for s in odd) / (steps.median_ms * steps.recorded)
    rhythm = next((p for p in steps.periodic if p.cause == "unknown"), None)
    if lost < SLOW_STEP_SHARE and rhythm is None:
        return
    listed = ", ".join(str(s.step) for s in sorted(odd, key=lambda s: s.step)[:8])
    yield finding(
        "slow_steps",
        "moderate" if lost >= SLOW_STEP_SHARE else "info",
        "Some steps take far longer than the rest",
        evidence=f"steps {listed} took up to {odd[0].over_median:.2g} times the median"
        + (f"; every {rhythm.every} steps" if rhythm else ""),
        ranks=tuple(sorted({s.rank for s in odd})),
        next_step=f"trace one: perfkit profile --window {odd[0].step}:{odd[0].step} -- CMD",
    )


RULES = (
    launch_bound,
    host_bound,
    host_syncs,
    pauses,
    fp32_matmul,
    slow_steps,
    profiler_overhead,
)
