"""What kind of event a category and a name stand for, and what a collective is called.

The tables follow libkineto's ActivityType names from 2020 to 2026; categories are compared in
lower case. A category that is not listed is kept out of the event table and counted. Readers of
other formats spell their categories and the names of copies as Kineto does.
"""

import re
from functools import lru_cache

from perfkit.trace.kinds import Kind

OS_RUNTIME = "os_runtime"  # Nsight's; Kineto records no calls into the operating system
_HOST_RANGE = frozenset({"cpu_op", "operator", "user_annotation"})
_RUNTIME = frozenset(
    {
        "cuda_runtime",
        "cuda_driver",
        "runtime",
        "mtia_runtime",
        "glow_runtime",
        "xpu_runtime",
        "xpu_driver",
        "privateuse1_runtime",
        "privateuse1_driver",
    }
)
_KERNEL = frozenset({"kernel", "mtia_ccp_events", "hpu_op", "collective_comm"})
_DEVICE_WORK = frozenset({"gpu_memcpy", "memcpy", "gpu_memset", "memset"})
_MTIA_COPY = "dma_request"  # between host and device, either way: its name does not say which
_DEVICE_EVENT = re.compile(r"^event_(wait|record)$")  # MTIA: markers in a queue, no work
_FIXED = {
    "gpu_memset": Kind.MEMSET,
    "memset": Kind.MEMSET,
    "gpu_user_annotation": Kind.DEVICE_ANNOTATION,
    "cuda_sync": Kind.DEVICE_SYNC,
    "xpu_sync": Kind.DEVICE_SYNC,
    "overhead": Kind.OVERHEAD,
    OS_RUNTIME: Kind.OS_CALL,
}
IGNORED = frozenset(
    {
        "trace",
        "external_correlation",
        "cuda_event",
        "cuda_profiler_range",
        "mtia_counters",
        "mtia_insight",
        "hardware_counters",
        "xpu_scope_profiler",
    }
)
"""Categories that say nothing about time spent; dropped without being counted."""

PYTHON = "python_function"
SPAN = "trace"  # the category of the profiler's own span
STEP = re.compile(r"^ProfilerStep#(\d+)$")

_LAUNCH = re.compile(
    r"(cuda|hip|cu|mu|xpu|ze).*(Launch|Memcpy|Memset)|runFunction|execute|enqueue", re.IGNORECASE
)
_SYNC = re.compile(r"[Ss]ynchronize|^(cuda|hip)Memcpy$|^cuMemcpy(HtoD|DtoH|DtoD)(_v2)?$|waitEvent")
_DEVICE_WAITS = re.compile(r"StreamWaitEvent")  # the device waits, the host does not
_ALLOC = re.compile(r"(Malloc|Free|HostAlloc|HostRegister|MemCreate|MemMap|MemUnmap|MemRelease)")
_INPUT_WAIT = re.compile(r"^enumerate\(DataLoader\)#|^perfkit::(input_wait|data)$")
_CHECKPOINT = re.compile(r"^perfkit::checkpoint$")
_COMPILE = re.compile(  # "TorchDynamo Cache Lookup" happens on every call and compiles nothing
    r"^(TorchDynamo(?! Cache Lookup)|AOTAutograd|dynamo|_compile|compile_fx|inductor)",
    re.IGNORECASE,
)
_COMM_CALL = re.compile(
    r"^(c10d::|_?c10d_functional::|record_param_comms$|(nccl|rccl|hccl|xccl):|"
    # NCCL's own ranges; those of groups and communicators move nothing
    r"nccl(AllReduce|AllGather|ReduceScatter|Broadcast|Bcast|Reduce|AlltoAll|Gather|Scatter|"
    r"Send|Recv)$)"
)
_COMM_HOST = re.compile(r"^(gloo|mpi|ucc|horovod):")  # the last: our ranges
_MODULE = "nn.Module: "  # Kineto's, among Python frames; with --modules a range

_COMM_KERNEL = re.compile(
    r"^(nccl|rccl|ncclDev|msccl)|"
    r"cross_device_reduce|multimem_|deep_ep::|"
    r"(one|two)_?shot_all_?reduce|custom_all_reduce|quickreduce|"
    r"all_reduce_(one|two)shot|allreduce_fusion_kernel|lamport_style",
    re.IGNORECASE,
)
_FROM_HOST = re.compile(r"Hto[DAH]|HostTo(Device|Host)")  # A: CUDA's arrays, on the device
_TO_HOST = re.compile(r"[DA]toH|DeviceToHost")
_P2P = re.compile(r"PtoP|Peer", re.IGNORECASE)

_OPS = (
    (re.compile(r"all_?reduce|cross_device_reduce|quickreduce", re.I), "all_reduce"),
    (re.compile(r"reduce_?scatter", re.I), "reduce_scatter"),
    (re.compile(r"all_?gather", re.I), "all_gather"),
    (re.compile(r"all_?to_?all", re.I), "all_to_all"),
    (re.compile(r"broadcast|^ncclBcast$", re.I), "broadcast"),
    (re.compile(r"send_?recv|sendrecv", re.I), "send_recv"),
    (re.compile(r"(^|[:_]|^nccl)i?send", re.I), "send"),
    (re.compile(r"(^|[:_]|^nccl)i?recv", re.I), "recv"),
    (re.compile(r"barrier", re.I), "barrier"),
    (re.compile(r"scatter", re.I), "scatter"),
    (re.compile(r"gather", re.I), "gather"),
    (re.compile(r"reduce", re.I), "reduce"),
)

_DTYPES = {
    "float": ("float32", 4),
    "double": ("float64", 8),
    "half": ("float16", 2),
    "bfloat16": ("bfloat16", 2),
    "long": ("int64", 8),
    "long int": ("int64", 8),
    "int": ("int32", 4),
    "short": ("int16", 2),
    "short int": ("int16", 2),
    "char": ("int8", 1),
    "signed char": ("int8", 1),
    "byte": ("uint8", 1),
    "unsigned char": ("uint8", 1),
    "bool": ("bool", 1),
    "complexfloat": ("complex64", 8),
    "complexdouble": ("complex128", 16),
}
MAX_ELEMENTS = 1 << 56  # no machine holds more; a larger number is damage
_SIZES = {name: size for name, size in _DTYPES.values()} | {
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
}


def kind_of(category: str, name: str) -> Kind | None:
    """Return the kind of an event; None for a category that is not part of the event table."""
    category = category.lower()
    if category in _HOST_RANGE:
        return _host_kind(category, name)
    if category in _RUNTIME:
        return _runtime_kind(name)
    if category in _KERNEL:
        return _device_kind(name)
    if category in ("gpu_memcpy", "memcpy"):
        return _copy_kind(name)
    if category == PYTHON:
        return Kind.MODULE if name.startswith(_MODULE) else Kind.PYTHON
    return _FIXED.get(category)


def is_runtime_category(category: str) -> bool:
    """Whether a category, in lower case, is one of calls into a device's runtime or driver."""
    return category in _RUNTIME


def is_device_category(category: str) -> bool:
    """Whether a category, in lower case, is one of work on a device."""
    return category in _KERNEL or category in _DEVICE_WORK


def _device_kind(name: str) -> Kind:
    if _DEVICE_EVENT.search(name):
        return Kind.DEVICE_SYNC
    if name == _MTIA_COPY:
        return Kind.MEMCPY_H2D
    return Kind.COMM_KERNEL if _COMM_KERNEL.search(name) else Kind.KERNEL


_HOST_PATTERNS = (
    (_COMM_HOST, Kind.COMM_HOST),
    (_COMM_CALL, Kind.COMM_CALL),
    (_INPUT_WAIT, Kind.INPUT_WAIT),
    (_CHECKPOINT, Kind.CHECKPOINT),
    (_COMPILE, Kind.COMPILE),
    (STEP, Kind.ANNOTATION),  # in 2020-21 steps were operators
)


def _host_kind(category: str, name: str) -> Kind:
    if name.startswith(_MODULE):
        return Kind.MODULE
    default = Kind.ANNOTATION if category == "user_annotation" else Kind.OP
    return next((kind for pattern, kind in _HOST_PATTERNS if pattern.search(name)), default)


def _runtime_kind(name: str) -> Kind:
    if _DEVICE_WAITS.search(name):
        return Kind.RUNTIME
    if _SYNC.search(name):
        return Kind.SYNC
    if _LAUNCH.search(name):
        return Kind.LAUNCH
    if _ALLOC.search(name):
        return Kind.ALLOC
    return Kind.RUNTIME


def _copy_kind(name: str) -> Kind:
    if _FROM_HOST.search(name):
        return Kind.MEMCPY_H2D
    if _TO_HOST.search(name):
        return Kind.MEMCPY_D2H
    return Kind.MEMCPY_P2P if _P2P.search(name) else Kind.MEMCPY_D2D


@lru_cache(maxsize=4096)
def collective_op(name: str) -> str:
    """Return c10d's name of the collective that a call, range or kernel name speaks of, or ""."""
    return next((op for pattern, op in _OPS if pattern.search(name)), "")


@lru_cache(maxsize=4096)
def dtype_name(raw: str) -> str:
    """Return torch's short name of a dtype as the profiler or c10d spells it; "" if unknown."""
    key = raw.removeprefix("c10::").removeprefix("torch.").strip()
    known = _DTYPES.get(key.lower())
    if known:
        return known[0]
    lowered = key.lower()
    return lowered if lowered in _SIZES or lowered.startswith("float8") else ""


def dtype_size(name: str) -> int:
    """Return the bytes of one element of a dtype given by torch's short name; 0 if unknown."""
    return 1 if name.startswith("float8") else _SIZES.get(name, 0)


def message_bytes(op: str, in_elements: int, out_elements: int, dtype: str) -> int:
    """Return S of nccl-tests (models.md 3.1) in bytes, or -1 where it cannot be told.

    all_gather counts the gathered array, every other collective the input array.
    """
    size = dtype_size(dtype)
    count = in_elements
    if op in ("all_gather", "gather", "scatter", "recv", "broadcast"):
        count = max(in_elements, out_elements)
    known = size > 0 and 0 <= count < MAX_ELEMENTS
    return count * size if known else -1
