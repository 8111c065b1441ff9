"""Findings about the machines: processors used by others, GPUs slowed by heat, device errors."""

from collections.abc import Iterator

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import Finding
from perfkit.analyzers.result_telemetry import GpuLoad, NodeLoad
from perfkit.analyzers.rules import Thresholds, finding
from perfkit.analyzers.telemetry import node_loads
from perfkit.units import number, percent

QUEUED = Thresholds(0.05, 0.20)  # of the time a rank's main thread had no processor to run on
SLOWED = Thresholds(0.05, 0.25)  # of the samples a GPU ran at lowered clocks
NEIGHBOUR_CORES = 0.25  # used by others: less than that is the system itself
SATURATED = 0.85  # of the machine's processors in use: below that there was room for everybody
FEW_SAMPLES = 3
COOLING = "check cooling and power supply: nvidia-smi -q -d TEMPERATURE,PERFORMANCE"


def processor_contention(evidence: Evidence) -> Iterator[Finding]:
    """Ranks wait for processors: others use them, or the run itself starts more than there are."""
    for node in node_loads(evidence.run):
        queued = {r.rank: r.queued_share for r in node.ranks if r.queued_share is not None}
        worst = max(queued.values(), default=0.0)
        severity = QUEUED.severity(worst)
        if severity is None or not _is_full(node):
            continue
        others = (node.other_cores or 0.0) + (node.stolen_cores or 0.0)
        by_others = others >= NEIGHBOUR_CORES
        yield finding(
            "busy_neighbour" if by_others else "oversubscribed_processors",
            severity,
            "Other programs use the machine's processors"
            if by_others
            else "The run starts more threads than there are processors",
            evidence=f"node {node.node}: up to {percent(worst)} of the time a rank's main thread "
            f"waited for a processor; in use {number(node.busy_cores)} of {node.processors}, "
            f"{number(node.own_cores)} by this run, {number(others)} by others",
            ranks=tuple(r for r, share in queued.items() if share >= worst / 2),
            share=worst,
            next_step="measure again on an idle machine, or reserve processors for the run"
            if by_others
            else "fewer threads: OMP_NUM_THREADS = processors / ranks on the machine, and fewer "
            "loader workers",
        )


def _is_full(node: NodeLoad) -> bool:
    return (
        node.samples >= FEW_SAMPLES
        and node.processors > 0
        and node.busy_cores is not None
        and node.busy_cores >= SATURATED * node.processors
    )


def slowed_gpu(evidence: Evidence) -> Iterator[Finding]:
    """A GPU's clocks were lowered because of heat or by a hardware brake."""
    for node in node_loads(evidence.run):
        for gpu in node.gpus:
            severity = SLOWED.severity(gpu.slowed_share or 0.0)
            if severity is None or node.samples < FEW_SAMPLES:
                continue
            yield finding(
                "slowed_gpu",
                severity,
                "A GPU runs at lowered clocks",
                evidence=_clocks(node, gpu),
                ranks=gpu.ranks,
                share=_clock_share(gpu),
                next_step=COOLING,
            )


def _clocks(node: NodeLoad, gpu: GpuLoad) -> str:
    text = (
        f"node {node.node}, GPU {gpu.index}: slowed by heat or a hardware brake in "
        f"{percent(gpu.slowed_share)} of {node.samples} samples"
    )
    if gpu.slowed_sm_mhz is not None and gpu.max_sm_mhz:
        text += f", then {number(gpu.slowed_sm_mhz)} of {number(gpu.max_sm_mhz)} MHz"
    if gpu.peak_temp_c is not None:
        text += f"; up to {number(gpu.peak_temp_c)} degrees C"
    return text


def _clock_share(gpu: GpuLoad) -> float | None:
    """Compute cannot gain more than the clock does, in the part of the time it was lowered."""
    if gpu.slowed_sm_mhz is None or not gpu.max_sm_mhz or gpu.slowed_share is None:
        return None
    lost = max(1 - gpu.slowed_sm_mhz / gpu.max_sm_mhz, 0.0)
    return gpu.slowed_share * lost


def gpu_errors(evidence: Evidence) -> Iterator[Finding]:
    """The driver reported errors of a GPU while the run went on."""
    for node in node_loads(evidence.run):
        for gpu in node.gpus:
            if not gpu.xids and not gpu.new_ecc_errors:
                continue
            xids = ", ".join(str(n) for n in sorted(set(gpu.xids)))
            parts = [f"XID {xids}"] if xids else []
            parts += [f"{gpu.new_ecc_errors} uncorrected memory errors"] * bool(gpu.new_ecc_errors)
            yield finding(
                "gpu_errors",
                "high",
                "A GPU reported errors",
                evidence=f"node {node.node}, GPU {gpu.index}: {' and '.join(parts)}",
                ranks=gpu.ranks,
                next_step="drain the node and test the GPU: dcgmi diag -r 3; NVIDIA's XID list "
                "says what each number means",
            )


RULES = (processor_contention, slowed_gpu, gpu_errors)
