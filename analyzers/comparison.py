"""The typed content of `perfkit compare --json`: what changed between two arms of runs."""

import msgspec

SCHEMA_VERSION = 1


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One side: its runs and what each was found to be bound by."""

    runs: tuple[str, ...]  # run ids
    labels: tuple[str, ...]
    world_size: int
    steps: tuple[int, ...]  # steps behind each run's step time


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of the step time: geometric means over runs, and new over base.

    ratio above 1: the new runs are slower. low, high: 95 % limits over runs (t interval on the
    logarithms); None where they cannot be told.
    """

    measure: str  # "median step", "mean step", "median profiled step"
    base_ms: tuple[float, ...]  # one a run
    new_ms: tuple[float, ...]
    base_mean_ms: float
    new_mean_ms: float
    ratio: float
    low: float | None
    high: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One class, operator or rank: mean over runs of its time per step, and the change.

    None in base_ms or new_ms: not recorded, or not listed, on that side. changed: whether the
    difference stands out of the differences between runs, all rows of the table considered
    together (Holm, 5 %); None where one run a side cannot tell.
    """

    name: str
    base_ms: float | None
    new_ms: float | None
    change_ms: float | None
    low_ms: float | None = None  # 95 % limits of the change, of this row alone
    high_ms: float | None = None
    changed: bool | None = None
    mostly: str = ""  # of a rank: the class that changed most there
    mostly_ms: float | None = None  # and by how much


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the slow-down that was allowed is exceeded for certain."""

    max_slowdown: float
    lower_limit: float | None  # of the slow-down, the larger of all measures
    outcome: str  # passed, failed, cannot_tell
    measure: str = ""  # whose lower limit it is


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison. verdict: slower, faster, unclear, no_difference_shown, cannot_tell."""

    schema_version: int
    base: Arm
    new: Arm
    verdict: str
    sentence: str
    reason: str  # why it cannot be told
    speed: tuple[Speed, ...]
    gate: Gate | None
    classes: tuple[Row, ...]
    operators: tuple[Row, ...]
    ranks: tuple[Row, ...]
    findings_gone: tuple[str, ...]
    findings_new: tuple[str, ...]
    notes: tuple[str, ...]
