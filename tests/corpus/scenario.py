"""What a synthetic training is made of: its size, its habits, and the faults put into it.

A scenario follows from its seed alone. Times are nominal; `simulate` lets them interact, and what a
fault really costs is found there, by leaving it out.
"""

from dataclasses import dataclass

import numpy as np

STRENGTHS = {"weak": 0.1, "medium": 0.35, "strong": 1.6}
"""What a fault adds to a step, as a share of the step without it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A kind of fault: the family and the classes that name it, and whether one rank has it."""

    family: str
    classes: tuple[str, ...]
    one_rank: bool = False


HOST_CLASSES = ("host_launch", "host_sync", "host_gc", "launch_latency")
CAUSES = {
    "loader": Cause("io", ("input_wait",)),
    "loader_rank": Cause("io", ("input_wait",), one_rank=True),
    "checkpoint": Cause("io", ("checkpoint", "memcpy")),
    "checkpoint_rank": Cause("io", ("checkpoint", "memcpy"), one_rank=True),
    "sync": Cause("host", HOST_CLASSES),
    "host": Cause("host", HOST_CLASSES),  # of real runs: Python that sleeps
    "disk": Cause("io", ("input_wait",)),  # of real runs: a file that is read slowly
    "gc": Cause("host", ("host_gc",)),
    "gc_rank": Cause("host", ("host_gc",), one_rank=True),
    "launch": Cause("host", HOST_CLASSES),
    "network": Cause("communication", ("comm_transfer",)),
    "compute_rank": Cause("compute", ("compute",), one_rank=True),
    "tiny_buckets": Cause("communication", ("comm_transfer",)),
    "no_overlap": Cause("communication", ("comm_transfer",)),
}
"""Every fault that is injected, by name."""
SYNTHETIC = tuple(cause for cause in CAUSES if cause not in {"host", "disk"})
MIXTURES = (
    ("loader", "network"),
    ("loader_rank", "network"),
    ("compute_rank", "sync"),
    ("checkpoint", "launch"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One injected fault. share: nominal cost a step over the step without it."""

    cause: str
    share: float
    rank: int | None = None

    def on(self, rank: int) -> bool:
        """Whether this rank has the fault."""
        return self.rank is None or self.rank == rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One training. Milliseconds a step, shares of a step, or counts."""

    seed: int
    faults: tuple[Fault, ...]
    ranks: int
    layers: int
    compute_ms: float
    host_share: float  # host work over device work: below 1 the host runs ahead
    network_share: float  # all transfers over compute
    buckets: int
    waits_each_step: bool  # loss.item() at the end of each step; else the host runs one step ahead
    jitter: float  # relative standard deviation of one kernel
    sequence: bool  # collectives carry sequence numbers
    step_lines: bool  # the always-on record exists: a run folder, not foreign traces
    dropped: float  # share of host operators and kernels missing from the trace
    clocks_ms: tuple[float, ...]
    steps: int = 12

    @property
    def kernels(self) -> int:
        """Compute kernels of one step without the optimizer's."""
        return self.forward + self.backward

    @property
    def forward(self) -> int:
        """Kernels of a forward pass."""
        return 2 * self.layers

    @property
    def backward(self) -> int:
        """Kernels of a backward pass."""
        return 3 * self.layers

    def share(self, cause: str, rank: int) -> float:
        """Nominal cost of this cause on this rank, over the step without faults."""
        return sum(f.share for f in self.faults if f.cause == cause and f.on(rank))

    def whole(self, cause: str) -> float:
        """Nominal cost of a cause that belongs to no rank."""
        return sum(f.share for f in self.faults if f.cause == cause)


def scenario(seed: int, causes: tuple[str, ...] = (), strength: str = "medium") -> Scenario:
    """Draw a training from its seed and put these faults into it."""
    random = np.random.default_rng((seed, 5))
    ranks = int(random.choice([2, 4, 8], p=[0.4, 0.45, 0.15]))
    signs = random.choice([-1.0, 1.0], ranks)
    late = int(random.integers(ranks))
    faults = tuple(
        Fault(
            cause,
            STRENGTHS[strength] * float(random.uniform(0.8, 1.25)),
            late if CAUSES[cause].one_rank else None,
        )
        for cause in causes
    )
    return Scenario(
        seed=seed,
        faults=faults,
        ranks=ranks,
        layers=int(random.integers(4, 9)),
        compute_ms=float(np.exp(random.uniform(np.log(20), np.log(200)))),
        host_share=float(random.uniform(0.15, 0.5)),
        network_share=float(random.uniform(0.1, 0.45)),
        buckets=int(random.integers(3, 7)),
        waits_each_step=bool(random.random() < 0.5),
        jitter=float(random.uniform(0.005, 0.04)),
        sequence=bool(random.random() < 0.6),
        step_lines=bool(random.random() < 0.5),
        dropped=float(random.choice([0.0, 0.003, 0.02], p=[0.7, 0.2, 0.1])),
        clocks_ms=tuple((signs * np.exp(random.uniform(np.log(0.1), np.log(20), ranks))).tolist()),
    )
