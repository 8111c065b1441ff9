"""Kernel time, idle time and overlap beside those of Holistic Trace Analysis, where installed.

HTA's definitions (models.md 1.1; hta/analyzers/breakdown_analysis.py): over all events with a
stream, `kernel_time` is last end less first start, idle is what their union leaves of it, compute
is the union of those whose name is neither NCCL nor a copy nor a memset, and overlap is the share
of communication time under compute. They differ from perfkit's in what follows, and no more:

- a memset is work of its own kind to HTA (MEMORY); perfkit counts it as compute. Both are compared
  with memsets out of compute.
- HTA takes every event with a stream, so ranges and waits drawn on a device (gpu_user_annotation,
  cuda_sync) make it busy; perfkit counts work only. They are counted here as HTA does.
- HTA names communication by `^nccl` or `ncclKernel`; custom collective kernels are compute to it.
- in a trace of two or more ProfilerSteps HTA drops device events without correlation, and those
  whose launch is not in the file or follows the last step; perfkit keeps them (they belong to no
  step) and says how many they are.
- HTA takes an operator that names a stream (Triton's do) for a kernel: 1,460 of rank 0 of
  nanogpt_h100_8ranks. Such traces cannot be compared; the test asserts that this is the reason.
- HTA cuts times to whole microseconds where a trace holds nanoseconds, which loses up to 1 us of
  every event: sums of such traces are compared within 1 us for each device event, others within 2.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.trace.intervals import intersect, total_ns, union
from perfkit.trace.kinds import FIRST_DEVICE_KIND, Kind
from perfkit.trace.model import RankTrace
from perfkit.trace.run import load_rank, open_run

SETS = (
    "dlrm_v100_8ranks",
    "hta_a100_rank3_of_8.json.gz",
    "hta_nccl_metadata.json.gz",
    "hta_ns_absolute.json.gz",
    "hta_v100_5steps_54MB.json.gz",
    "hta_critical_path/alexnet.json.gz",
    "hta_critical_path/simple_add.json.gz",
    "kineto_2021_v1.json.gz",
    "nanogpt_h100_8ranks",
    "torchrec_resnet18_2ranks",
    "torchrec_v100_4ranks_opt4",
)
OPERATORS_ON_STREAMS = ("nanogpt_h100_8ranks",)
MEMORY = (Kind.MEMSET, Kind.MEMCPY_H2D, Kind.MEMCPY_D2H, Kind.MEMCPY_D2D, Kind.MEMCPY_P2P)


@pytest.fixture(scope="module")
def hta() -> Any:
    """The module of HTA that reads traces; skips without it."""
    return pytest.importorskip("hta.trace_analysis", reason="needs HTA (the extra hta)")


def operators_on_streams(analysis: Any) -> bool:
    """Whether HTA's table of any rank has operators among the rows that it takes for kernels."""
    symbols = analysis.t.symbol_table.get_sym_table()
    frames = analysis.t.get_all_traces().values()
    kinds = {symbols[i] for f in frames for i in f[f["stream"].ne(-1)]["cat"].unique()}
    return "cpu_op" in kinds


def _kept_by_hta(trace: RankTrace) -> Any:
    events, steps = trace.events, trace.steps
    if steps.source != "ProfilerStep" or len(steps.index) < 2:
        return np.ones(len(events), np.bool_)
    host = (events.kind < FIRST_DEVICE_KIND) & (events.start_ns <= steps.end_ns.max())
    return (events.correlation >= 0) & np.isin(events.correlation, events.correlation[host])


def expected(trace: RankTrace) -> dict[str, float]:
    """Return HTA's numbers in microseconds, computed from perfkit's events by HTA's definitions."""
    events = trace.events
    device = (events.kind >= FIRST_DEVICE_KIND) & _kept_by_hta(trace)
    named = np.array([name.startswith("nccl") or "ncclKernel" in name for name in events.names])
    comm = device & named[events.name] & np.isin(events.kind, (Kind.COMM_KERNEL, Kind.KERNEL))
    memory = np.isin(events.kind, MEMORY)
    other = np.isin(events.kind, (Kind.DEVICE_SYNC, Kind.DEVICE_ANNOTATION))
    compute = device & ~comm & ~memory & ~other

    def of(rows: Any) -> Any:
        return union(events.start_ns[rows], events.end_ns[rows])

    span = int(events.end_ns[device].max() - events.start_ns[device].min())
    idle = span - total_ns(of(device))
    communication = total_ns(of(comm))
    hidden = total_ns(intersect(of(comm), of(compute)))
    return {
        "kernel_time(us)": span / 1e3,
        "idle_time(us)": idle / 1e3,
        "compute_time(us)": total_ns(of(compute)) / 1e3,
        "non_compute_time(us)": (span - idle - total_ns(of(compute))) / 1e3,
        "overlap": 100.0 * hidden / communication if communication else float("nan"),
        "events": float(device.sum()),
        "exact": not (events.duration_ns % 1000).any(),
    }


@pytest.mark.filterwarnings("ignore")  # of pandas and HTA, not of ours
@pytest.mark.parametrize("name", SETS)
def test_breakdown_and_overlap(shared_traces: Path, hta: Any, name: str) -> None:
    run = open_run([shared_traces / "kineto" / name])
    files = {record.rank: str(record.traces[0]) for record in run.ranks}
    analysis = hta.TraceAnalysis(trace_files=files, trace_dir="", include_last_profiler_step=True)
    table = analysis.get_temporal_breakdown(visualize=False).set_index("rank")
    overlap = analysis.get_comm_comp_overlap(visualize=False).set_index("rank")
    odd = operators_on_streams(analysis)
    assert odd == (name in OPERATORS_ON_STREAMS)
    for record in run.ranks if not odd else ():
        mine = expected(load_rank(record, cache=None))
        slack = 2.0 if mine["exact"] else mine["events"]
        for column in ("kernel_time(us)", "idle_time(us)", "compute_time(us)"):
            theirs = float(table.loc[record.rank, column])
            assert theirs == pytest.approx(mine[column], abs=slack), (record.rank, column)
        if not np.isnan(mine["overlap"]):
            theirs = float(overlap.loc[record.rank, "comp_comm_overlap_pctg"])
            assert theirs == pytest.approx(mine["overlap"], abs=0.5), record.rank
