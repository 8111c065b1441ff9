"""What a comparison means for a recipe: kept, reverted or refused, and the reason in words."""

from collections.abc import Sequence

from perfkit.recipes import comparing, guard, ledger
from perfkit.recipes.measured import Measured
from perfkit.recipes.statistics import Outcome

MORE_MEMORY = 1.1
"""A recipe may need so many times the memory."""
REASONS = {
    Outcome.SLOWER: "slower",
    Outcome.NO_GAIN: "no gain that would be worth it",
    Outcome.INCONCLUSIVE: "inconclusive",
}


class Checks:
    """Looks at each pair of a comparison: refusals, memory, numbers. An instance is a `Check`."""

    def __init__(
        self, recipes: Sequence[str], floor: guard.Distance, allowed: guard.Tolerance
    ) -> None:
        self.recipes = recipes
        self.floor = floor
        self.allowed = allowed
        self.seen: list[guard.Guarded] = []

    def __call__(self, base: Measured, variant: Measured) -> str:
        """Say why the variant is out, "" if it is not."""
        for recipe in self.recipes:
            if recipe in variant.refused:
                return f"refused: {variant.refused[recipe]}"
        ratio = memory_ratio(base, variant)
        if ratio is not None and ratio > MORE_MEMORY:
            return f"it needs {ratio:.2f} times the memory"
        found = guard.guard(base.numbers, variant.numbers, self.floor, self.allowed)
        self.seen.append(found)
        return "" if found.ok else found.reason

    def numbers(self) -> ledger.Numbers | None:
        """Return what goes into the ledger: of the pair that failed, else of the first."""
        if not self.seen:
            return None
        guarded = self.seen[0] if self.seen[-1].ok else self.seen[-1]
        moved = guarded.distance
        return ledger.Numbers(
            ok=guarded.ok,
            reason=guarded.reason,
            first_loss=None if moved is None else moved.first_loss,
            gradient=None if moved is None else moved.gradient,
            trajectory=None if moved is None else moved.trajectory,
            parameters=None if moved is None else moved.parameters,
        )


def decide(done: comparing.Comparison) -> tuple[str, str]:
    """Return the decision on a comparison and its reason."""
    if done.out:
        refused = done.out.startswith("refused: ")
        return (
            ("refused", done.out.removeprefix("refused: ")) if refused else ("reverted", done.out)
        )
    if done.found is None:
        return "reverted", f"the runs without it failed: {done.broken}"
    found = done.found
    if found.outcome is Outcome.FASTER:
        return "kept", ""
    if found.outcome is Outcome.TOO_NOISY:
        return "reverted", (
            f"inconclusive: the machine is too noisy to see less than {found.resolves - 1:.0%}"
        )
    return "reverted", REASONS[found.outcome]


def memory_ratio(base: Measured, variant: Measured) -> float | None:
    """Return the peak memory with a recipe over that without; None where it is not known."""
    if not base.peak_bytes or variant.peak_bytes is None:
        return None
    return variant.peak_bytes / base.peak_bytes
