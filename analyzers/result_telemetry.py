"""What the machines did while the training ran, as it stands in analysis.json."""

import msgspec


class LoadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One machine in one stretch of the run: means, but for the memory, which is the least."""

    at_s: float  # middle of the stretch, from the first step's start
    busy_cores: float | None
    own_cores: float | None
    free_memory_bytes: int | None


class GpuPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU in one stretch of the run: means over its samples."""

    at_s: float  # middle of the stretch, from the first step's start
    utilisation_percent: float | None
    sm_mhz: float | None
    power_w: float | None
    temp_c: float | None
    slowed: bool  # in any sample: clocks lowered by heat or by a hardware brake


class CounterRow(msgspec.Struct, frozen=True, kw_only=True):
    """A hardware counter of one rank's device over its captured steps (Nsight's GPU metrics)."""

    rank: int
    name: str  # as the profiler names it, with its unit
    mean: float
    samples: int


class RankLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One rank process over the sampled time."""

    rank: int
    peak_rss_bytes: int | None
    cpu_cores: float | None  # processor time per time
    queued_share: float | None  # of the time its main thread could run and had no processor


class GpuLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU over the sampled time; None: its driver does not say."""

    index: int
    name: str
    utilisation_percent: float | None  # mean
    peak_memory_bytes: int | None
    sm_mhz: float | None  # median
    max_sm_mhz: float | None
    power_w: float | None  # mean
    power_limit_w: float | None
    peak_temp_c: float | None
    slowed_share: float | None  # of the samples: clocks lowered by heat or by a hardware brake
    power_capped_share: float | None  # of the samples: clocks lowered to keep the power limit
    slowed_sm_mhz: float | None  # median of those samples
    new_ecc_errors: int | None  # uncorrected
    xids: tuple[int, ...]
    series: tuple[GpuPoint, ...] = ()
    ranks: tuple[int, ...] = ()  # that compute on it; (): not known


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One machine from the first to the last step. Cores: processor time per time."""

    node: str
    samples: int
    seconds: float
    processors: int  # of the whole machine
    busy_cores: float | None
    own_cores: float | None  # of the command
    other_cores: float | None  # of everything else on the machine
    stolen_cores: float | None  # by the hypervisor for other machines
    least_free_memory_bytes: int | None
    disk_read_bytes_per_s: float | None
    disk_written_bytes_per_s: float | None
    net_sent_bytes_per_s: float | None
    net_received_bytes_per_s: float | None
    ranks: tuple[RankLoad, ...] = ()
    gpus: tuple[GpuLoad, ...] = ()
    series: tuple[LoadPoint, ...] = ()
