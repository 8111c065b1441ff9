"""The typed content of scale.json: what a sweep over numbers of ranks says.

Units stand in the names; shares and efficiencies are fractions of one. What the runs cannot
support is None, with the reason in `warnings` or in a `refused` field.
"""

import msgspec

SCHEMA_VERSION = 1

Span = tuple[float, float]
"""Low and high end of an interval."""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """Something that limits what the sweep can say."""

    code: str
    message: str


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the time by which a step misses the ideal; negative: it is better than that."""

    cause: str  # a key of scaling_losses.CAUSES
    ms: float
    share: float  # of the measured step


class ScalingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One number of ranks: medians over its runs, 95 % bootstrap intervals over runs.

    Intervals are None for a single run. step: median of unprofiled steady steps, slowest rank.
    classes_ms: the budget's shares of the profiled steps, on the unprofiled step.
    """

    ranks: int
    nodes: int
    runs: tuple[str, ...]
    step_ms: float
    step_interval_ms: Span | None
    ideal_ms: float
    samples_per_step: float
    samples_per_s: float
    samples_per_s_interval: Span | None
    tokens_per_s: float | None
    speed_up: float  # weak: scaled, of the throughput
    speed_up_interval: Span | None
    efficiency: float
    efficiency_interval: Span | None
    karp_flatt: float | None  # strong only
    gustafson_serial_share: float | None  # weak only
    oversubscribed: bool
    in_fit: bool
    cores: int | None
    classes_ms: dict[str, float | None]
    factors: dict[str, float | None]  # of the efficiency tree
    losses: tuple[Loss, ...]  # largest first; they sum to step_ms - ideal_ms
    main_loss: str | None  # cause of the largest loss; None where nothing is lost
    contention: float | None = None  # how much longer compute takes beside a transfer than alone


class LinkUsed(msgspec.Struct, frozen=True, kw_only=True):
    """The network behind a model: fitted to all collectives of the sweep, or given."""

    source: str  # "fitted", "one message size", "given"
    alpha_us: float | None  # per step of the ring; None: cannot be told from bandwidth
    alpha_interval_us: Span | None
    bandwidth_gbyte_per_s: float
    bandwidth_interval_gbyte_per_s: Span | None
    sizes: int  # message sizes times rank counts that it rests on
    median_residual: float | None  # relative


class ModelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the curve: its leave-one-out error, or why it has none."""

    name: str  # physics, usl, growth
    error_percent: float | None
    refused: str


class Usl(msgspec.Struct, frozen=True, kw_only=True):
    """Gunther's law with 95 % intervals; peak_ranks is None without coherency cost."""

    contention: float
    contention_interval: Span
    coherency: float
    coherency_interval: Span
    peak_ranks: float | None


class Fits(msgspec.Struct, frozen=True, kw_only=True):
    """What describes the curve. The cause of a loss is named from the budget, never from here."""

    points: tuple[int, ...]  # rank counts that were used
    amdahl_serial_share: float | None
    physics_serial_ms: float | None
    physics_compute_ms: float | None  # of one rank (strong) or of each rank (weak)
    skew_sd_ms: float | None
    link: LinkUsed | None
    usl: Usl | None
    usl_refused: str
    growth: str  # Extra-P's form of the step in ms, "" if refused
    growth_refused: str
    models: tuple[ModelStanding, ...]
    chosen: str  # "" if none


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """A step on a number of ranks that was not measured."""

    ranks: int
    step_ms: float | None
    low_ms: float | None
    high_ms: float | None
    samples_per_s: float | None
    efficiency: float | None
    refused: str = ""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Time and money for a given amount of work on a number of ranks."""

    ranks: int
    predicted: bool
    hours: float
    gpu_hours: float
    price: float | None  # in the currency of --price-per-gpu-hour


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of scale.json."""

    schema_version: int
    perfkit_version: str
    mode: str  # strong or weak, by the recorded samples
    command: str
    model: str
    dtypes: tuple[str, ...]
    base_ranks: int
    points: tuple[ScalingPoint, ...]
    fits: Fits | None
    fit_refused: str
    predictions: tuple[Prediction, ...]
    predicted_link: LinkUsed | None  # the network that the predictions assume
    knee_ranks: int | None  # largest speed-up times efficiency among measured and predicted
    work: str  # what `costs` are for
    costs: tuple[Cost, ...]
    cheapest_ranks: int | None
    fastest_ranks: int | None
    warnings: tuple[Warned, ...]
    sentences: tuple[str, ...]  # strong against weak scaling in these numbers
