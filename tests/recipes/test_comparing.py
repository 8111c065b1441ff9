"""Pairs of runs: which count, and what is said of those that do not."""

from collections.abc import Callable
from dataclasses import dataclass, field

from perfkit.recipes.activation import Choice
from perfkit.recipes.comparing import DISTURBED, MORE_PAIRS, Comparison, compare
from perfkit.recipes.measured import Measured, Wanted
from tests.recipes.laboratory import recipe

ARMS = ((), (Choice(recipe=recipe("one", 1.5)),))
PAIRS = 5


@dataclass
class Loaded:
    """Runs on a machine that others use: `others` tells their share from the trial's number."""

    others: Callable[[int], float | None]
    ran: list[str] = field(default_factory=list)

    def run(self, wanted: Wanted) -> Measured:
        number = len(self.ran)
        self.ran.append(wanted.name)
        ms = 100.0 + number % 3 - (3.0 if wanted.stack else 0.0)  # too close to be plain early
        share = self.others(number)
        return Measured(wanted=wanted, ok=True, step_ms=ms, steps_made=40, others=share)


def done(others: Callable[[int], float | None]) -> Comparison:
    return compare(Loaded(others), "try", ARMS, PAIRS)


def test_an_even_load_leaves_no_pair_out() -> None:
    found = done(lambda number: 0.6).pairs()
    assert found is not None
    assert (len(found.trials), found.disturbed) == (PAIRS, ())
    assert found.others == ((0.6, 0.6),) * PAIRS


def test_a_pair_within_which_the_load_changed_is_measured_again() -> None:
    loud = DISTURBED + 0.01
    found = done(lambda number: loud if number == 2 else 0.0).pairs()
    assert found is not None
    assert [sorted(pair) for pair in found.disturbed] == [["try-pair2-with", "try-pair2-without"]]
    assert len(found.trials) == PAIRS
    assert found.trials[-1][0] == f"try-pair{PAIRS + 1}-without"
    assert not {name for pair in found.disturbed for name in pair} & {
        name for pair in found.trials for name in pair
    }


def test_where_the_load_always_changes_all_pairs_count() -> None:
    found = done(lambda number: 0.5 * (number % 2)).pairs()
    assert found is not None
    assert (len(found.trials), found.disturbed) == (PAIRS + MORE_PAIRS, ())
    assert found.ratio is not None


def test_a_machine_that_was_not_watched_leaves_no_pair_out() -> None:
    found = done(lambda number: None).pairs()
    assert found is not None
    assert (len(found.trials), found.disturbed) == (PAIRS, ())
