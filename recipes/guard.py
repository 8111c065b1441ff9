"""The numerics guard: whether a training with a recipe still computes the same.

Both arms ran with the same seeds and data. What two baselines differ by (the A/A floor) is
measured first; tolerances are those of the recipe's class or that floor, whichever is wider.
Point-wise comparison holds for short runs only: two correct 16-bit runs part after some hundred
steps, so that 16-bit classes compare smoothed losses and the mean signed difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from perfkit.recipes.recipe import Numerics
from perfkit.trace.numerics import RankNumbers

F64 = NDArray[np.float64]
Numbers = Sequence[RankNumbers]
POINTWISE_STEPS = 20
SMOOTHING = 0.9  # of the exponential average
RUNAWAY, RUNAWAY_STEPS = 2.0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a class may move the numbers, all relative. None: not judged."""

    first_loss: float | None
    cosine: float | None  # of the first step's gradient
    gradient: float | None  # L2 distance of it
    trajectory: float | None  # of the loss, largest
    smoothed: bool = False  # of its exponential average, and half of it for the mean difference
    parameters: float | None = None  # L2 distance at the end
    floors: float = 10.0  # times the A/A floor that is allowed in any case


EXACT = Tolerance(first_loss=1e-6, cosine=1 - 1e-6, gradient=1e-5, trajectory=1e-4, parameters=1e-5)
REORDERED = Tolerance(first_loss=1e-5, cosine=1 - 1e-5, gradient=1e-3, trajectory=1e-3)
REDUCED = Tolerance(
    first_loss=1e-3, cosine=0.9999, gradient=1e-2, trajectory=0.01, smoothed=True, floors=3
)
SIXTEEN_BIT = Tolerance(
    first_loss=1e-2, cosine=0.999, gradient=5e-2, trajectory=0.02, smoothed=True, floors=3
)
SCALED_FP16 = Tolerance(
    first_loss=1e-3, cosine=0.9999, gradient=2e-2, trajectory=0.02, smoothed=True, floors=3
)
COMPRESSED = Tolerance(
    first_loss=1e-6, cosine=0.99999, gradient=5e-3, trajectory=0.02, smoothed=True, floors=3
)
UNJUDGED = Tolerance(first_loss=None, cosine=None, gradient=None, trajectory=None)
_OF_RECIPE = {
    "fused-optimizer": REORDERED,
    "channels-last": REORDERED,
    "compile": REORDERED,
    "tf32": REDUCED,
    "amp-fp16": SCALED_FP16,
    "bf16-gradients": COMPRESSED,
    "fp16-gradients": COMPRESSED,
}


def tolerance_of(recipe: str, numerics: Numerics) -> Tolerance:
    """Return the tolerance of a recipe, by its name and else by its class."""
    if numerics is Numerics.EXACT:
        return _OF_RECIPE.get(recipe, EXACT)
    if numerics is Numerics.ALGORITHM:
        return UNJUDGED
    return _OF_RECIPE.get(recipe, SIXTEEN_BIT)


def loosest(tolerances: Sequence[Tolerance]) -> Tolerance:
    """Return the tolerance of several recipes together: each limit is the widest of theirs."""

    def widest(limits: Sequence[float | None], pick: Callable[..., float]) -> float | None:
        known = [limit for limit in limits if limit is not None]
        return pick(known) if known and len(known) == len(limits) else None

    if any(one is UNJUDGED for one in tolerances):
        return UNJUDGED
    return Tolerance(
        first_loss=widest([one.first_loss for one in tolerances], max),
        cosine=widest([one.cosine for one in tolerances], min),
        gradient=widest([one.gradient for one in tolerances], max),
        trajectory=widest([one.trajectory for one in tolerances], max),
        smoothed=any(one.smoothed for one in tolerances),
        parameters=widest([one.parameters for one in tolerances], max),
        floors=max((one.floors for one in tolerances), default=10.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far two runs' numbers lie apart, the worst of their ranks. None: not recorded."""

    first_loss: float | None  # relative
    cosine: float | None
    gradient: float | None
    trajectory: float | None  # largest relative difference of the first steps' losses
    smoothed: float | None  # the same of the smoothed losses
    signed: float | None  # mean relative difference
    parameters: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """The guard's word. `reason` says why not; with `ok` it may say what was not judged."""

    ok: bool
    reason: str
    distance: Distance | None


def distance(base: Numbers, other: Numbers) -> Distance:
    """Return how far two runs lie apart, rank by rank."""
    pairs = [(b, o) for b in base for o in other if b.rank == o.rank]
    losses = [_common(b.losses, o.losses) for b, o in pairs]
    return Distance(
        first_loss=_worst([_relative(b[:1], o[:1]) for b, o in losses]),
        cosine=_least([_cosine(b.gradient, o.gradient) for b, o in pairs]),
        gradient=_worst([_l2(b.gradient, o.gradient) for b, o in pairs]),
        trajectory=_worst([_relative(b[:POINTWISE_STEPS], o[:POINTWISE_STEPS]) for b, o in losses]),
        smoothed=_worst([_relative(smooth(b), smooth(o)) for b, o in losses]),
        signed=_worst([_signed(b, o) for b, o in losses]),
        parameters=_worst([_l2(b.parameters, o.parameters) for b, o in pairs]),
    )


def floor_of(baselines: Sequence[Numbers]) -> Distance:
    """Return what equal runs differ by: the worst of each against the first."""
    if len(baselines) < 2:
        return distance(baselines[0], baselines[0]) if baselines else distance((), ())
    found = [distance(baselines[0], other) for other in baselines[1:]]
    return Distance(
        first_loss=_worst([d.first_loss for d in found]),
        cosine=_least([d.cosine for d in found]),
        gradient=_worst([d.gradient for d in found]),
        trajectory=_worst([d.trajectory for d in found]),
        smoothed=_worst([d.smoothed for d in found]),
        signed=_worst([d.signed for d in found]),
        parameters=_worst([d.parameters for d in found]),
    )


def guard(base: Numbers, variant: Numbers, floor: Distance, allowed: Tolerance) -> Guarded:
    """Judge one run with a recipe against one without."""
    broken = _broken(base, variant)
    if broken:
        return Guarded(ok=False, reason=broken, distance=None)
    found = distance(base, variant)
    if allowed is UNJUDGED:
        text = "another algorithm: a short run cannot say whether it still converges as well"
        return Guarded(ok=True, reason=text, distance=found)
    if found.first_loss is None and found.gradient is None:
        text = "neither losses nor gradients were seen, so that nothing can be compared"
        return Guarded(ok=False, reason=text, distance=found)
    for what, value, most in _limits(found, floor, allowed):
        if value is not None and value > most:
            text = f"{what} moved by {value:.2g}, allowed is {most:.2g}"
            return Guarded(ok=False, reason=text, distance=found)
    return Guarded(ok=True, reason="", distance=found)


def _limits(
    found: Distance, floor: Distance, allowed: Tolerance
) -> list[tuple[str, float | None, float]]:
    """Return what is compared, its value, and the most that it may be."""

    def most(limit: float | None, own: float | None) -> float:
        return float("inf") if limit is None else max(limit, allowed.floors * (own or 0.0))

    turned = None if found.cosine is None else 1 - found.cosine
    least = None if allowed.cosine is None else 1 - allowed.cosine
    own_turn = None if floor.cosine is None else 1 - floor.cosine
    limits = [
        ("the first loss", found.first_loss, most(allowed.first_loss, floor.first_loss)),
        ("the first gradient's direction (1 - cosine)", turned, most(least, own_turn)),
        ("the first gradient", found.gradient, most(allowed.gradient, floor.gradient)),
        ("the parameters at the end", found.parameters, most(allowed.parameters, floor.parameters)),
    ]
    if not allowed.smoothed:
        most_here = most(allowed.trajectory, floor.trajectory)
        return [*limits, ("the loss of a step", found.trajectory, most_here)]
    own = max(floor.smoothed or 0.0, floor.signed or 0.0)
    wide = most(allowed.trajectory, own)
    signed = None if found.signed is None else abs(found.signed)
    return [
        *limits,
        ("the smoothed loss", found.smoothed, wide),
        ("the loss on average", signed, wide / 2),
    ]


def _broken(base: Numbers, variant: Numbers) -> str:
    """Say what no class may do: not a number, a runaway loss, ranks that part, a rank missing."""
    if {n.rank for n in base} != {n.rank for n in variant}:
        return "not all ranks recorded their numbers"
    for numbers in variant:
        seen = [*numbers.losses[~_unseen(base, numbers)], *numbers.norms.values()]
        if not all(isfinite(x) for x in [*seen, *numbers.parameters]):
            return f"a loss, gradient or parameter of rank {numbers.rank} is not finite"
    if _ranks_equal(base) and not _ranks_equal(variant):
        return "the ranks' parameters are no longer equal"
    for before, after in zip(_by_rank(base), _by_rank(variant), strict=True):
        old, new = _common(before.losses, after.losses)
        if len(old) and _runs_away(smooth(old), new):
            return f"the loss of rank {after.rank} is more than {RUNAWAY:g} times the baseline's"
    return ""


def _unseen(base: Numbers, numbers: RankNumbers) -> NDArray[np.bool_]:
    """Steps without a loss in the baseline either."""
    own = next(n for n in base if n.rank == numbers.rank).losses
    mask = np.ones(len(numbers.losses), dtype=np.bool_)
    mask[: len(own)] = ~np.isfinite(own[: len(mask)])
    return mask


def _runs_away(usual: F64, losses: F64) -> bool:
    beyond = losses - usual > (RUNAWAY - 1) * np.abs(usual)
    runs = np.convolve(beyond, np.ones(RUNAWAY_STEPS), "valid")
    return bool((runs >= RUNAWAY_STEPS).any()) if len(beyond) >= RUNAWAY_STEPS else False


def _ranks_equal(numbers: Numbers) -> bool:
    first = numbers[0].parameters if numbers else np.empty(0)
    return all(np.array_equal(n.parameters, first) for n in numbers)


def _by_rank(numbers: Numbers) -> list[RankNumbers]:
    return sorted(numbers, key=lambda n: n.rank)


def _common(first: F64, second: F64) -> tuple[F64, F64]:
    """Return the losses of the steps in which both have one."""
    length = min(len(first), len(second))
    first, second = first[:length], second[:length]
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def smooth(losses: F64) -> F64:
    """Return the exponential average, started at the first value."""
    found = np.array(losses, dtype=np.float64)
    for index in range(1, len(found)):
        found[index] = SMOOTHING * found[index - 1] + (1 - SMOOTHING) * found[index]
    return found


def _relative(first: F64, second: F64) -> float | None:
    """Return the largest difference, in units of the larger magnitude of the two series."""
    if not len(first):
        return None
    scale = np.maximum(np.abs(first), np.abs(second))
    apart = np.abs(first - second)
    return float(np.max(np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 0)))


def _signed(first: F64, second: F64) -> float | None:
    scale = float(np.mean(np.abs(first))) if len(first) else 0.0
    return float(np.mean(second - first)) / scale if scale else None


def _l2(first: F64, second: F64) -> float | None:
    norm = float(np.linalg.norm(first))
    if not len(first) or len(first) != len(second) or not norm:
        return None
    return float(np.linalg.norm(second - first)) / norm


def _cosine(first: F64, second: F64) -> float | None:
    if not len(first) or len(first) != len(second):
        return None
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms else None


def _worst(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return max(known, key=abs) if known else None


def _least(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return min(known) if known else None
