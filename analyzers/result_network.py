"""The part of analysis.json that says what networks gave: latency and bandwidth by placement."""

import msgspec


class NetworkFit(msgspec.Struct, frozen=True, kw_only=True):
    """Latency and bandwidth of one placement, fitted to this run's own collectives.

    Model: T = steps * alpha + k * S / B with nccl-tests' S and k on a ring. Intervals: 95 %
    bootstrap. Valid for messages from valid_from_bytes to valid_to_bytes. alpha is None where the
    sizes are too few or too close to tell latency from bandwidth. refused: why there is no fit;
    everything else but the counts is then None.
    """

    placement: str  # "one node", "between nodes"
    groups: tuple[str, ...]
    ranks: int  # of the largest group
    calls: int  # collectives that were used
    sizes: int  # distinct message sizes among them
    overlapped: bool  # the calls run beside compute: the network itself may be faster
    alpha_us: float | None = None  # per step of the ring
    alpha_interval_us: tuple[float, float] | None = None
    bandwidth_gbyte_per_s: float | None = None
    bandwidth_interval_gbyte_per_s: tuple[float, float] | None = None
    valid_from_bytes: int | None = None
    valid_to_bytes: int | None = None
    median_residual: float | None = None  # relative
    worst_residual: float | None = None
    saturation_bytes: float | None = None  # all-reduce of `ranks` at 90 % of the bandwidth
    latency_ms: float | None = None  # of this placement's transfers per step: the latency part
    wire_ms: float | None = None  # and the part that bytes take
    refused: str = ""
