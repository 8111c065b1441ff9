"""What an event is (Kind) and what a nanosecond of a step was spent on (TimeClass)."""

from enum import IntEnum


class Kind(IntEnum):
    """The kind of one recorded event, whatever file it came from."""

    # Host
    OP = 0  # an operator of the framework (cpu_op), forward, backward or optimizer
    ANNOTATION = 1  # a named range of the user's or the framework's that is none of the kinds below
    COMM_CALL = 2  # the host call that enqueues a collective (c10d::*, record_param_comms)
    COMM_HOST = 3  # a collective carried out by a host thread (gloo:*)
    INPUT_WAIT = 4  # a thread waits for its next batch (DataLoader.__next__, region "data")
    CHECKPOINT = 5  # a thread writes or reads a checkpoint
    LAUNCH = 6  # a runtime or driver call that puts work on a device
    SYNC = 7  # a runtime call that waits for a device (cuda*Synchronize, blocking copies)
    ALLOC = 8  # cudaMalloc, cudaFree and friends
    RUNTIME = 9  # any other runtime or driver call
    COMPILE = 10  # dynamo, inductor, triton at work
    GC = 11  # Python's garbage collector
    PYTHON = 12  # a Python frame (with_stack)
    OVERHEAD = 13  # the profiler's own work
    MODULE = 14  # an nn.Module's forward (with_modules)
    OS_CALL = 15  # a call into the operating system: read, poll, sem_wait, ...

    # Device: everything from KERNEL on occupies a device
    KERNEL = 32
    MEMSET = 33
    COMM_KERNEL = 34  # NCCL, RCCL and known custom collective kernels
    MEMCPY_H2D = 35
    MEMCPY_D2H = 36
    MEMCPY_D2D = 37  # within one device
    MEMCPY_P2P = 38  # between devices
    DEVICE_ANNOTATION = 48  # a range mirrored onto a device: names work, is no work
    DEVICE_SYNC = 49  # cuda_sync: a wait on a device, is no work


FIRST_DEVICE_KIND = Kind.KERNEL
LAST_WORK_KIND = Kind.MEMCPY_P2P


class TimeClass(IntEnum):
    """The one class of each nanosecond of a step (models.md 1.2 as amended by design.md 6)."""

    COMPUTE = 0
    COMM_TRANSFER = 1
    PIPE_BUBBLE = 2
    COMM_WAIT = 3
    COMM_UNMATCHED = 4
    MEMCPY = 5
    CHECKPOINT = 6
    INPUT_WAIT = 7
    HOST_SYNC = 8
    HOST_ALLOC = 9
    HOST_COMPILE = 10
    HOST_GC = 11
    HOST_LAUNCH = 12
    LAUNCH_LATENCY = 13
    IDLE_DEPENDENCY = 14
    OTHER = 15

    @property
    def key(self) -> str:
        """The name used in analysis.json."""
        return self.name.lower()


ROLLUP: dict[str, tuple[TimeClass, ...]] = {
    "compute": (TimeClass.COMPUTE,),
    "communication": (
        TimeClass.COMM_TRANSFER,
        TimeClass.PIPE_BUBBLE,
        TimeClass.COMM_WAIT,
        TimeClass.COMM_UNMATCHED,
    ),
    "io": (TimeClass.MEMCPY, TimeClass.CHECKPOINT, TimeClass.INPUT_WAIT),
    "host": (
        TimeClass.HOST_SYNC,
        TimeClass.HOST_ALLOC,
        TimeClass.HOST_COMPILE,
        TimeClass.HOST_GC,
        TimeClass.HOST_LAUNCH,
        TimeClass.LAUNCH_LATENCY,
        TimeClass.IDLE_DEPENDENCY,
        TimeClass.OTHER,
    ),
}
"""The four families that a verdict speaks of, and the classes each one sums."""
