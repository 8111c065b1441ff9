"""Run two stacks of recipes pair by pair until it is clear which is faster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from perfkit.recipes import ledger
from perfkit.recipes.activation import Choice
from perfkit.recipes.measured import STEPS, WARM_UP, Measured, Wanted, backlog
from perfkit.recipes.statistics import (
    FIRST_LOOK,
    Judgement,
    is_plain,
    judge,
    order_of,
)

Stack = tuple[Choice, ...]
Check = Callable[[Measured, Measured], str]
"""Looks at a pair and says why the variant is out; "" if it is not."""
MOST_BROKEN = 2
DISTURBED = 0.25
"""A pair between whose runs others' share of the processors changed by more does not count."""
MORE_PAIRS = 3
"""So many pairs are measured in place of disturbed ones, and no more."""


class Laboratory(Protocol):
    """Runs trials; what has been run before under the same name is remembered."""

    def run(self, wanted: Wanted) -> Measured:
        """Run one trial and measure it."""


@dataclass(slots=True)
class Comparison:
    """Pairs so far. Entry i of the arms was measured side by side."""

    base: list[Measured] = field(default_factory=list)
    variant: list[Measured] = field(default_factory=list)
    disturbed: list[tuple[Measured, Measured]] = field(default_factory=list)  # not among the arms
    out: str = ""  # why the variant is out, "" if it is not
    broken: str = ""  # why nothing can be said
    found: Judgement | None = None

    @property
    def base_ms(self) -> list[float]:
        """The baseline's step times."""
        return [m.step_ms for m in self.base if m.step_ms is not None]

    @property
    def variant_ms(self) -> list[float]:
        """The variant's step times."""
        return [m.step_ms for m in self.variant if m.step_ms is not None]

    def pairs(self) -> ledger.Pairs | None:
        """Return what goes into the ledger; None without a whole pair."""
        if not self.base:
            return None
        found = self.found
        return ledger.Pairs(
            trials=tuple(
                (b.wanted.name, v.wanted.name) for b, v in zip(self.base, self.variant, strict=True)
            ),
            base_ms=tuple(self.base_ms),
            variant_ms=tuple(self.variant_ms),
            ratio=None if found is None else found.measured.ratio,
            low=None if found is None else found.measured.low,
            high=None if found is None else found.measured.high,
            outcome="" if found is None else found.outcome.value,
            resolves=None if found is None else found.resolves,
            others=tuple(
                (b.others, v.others) for b, v in zip(self.base, self.variant, strict=True)
            ),
            disturbed=tuple((b.wanted.name, v.wanted.name) for b, v in self.disturbed),
        )

    def is_enough(self, measured: int, wanted: int) -> bool:
        """Tell whether another pair can be spared, after so many, broken ones included."""
        if measured >= wanted and not self.disturbed:
            return True
        return len(self.base) >= wanted or is_plain(self.base_ms, self.variant_ms)

    def take(self, base: Measured, variant: Measured) -> None:
        """Add a pair to the arms, or to the disturbed ones."""
        if _disturbed(base, variant):
            self.disturbed.append((base, variant))
        else:
            self.base.append(base)
            self.variant.append(variant)

    def count_all(self) -> None:
        """Take the disturbed pairs in: too few others are left, and the interval shows what is."""
        for base, variant in self.disturbed:
            self.base.append(base)
            self.variant.append(variant)
        self.disturbed.clear()


def compare(
    laboratory: Laboratory,
    name: str,
    arms: tuple[Stack, Stack],
    pairs: int,
    *,
    check: Check = lambda base, variant: "",
    seed: int = 0,
) -> Comparison:
    """Compare the first stack (baseline) with the second, `pairs` pairs in random order.

    Stops at once where the variant fails or `check` rejects a pair, and at the early look where
    the rest is plain. A baseline that fails twice ends it too: then nothing can be said. Pairs in
    which the load by others changed are measured again, as far as MORE_PAIRS reaches; where fewer
    than three others remain, all count. What counts is so decided by the load, never by a result.
    """
    done = Comparison()
    broken = 0
    for number, base_first in enumerate(order_of(name, pairs + MORE_PAIRS), 1):
        if done.is_enough(number - 1, pairs):
            break
        base, variant = _pair(laboratory, f"{name}-pair{number}", arms, base_first, seed)
        if not _usable(variant):
            done.out = variant.reason or _too_few(variant)
            return done
        if not _usable(base):
            broken += 1
            done.broken = base.reason or _too_few(base)
            if broken >= MOST_BROKEN:
                return done
            continue
        done.out = check(base, variant)
        if done.out:
            return done
        done.take(base, variant)
    if len(done.base) < FIRST_LOOK:
        done.count_all()
    if len(done.base) >= 2:
        done.found = judge(done.base_ms, done.variant_ms)
        done.broken = ""
    return done


def _pair(
    laboratory: Laboratory, name: str, arms: tuple[Stack, Stack], base_first: bool, seed: int
) -> tuple[Measured, Measured]:
    """Run both arms with the same steps, so that what is discarded is the same."""
    ahead = 2 * max(backlog(arms[0]), backlog(arms[1]))
    steps, discard = STEPS + ahead, WARM_UP + ahead
    base, variant = (
        Wanted(name=f"{name}-{arm}", stack=stack, steps=steps, discard=discard, seed=seed)
        for arm, stack in zip(("without", "with"), arms, strict=True)
    )
    if base_first:
        first = laboratory.run(base)
        return first, laboratory.run(variant)
    second = laboratory.run(variant)
    if not second.ok:  # it is out whatever the baseline does: spare that run
        return second, second
    return laboratory.run(base), second


def _usable(measured: Measured) -> bool:
    return measured.ok and measured.step_ms is not None


def _disturbed(base: Measured, variant: Measured) -> bool:
    if base.others is None or variant.others is None:
        return False
    return abs(base.others - variant.others) > DISTURBED


def _too_few(measured: Measured) -> str:
    return f"it made only {measured.steps_made} steps, too few to be timed"


def unlike(stack: Sequence[Choice], label: str) -> Stack:
    """Return the stack without the recipe of that label."""
    return tuple(choice for choice in stack if choice.label != label)
