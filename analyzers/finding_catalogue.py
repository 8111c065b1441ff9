"""Every finding that there is: when it appears, when it does not apply, which recipe it belongs to.

docs/findings.md shows this table; a test holds the two and the rules together.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One finding. Thresholds are shares of the step after blame unless they say otherwise."""

    id: str
    when: str
    thresholds: str  # moderate / high
    not_when: str
    recipe: str | None = None  # under recipes/


STRAGGLER_PREFIX = "straggler_"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "slow_loader",
        "ranks wait for their next batch, or for a rank that does",
        "5 % / 20 %",
        "the data source itself is at its limit: more workers then only share it",
        "loader",
    ),
    Entry(
        "pageable_copies",
        "at least half of the exposed copy time is from pageable memory, and copies are of 64 KiB "
        "or more on average",
        "3 % / 15 %",
        "the copied tensors are tiny: then the number of copies matters, not the memory",
        "pin-memory",
    ),
    Entry(
        "exposed_copies",
        "copies between host and device run while nothing else does, from pinned memory or in "
        "pieces below 64 KiB",
        "3 % / 15 %",
        "the next step cannot start before its copy, as in a loop of one batch",
        "pin-memory",
    ),
    Entry(
        "checkpoint_stall",
        "training stands still while it saves, in the window or over the whole run",
        "5 % / 20 %",
        "the run is so short that it will save only once",
        "async-checkpoint",
    ),
    Entry(
        "no_overlap",
        "over half of the transfers is exposed, and compute that hides none could hide them",
        "3 % / 15 % of transfer that free compute could hide",
        "the compute depends on the transfer, as in tensor parallel layers",
        "overlap",
    ),
    Entry(
        "slow_transfers",
        "transfers take longer than all compute, and no fit says whether latency or bytes",
        "3 % / 15 % beyond compute",
        "latency costs, not bytes (latency is at most 5 ms a ring step, a link at least 50 MB/s)",
        "bf16-gradients",
    ),
    Entry(
        "latency_bound_transfers",
        "by the fitted network, latency takes more of the transfers than bytes do",
        "3 % / 15 % exposed transfer",
        "merging them would delay the first one until backward is over",
        "ddp-buckets",
    ),
    Entry(
        "bandwidth_bound_transfers",
        "by the fitted network, bytes take more of the transfers than latency does",
        "3 % / 15 % exposed transfer",
        "compute has room to hide the transfers: overlap them first",
        "bf16-gradients",
    ),
    Entry(
        "slow_link",
        "of three or more nodes one has less than 70 % of the others' median bus bandwidth",
        "3 % / 15 % exposed transfer",
        "the nodes are not meant to be alike",
    ),
    Entry(
        "tiny_messages",
        "8 or more collectives below 1 MiB a step, no fit, and their bytes may be cheap",
        "3 % / 15 % exposed transfer in them",
        "they are hidden under compute",
        "ddp-buckets",
    ),
    Entry(
        "huge_bucket",
        "one all-reduce of 100 MiB or more holds 80 % of the gradients",
        "3 % / 15 % exposed transfer",
        "gradients are only ready together, as with one huge layer",
        "ddp-buckets",
    ),
    Entry(
        "unsplit_communication",
        "exposed communication that may be waiting or transfer: ranks or numbers are missing",
        "3 % / 15 %",
        "all ranks are captured and matched",
    ),
    Entry(
        STRAGGLER_PREFIX + "CLASS",
        "a rank is last too often for chance (2 %), exceeds the median rank by 3 % of the step and "
        "by more than steps differ or ends of collectives agree, and costs the others 5 % in waits "
        "and lost overlap; one for each class, and `straggler_throttling` where lowered clocks can "
        "explain half of a rank's longer compute",
        "5 % / 20 % that the others lose",
        "the rank has more to do on purpose, such as logging or evaluation",
    ),
    Entry(
        "uneven_compute",
        "ranks wait for whoever has the longest batch, and no rank in particular is late",
        "5 % / 20 % of waits charged to compute of ranks in turn",
        "one rank is always the slow one: then it is a straggler",
    ),
    Entry(
        "pipeline_bubble",
        "stages of a pipeline wait for each other",
        "3 % / 15 %",
        "the pipeline is only filling once for many micro-batches",
    ),
    Entry(
        "launch_bound",
        "the device is idle because the host launches its next kernel, or its next graph, too late",
        "3 % / 15 %",
        "the model is already captured in a CUDA graph: then what runs between the graphs counts",
        "cuda-graph",
    ),
    Entry(
        "host_bound",
        "on a CPU run, time passes in Python outside any operator",
        "3 % / 15 %",
        "the profiler itself caused it: compare with the unprofiled step time",
    ),
    Entry(
        "host_syncs",
        "the device is idle because the host waited for it (.item(), synchronize)",
        "1 % / 5 %",
        "the value decides what runs next, as a gradient scaler's overflow check does",
        "no-item",
    ),
    Entry(
        "gc_pauses",
        "Python's garbage collector stops the step",
        "1 % / 5 %",
        "the step itself makes reference cycles that must go",
        "gc-freeze",
    ),
    Entry(
        "allocator",
        "the caching allocator calls the driver during steps",
        "1 % / 5 %",
        "only the first steps do: they fill the cache",
        "allocator",
    ),
    Entry(
        "recompiles",
        "dynamo, inductor or triton compile during analysed steps",
        "1 % / 5 %",
        "the window lies in the warm-up",
    ),
    Entry(
        "fp32_matmul",
        "fp32 matmul kernels without tensor cores on a device that has TF32",
        "5 % / 20 % of the step in such kernels",
        "the model needs fp32 products (see the loss), or autocast leaves them out on purpose",
        "tf32",
    ),
    Entry(
        "unfused_optimizer",
        "the optimizer's step takes 50 or more kernels or operators and none is fused",
        "3 % / 15 % of the step in them",
        "parameters are on several devices or of integer type, which fused optimizers refuse",
        "fused-optimizer",
    ),
    Entry(
        "find_unused_parameters",
        "DDP looks for unused parameters in every backward, without static_graph, and finds none",
        "moderate wherever it is so; no ceiling, its cost is not recorded",
        "the model skips layers in some steps that this run did not reach",
        "find-unused-parameters",
    ),
    Entry(
        "sync_batch_norm",
        "batch norms exchange their statistics between ranks in every forward and backward",
        "info below 3 % of exposed communication, moderate above",
        "batches per rank are so small that the statistics need it",
    ),
    Entry(
        "memory_growth",
        "allocated memory at the ends of steps rises in every one of 5 or more steps, by 0.1 % of "
        "the peak a step or more",
        "moderate",
        "caches are still filling: look again later in the run",
    ),
    Entry(
        "memory_fragmentation",
        "the allocator's reserved memory exceeds what is allocated, each at its peak, by a quarter "
        "and by 1 GiB",
        "info",
        "an allocation before the window needed it once, and there is room to spare",
    ),
    Entry(
        "allocator_retries",
        "the device had no room: the allocator gave its cache back and asked again",
        "moderate within recorded steps, info before them; no ceiling, its cost is not recorded",
        "it was the first steps, which had to find their sizes",
        "allocator",
    ),
    Entry(
        "busy_neighbour",
        "a rank's main thread waits for a processor on a full machine, and others use 0.25 or more",
        "5 % / 20 % of the time it waited",
        "the processors are shared on purpose: then this is the speed to expect",
    ),
    Entry(
        "oversubscribed_processors",
        "a rank's main thread waits for a processor on a machine that the run itself fills",
        "5 % / 20 % of the time it waited",
        "the processors are shared on purpose: then this is the speed to expect",
    ),
    Entry(
        "slowed_gpu",
        "a GPU's clocks were lowered by heat or a hardware brake",
        "5 % / 25 % of the samples",
        "the step does not wait for this GPU's kernels",
    ),
    Entry(
        "gpu_errors",
        "the driver reported errors of a GPU during the run",
        "high",
        "the device has been exchanged since",
    ),
    Entry(
        "slow_steps",
        "steps far above the median for a reason that no recorder holds",
        "5 % of all time lost in them; info for a rhythm alone",
        "the machine has other users",
    ),
    Entry(
        "profiler_overhead",
        "profiled steps take over 5 % longer than unprofiled ones",
        "info",
        "the profiled steps are slower for another reason, such as a checkpoint in them",
    ),
)

BY_ID = {entry.id: entry for entry in CATALOGUE}


def entry_of(finding_id: str) -> Entry:
    """Return the entry of a finding; stragglers of all classes share one. Raises KeyError."""
    if finding_id.startswith(STRAGGLER_PREFIX):
        return BY_ID[STRAGGLER_PREFIX + "CLASS"]
    return BY_ID[finding_id]


def as_markdown() -> str:
    """Return the table of docs/findings.md."""
    head = "| finding | appears when | moderate / high | does not apply when | recipe |"
    lines = [head, "|---|---|---|---|---|"]
    for entry in CATALOGUE:
        cells = (f"`{entry.id}`", entry.when, entry.thresholds, entry.not_when, entry.recipe or "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
