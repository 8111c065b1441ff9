"""Whether a variant is faster: paired runs, t on log ratios, and when to say nothing.

The protocol is that of the recipes' reference measurements. The unit is a run: its median step of
the slowest rank. Pairs are run side by side in random order. A pilot of two equal arms (A/A) says
how far equal runs lie apart, and from it how many pairs resolve 3 %. Steps of one run, the
bootstrap over few pairs and repeated looks at the same level all call equal code "faster" too
often; the paired t does not, and looks before the last pair are held to a stricter level.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.statistics import (
    PairedRatio,
    minimum_detectable_effect,
    paired_t,
    pairs_needed,
)

PILOT_PAIRS = 3
LEAST_PAIRS, MOST_PAIRS = 5, 12
FIRST_LOOK = 3
"""Pairs from which on what is plain already need not be repeated."""
LOOK_CONFIDENCE = 0.995
RESOLVE = 1.03
"""The speed-up that should be found, and the least median ratio that is worth keeping."""
LEAST_GAIN = 1.02
"""The lower limit must exceed it: a gain of this size is not worth a change."""
HOPELESS = 1.10
"""If even the most pairs resolve only more than this, the machine is too noisy."""


class Outcome(StrEnum):
    """What the pairs say."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_GAIN = "no_gain"  # any gain is too small to be worth it
    INCONCLUSIVE = "inconclusive"
    TOO_NOISY = "too_noisy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What equal runs differ by, from A/A pairs."""

    log_sd: float  # of the log ratios of pairs
    pairs: int  # to run of every comparison
    resolves: float  # the speed-up that so many pairs find in 8 of 10 cases

    @property
    def hopeless(self) -> bool:
        """Whether even the most pairs find only large effects."""
        return self.resolves > HOPELESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The comparison of two arms; ratio above 1: the variant is faster. Limits are 95 %."""

    outcome: Outcome
    measured: PairedRatio
    resolves: float  # effects below this cannot be seen with these pairs


def noise_of(first: Sequence[float], second: Sequence[float]) -> Noise:
    """Return the noise of A/A pairs (ms, entry i of both is one pair) and the pairs to run.

    Raises ValueError for fewer than two pairs.
    """
    found = paired_t(first, second)
    if isinstance(found, Refusal):
        raise ValueError(found.reason)
    needed = pairs_needed(found.log_sd, ratio=RESOLVE, least=LEAST_PAIRS, most=MOST_PAIRS)
    pairs = needed or MOST_PAIRS
    return Noise(log_sd=found.log_sd, pairs=pairs, resolves=_resolves(found.log_sd, pairs))


def judge(
    base: Sequence[float], variant: Sequence[float], *, least_gain: float = LEAST_GAIN
) -> Judgement:
    """Compare the arms after all pairs. Raises ValueError for fewer than two pairs.

    Kept is what is FASTER: lower limit above `least_gain`, median ratio at least 1.03, at most
    one pair in the other direction.
    """
    found = paired_t(base, variant)
    if isinstance(found, Refusal):
        raise ValueError(found.reason)
    resolves = _resolves(found.log_sd, found.pairs)
    outcome = Outcome.INCONCLUSIVE
    if _is_faster(found, found.low, least_gain):
        outcome = Outcome.FASTER
    elif found.high < 1:
        outcome = Outcome.SLOWER
    elif found.high < RESOLVE:
        outcome = Outcome.NO_GAIN
    elif resolves > HOPELESS:
        outcome = Outcome.TOO_NOISY
    return Judgement(outcome=outcome, measured=found, resolves=resolves)


def is_plain(base: Sequence[float], variant: Sequence[float]) -> bool:
    """Tell, after each pair from the third on, whether the remaining pairs can be spared.

    Either the gain is certain at 99.5 %, or a gain is ruled out at 95 % (which never keeps
    anything, and so adds no false positive). What the looks cost in false positives is part of
    what `make bench-statistics` measures.
    """
    if len(base) < FIRST_LOOK:
        return False
    strict = paired_t(base, variant, confidence=LOOK_CONFIDENCE)
    usual = paired_t(base, variant)
    assert not isinstance(strict, Refusal) and not isinstance(usual, Refusal)
    return _is_faster(strict, strict.low, LEAST_GAIN) or usual.high < 1


def order_of(label: str, pairs: int) -> tuple[bool, ...]:
    """Return for each pair whether the baseline goes first: random, balanced, the same each time.

    Seeded by `label`, so that an interrupted comparison goes on in the order it began in.
    """
    chance = random.Random(label)
    order: list[bool] = []
    while len(order) < pairs:
        two = [True, False]
        chance.shuffle(two)
        order += two
    return tuple(order[:pairs])


def _is_faster(found: PairedRatio, low: float, least_gain: float) -> bool:
    return (
        low > least_gain
        and found.median_ratio >= RESOLVE
        and found.ratio > 1
        and found.same_direction >= found.pairs - 1
    )


def _resolves(log_sd: float, pairs: int) -> float:
    return exp(min(minimum_detectable_effect(log_sd, pairs), 50.0))
