"""A small part of the corpus as tests, and tests of the corpus itself."""

import pytest

from tests.corpus.judge import cause_is, is_false_alarm, label_is, rank_is
from tests.corpus.run import judge_synthetic
from tests.corpus.scenario import CAUSES, SYNTHETIC, scenario
from tests.corpus.simulate import Play
from tests.corpus.synthetic import truth_of

FREE_SEEDS = range(1, 11, 2)
SEEDS = (3,)


@pytest.mark.parametrize("seed", FREE_SEEDS)
def test_no_alarm_where_nothing_is_wrong(seed: int) -> None:
    assert not is_false_alarm(judge_synthetic((seed, (), "medium")))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cause", SYNTHETIC)
def test_strong_faults_are_named(cause: str, seed: int) -> None:
    outcome = judge_synthetic((seed, (cause,), "strong"))
    assert label_is(outcome) != "wrong"
    assert cause_is(outcome) == "right"
    assert rank_is(outcome) != "wrong"


def test_the_same_seed_is_the_same_run() -> None:
    assert judge_synthetic((9, ("loader",), "medium")) == judge_synthetic(
        (9, ("loader",), "medium")
    )


@pytest.mark.parametrize("cause", SYNTHETIC)
def test_a_strong_fault_costs_what_was_injected(cause: str) -> None:
    """By the players' own clocks: within the noise, and in the family that it belongs to."""
    made = scenario(12, (cause,), "strong")
    truth = truth_of(made, Play(made))
    # Lost overlap can cost no more than the shorter of computing and transferring.
    assert truth.injected_ms > 0.15 * truth.step_ms
    assert sum(truth.costs_ms.values()) == pytest.approx(truth.step_ms, rel=0.01)
    assert max(truth.costs_ms, key=lambda f: truth.costs_ms[f]) in {CAUSES[cause].family, "compute"}


def test_nothing_injected_costs_nothing() -> None:
    made = scenario(12)
    assert truth_of(made, Play(made)).injected_ms == 0.0
