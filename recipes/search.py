"""Find the recipes that make a training faster: try, measure, keep or revert, look again.

Baseline and diagnosis; candidates by predicted gain; each is compared with the stack so far and
kept only if it is faster for certain and the numbers hold. After each kept recipe the run is
diagnosed again, because its bottleneck has moved. At the end the whole stack is confirmed on fresh
runs against the original, and each part taken out once. Everything that runs is handed in; the
search decides, and the same answers lead to the same trials, so that it can be taken up again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Protocol

import msgspec

from perfkit.analyzers.calibration import Pair
from perfkit.analyzers.refusal import Refusal
from perfkit.recipes import comparing, guard, ledger
from perfkit.recipes.activation import Choice
from perfkit.recipes.candidates import SEARCH_RUNS, Candidate, candidates
from perfkit.recipes.decisions import Checks, decide, memory_ratio
from perfkit.recipes.measured import STEPS, Measured, Wanted
from perfkit.recipes.recipe import Numerics, Recipe, Situation
from perfkit.recipes.statistics import LEAST_PAIRS, PILOT_PAIRS, Noise, noise_of

FRESH_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What bounds the step with a stack, from a traced trial."""

    situation: Situation
    diagnosed: ledger.Diagnosed
    seconds: float


class Laboratory(comparing.Laboratory, Protocol):
    """Runs trials, and diagnoses stacks."""

    def diagnose(self, name: str, stack: Sequence[Choice]) -> Diagnosis | Refusal:
        """Run a traced trial with these recipes and say what bounds its step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user asked for. `only`: recipes to look at; () is all."""

    allow: Numerics = Numerics.EXACT
    budget_s: float = 600.0
    only: tuple[str, ...] = ()
    past: tuple[Pair, ...] = ()


@dataclass(slots=True)
class Search:
    """One search. `changed` is called with the ledger after every decision, `tries` before one."""

    laboratory: Laboratory
    recipes: Sequence[Recipe]
    settings: Settings
    book: ledger.Optimization
    changed: Callable[[ledger.Optimization], None] = lambda book: None
    tries: Callable[[Candidate], None] = lambda candidate: None
    spent_s: float = 0.0
    trials: int = 0
    stack: list[Choice] = field(default_factory=list)
    floor: guard.Distance | None = None
    allowed: list[guard.Tolerance] = field(default_factory=list)  # of what was kept
    noise: Noise | None = None

    def run(self) -> ledger.Optimization | Refusal:
        """Search to the end. A Refusal: the baseline itself cannot be measured."""
        diagnosis = self._diagnose("diagnosis-0")
        if isinstance(diagnosis, Refusal):
            return diagnosis
        trouble = self._pilot()
        if trouble is not None:
            return trouble
        stopped = self._climb(diagnosis)
        self._note(stopped=stopped)
        self._confirm()
        self._ablate()
        self._note(complete=True)
        return self.book

    # The steps of `run`

    def _diagnose(self, name: str) -> Diagnosis | Refusal:
        found = self.laboratory.diagnose(name, tuple(self.stack))
        if isinstance(found, Refusal):
            return found
        self._spend(found.seconds)
        self._note(diagnosed=(*self.book.diagnosed, found.diagnosed))
        return found

    def _pilot(self) -> Refusal | None:
        """Measure what equal runs differ by: in time and in numbers."""
        runs: list[Measured] = []
        for number in range(2 * PILOT_PAIRS):
            one = self._run(Wanted(name=f"baseline-{number + 1}"))
            if not one.ok or one.step_ms is None:
                few = f"it made {one.steps_made} steps, and {STEPS} are needed to time it"
                return Refusal(reason=f"the training as it is cannot be measured: "
                               f"{one.reason or few}")  # fmt: skip
            runs.append(one)
        times = [run.step_ms for run in runs if run.step_ms is not None]
        self.noise = noise_of(times[::2], times[1::2])
        self.floor = guard.floor_of([run.numbers for run in runs])
        self._note(
            baseline_ms=sorted(times)[len(times) // 2],
            noise_log_sd=self.noise.log_sd,
            resolves=self.noise.resolves,
            pairs=self.noise.pairs,
        )
        return None

    def _climb(self, diagnosis: Diagnosis) -> str:
        """Try one candidate after the other; return why there is none left."""
        done: set[str] = set()
        while True:
            offered = self._candidates(diagnosis.situation, done)
            if not offered:
                return "nothing else is predicted to be worth trying"
            pairs = self._affordable(offered[0])
            if pairs < LEAST_PAIRS:
                self._not_tried(offered, "the budget is spent")
                return "the budget is spent"
            candidate = offered[0]
            done.add(candidate.choice.recipe.id)
            kept = self._try(candidate, pairs)
            if kept is None:
                continue
            self.stack.append(kept)
            self._note(stack=tuple(choice.label for choice in self.stack))
            again = self._diagnose(f"diagnosis-{len(self.stack)}")
            if isinstance(again, Refusal):
                return f"the run with {self.book.stack[-1]} cannot be diagnosed: {again}"
            diagnosis = again

    def _candidates(self, situation: Situation, done: set[str]) -> tuple[Candidate, ...]:
        found = candidates(
            [r for r in self.recipes if not self.settings.only or r.id in self.settings.only],
            situation,
            self.settings.allow,
            done=done,
            past=self.settings.past,
        )
        known = {attempt.recipe for attempt in self.book.attempts if attempt.recipe in done}
        tried = [a for a in self.book.attempts if a.recipe in known]
        self._note(attempts=(*tried, *found.left_out))
        return found.candidates

    def _try(self, candidate: Candidate, pairs: int) -> Choice | None:
        """Compare a candidate with the stack so far; return what is kept of it."""
        assert self.floor is not None
        self.tries(candidate)
        chosen, searched = self._choose(candidate)
        if chosen is not candidate:
            candidate = chosen
            self.tries(candidate)
        recipe = candidate.choice.recipe
        allowed = guard.tolerance_of(recipe.id, candidate.numerics)
        check = Checks((recipe.id,), self.floor, allowed)
        base = tuple(self.stack)
        with_it = (*base, candidate.choice)
        name = f"try-{len(self.stack)}-{recipe.id}"
        done = comparing.compare(_Counted(self), name, (base, with_it), pairs, check=check)
        self._write(candidate, done, check.numbers(), searched)
        if self.book.attempts[-1].decision != "kept":
            return None
        self.allowed.append(allowed)
        return candidate.choice

    def _choose(self, candidate: Candidate) -> tuple[Candidate, tuple[ledger.Setting, ...]]:
        """Run a recipe with each of its parameters, there and back, and take the fastest.

        What is chosen is then compared on runs of its own, so that luck in choosing gains nothing.
        """
        settings = (candidate, *candidate.others)
        if len(settings) == 1:
            return candidate, ()
        runs: dict[str, list[Measured]] = {one.choice.label: [] for one in settings}
        for number in range(1, SEARCH_RUNS + 1):
            for one in settings if number % 2 else settings[::-1]:
                label = one.choice.label
                if not all(_usable(earlier) for earlier in runs[label]):
                    continue
                name = f"search-{len(self.stack)}-{label.replace(':', '-')}-run{number}"
                stack = (*self.stack, one.choice)
                runs[label].append(self._run(Wanted(name=name, stack=stack)))
        whole = [one for one in settings if all(_usable(m) for m in runs[one.choice.label])]
        times = {one.choice.label: _times(runs[one.choice.label]) for one in settings}
        chosen = min(whole, key=lambda one: sum(map(log, times[one.choice.label])), default=None)
        searched = tuple(
            ledger.Setting(
                label=one.choice.label,
                expected=one.forecast.expected,
                step_ms=times[one.choice.label],
                reason=next((m.reason for m in runs[one.choice.label] if m.reason), ""),
            )
            for one in settings
        )
        return chosen or candidate, searched

    def _write(
        self,
        candidate: Candidate,
        done: comparing.Comparison,
        numbers: ledger.Numbers | None,
        searched: tuple[ledger.Setting, ...],
    ) -> None:
        """Decide, and write the decision down with its reason."""
        choice = candidate.choice
        decision, reason = decide(done)
        if decision == "kept" and not choice.recipe.keeps:
            decision, reason = "reverted", choice.recipe.caveat or "it is never kept"
        before = [a for a in self.book.attempts if a.recipe != choice.recipe.id]
        attempt = ledger.Attempt(
            recipe=choice.recipe.id,
            label=choice.label,
            title=choice.recipe.title,
            numerics=candidate.numerics.value,
            forecast=candidate.forecast,
            decision=decision,
            reason=reason,
            stack=tuple(c.label for c in self.stack),
            measured=done.pairs(),
            numbers=numbers,
            memory_ratio=memory_ratio(done.base[0], done.variant[0]) if done.base else None,
            searched=searched,
        )
        self._note(attempts=(*before, attempt))

    def _confirm(self) -> None:
        """Compare the original with the final stack on runs that decided nothing.

        They have a seed of their own, where the script leaves the seed to us.
        """
        if not self.stack:
            return
        assert self.noise is not None and self.floor is not None
        names = [choice.recipe.id for choice in self.stack]
        check = Checks(names, self.floor, guard.loosest(self.allowed))
        done = comparing.compare(
            _Counted(self),
            "confirm",
            ((), tuple(self.stack)),
            self.noise.pairs,
            check=check,
            seed=FRESH_SEED,
        )
        decision, reason = decide(done)
        self._note(confirmation=done.pairs(), confirmed=decision == "kept", not_confirmed=reason)

    def _ablate(self) -> None:
        """Take each part of the stack out once; () where the stack is one recipe."""
        assert self.noise is not None
        if len(self.stack) < 2:
            return
        for choice in self.stack:
            if self.spent_s + self._cost_of_pairs() > self.settings.budget_s:
                left = ledger.Ablation(label=choice.label, measured=None,
                                       reason="the budget is spent")  # fmt: skip
                self._note(ablations=(*self.book.ablations, left))
                continue
            rest = comparing.unlike(self.stack, choice.label)
            name = f"ablate-{choice.recipe.id}"
            arms = (rest, tuple(self.stack))
            done = comparing.compare(_Counted(self), name, arms, self.noise.pairs)
            one = ledger.Ablation(
                label=choice.label, measured=done.pairs(), reason=done.out or done.broken
            )
            self._note(ablations=(*self.book.ablations, one))

    # Bookkeeping

    def _run(self, wanted: Wanted) -> Measured:
        measured = self.laboratory.run(wanted)
        self._spend(measured.seconds)
        self.trials += 1
        return measured

    def _spend(self, seconds: float) -> None:
        self.spent_s += seconds

    def _cost_of_pairs(self) -> float:
        """Estimate the seconds that one comparison takes."""
        assert self.noise is not None
        return 2 * self.noise.pairs * self._cost_of_trial()

    def _affordable(self, candidate: Candidate) -> int:
        """Return the pairs that the noise asks for, or as many as the budget still holds.

        A large gain is plain after few. The confirmation of what is kept already has its share.
        """
        assert self.noise is not None
        left = (self.settings.budget_s - self.spent_s) / self._cost_of_trial()
        left -= candidate.searching + (2 * LEAST_PAIRS if self.stack else 0)
        return min(self.noise.pairs, int(left / 2))

    def _cost_of_trial(self) -> float:
        return self.spent_s / (self.trials + len(self.book.diagnosed))

    def _not_tried(self, left: Sequence[Candidate], reason: str) -> None:
        rest = tuple(
            ledger.Attempt(
                recipe=c.choice.recipe.id,
                label=c.choice.label,
                title=c.choice.recipe.title,
                numerics=c.numerics.value,
                forecast=c.forecast,
                decision="not_tried",
                reason=reason,
            )
            for c in left
        )
        self._note(attempts=(*self.book.attempts, *rest))

    def _note(self, **fields: object) -> None:
        self.book = msgspec.structs.replace(self.book, spent_s=round(self.spent_s, 1), **fields)
        self.changed(self.book)


@dataclass(frozen=True, slots=True)
class _Counted:
    """The laboratory, with its time charged to the search."""

    search: Search

    def run(self, wanted: Wanted) -> Measured:
        return self.search._run(wanted)


def _usable(measured: Measured) -> bool:
    return measured.ok and measured.step_ms is not None and not measured.refused


def _times(runs: Sequence[Measured]) -> tuple[float, ...]:
    return tuple(m.step_ms for m in runs if m.step_ms is not None)
