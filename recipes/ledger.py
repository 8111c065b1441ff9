"""The typed content of `perfkit optimize --json` (optimize.json): what was tried, what was kept.

Ratios are baseline over variant, so that 1.5 means that the variant is 1.5 times as fast. Limits
are 95 %, over pairs of runs. None: not known. analysis.json and the run folders of all trials lie
beside it.
"""

import msgspec

SCHEMA_VERSION = 1


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Two arms, pair by pair. `with_recipe` is the arm that has one recipe more."""

    trials: tuple[tuple[str, str], ...]  # names: without, with
    base_ms: tuple[float, ...]  # median step of the slowest rank, one a run
    variant_ms: tuple[float, ...]
    ratio: float | None = None  # geometric mean
    low: float | None = None
    high: float | None = None
    outcome: str = ""  # faster, slower, no_gain, inconclusive, too_noisy; "" for one pair
    resolves: float | None = None  # smaller gains cannot be seen in so many pairs
    others: tuple[tuple[float | None, float | None], ...] = ()  # programs' share of the processors
    disturbed: tuple[tuple[str, str], ...] = ()  # left out: the load by others changed meanwhile


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted before the recipe was tried."""

    ceiling: float | None
    expected: float | None
    low: float | None
    high: float | None
    basis: str
    why: str
    past: int = 0  # earlier predictions of this recipe that were measured
    past_error: float | None = None  # the error to expect of it from those


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """How far the recipe moved the numbers: relative, the worst rank."""

    ok: bool
    reason: str
    first_loss: float | None = None
    gradient: float | None = None
    trajectory: float | None = None
    parameters: float | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe with one of the parameters that were searched: runs that chose, and no more."""

    label: str
    expected: float | None  # the speed-up that was predicted for it
    step_ms: tuple[float, ...]  # () where it failed
    reason: str = ""  # how it failed


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe that was considered. decision: kept, reverted, refused, not_tried."""

    recipe: str
    label: str  # as --recipe takes it
    title: str
    numerics: str  # exact, numerics, algorithm
    forecast: Forecast
    decision: str
    reason: str
    stack: tuple[str, ...] = ()  # what was on beside it
    measured: Pairs | None = None
    numbers: Numbers | None = None
    memory_ratio: float | None = None  # peak with the recipe over peak without it
    searched: tuple[Setting, ...] = ()  # parameters that were measured before one was compared


class Diagnosed(msgspec.Struct, frozen=True, kw_only=True):
    """What bound the step with this stack."""

    stack: tuple[str, ...]
    trial: str
    label: str
    dominant: str
    step_ms: float | None
    findings: tuple[str, ...]


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """What the step loses when one recipe of the final stack is taken away."""

    label: str
    measured: Pairs | None
    reason: str = ""  # why it was not measured


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The source change that makes a kept recipe permanent: a unified diff or a snippet."""

    label: str
    text: str
    is_diff: bool


class Optimization(msgspec.Struct, frozen=True, kw_only=True):
    """The whole search. stopped: why it went no further."""

    schema_version: int
    perfkit_version: str
    command: str
    allow: str
    budget_s: float
    spent_s: float
    steps: int  # of every trial
    baseline_ms: float | None
    noise_log_sd: float | None  # of pairs of equal runs
    resolves: float | None
    pairs: int | None  # of every comparison
    diagnosed: tuple[Diagnosed, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    stack: tuple[str, ...] = ()
    confirmation: Pairs | None = None  # original against the final stack, fresh runs
    confirmed: bool = False
    not_confirmed: str = ""  # why not
    ablations: tuple[Ablation, ...] = ()
    changes: tuple[Change, ...] = ()
    stopped: str = ""
    sentence: str = ""
    complete: bool = False
