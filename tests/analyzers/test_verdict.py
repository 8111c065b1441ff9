"""When the verdict names a family, when it is mixed, and when it is withheld."""

import numpy as np
import pytest

from perfkit.analyzers.verdict import (
    FAMILIES,
    Decision,
    decide,
    decide_without_trace,
    find_limiter,
    gain_ceiling,
    seed_of,
    shift_shares,
)
from perfkit.trace.kinds import TimeClass

MS = 1_000_000


def decision(steps: list[dict[TimeClass, float]], **extra: object) -> Decision:
    table = np.zeros((len(steps), len(TimeClass)))
    for row, classes in enumerate(steps):
        for time_class, ms in classes.items():
            table[row, time_class] = ms * MS
    window = table.sum(axis=1).astype(np.int64)
    return decide(table, window, seed=1, **extra)  # type: ignore[arg-type]


def test_a_clear_lead_is_a_label() -> None:
    found = decision([{TimeClass.COMPUTE: 80, TimeClass.INPUT_WAIT: 20}] * 10)
    assert (found.label, found.dominant, found.limiter) == ("compute", "compute", "io")
    assert found.margin == pytest.approx(0.6)
    assert found.confidence == 1.0
    assert not found.tentative


def test_a_small_margin_is_mixed() -> None:
    found = decision([{TimeClass.COMPUTE: 52, TimeClass.INPUT_WAIT: 48}] * 10)
    assert (found.label, found.mixed_of, found.reason) == (
        "mixed",
        ("compute", "io"),
        "small_margin",
    )


def test_an_unsteady_lead_is_mixed() -> None:
    """Two steps of ten make io lead on average: another draw of steps would say compute."""
    steps = [{TimeClass.COMPUTE: 50.0, TimeClass.INPUT_WAIT: 10.0}] * 8
    steps += [{TimeClass.COMPUTE: 50.0, TimeClass.INPUT_WAIT: 350.0}] * 2
    found = decision(steps)
    assert found.margin is not None and found.margin > 0.1
    assert (found.label, found.reason) == ("mixed", "low_confidence")
    assert found.confidence is not None and 0.1 < found.confidence < 0.95


@pytest.mark.parametrize(("steps", "tentative"), [(1, True), (7, True), (8, False)])
def test_few_steps_are_tentative(steps: int, tentative: bool) -> None:
    found = decision([{TimeClass.COMPUTE: 90, TimeClass.HOST_LAUNCH: 10}] * steps)
    assert found.tentative is tentative


@pytest.mark.parametrize(("steps", "known"), [(1, False), (5, False), (6, True), (10, True)])
def test_too_few_steps_give_no_confidence(steps: int, known: bool) -> None:
    found = decision([{TimeClass.COMPUTE: 90, TimeClass.HOST_LAUNCH: 10}] * steps)
    assert (found.confidence is not None) is known
    assert found.label == "compute"


def test_unmatched_communication_that_could_change_the_winner_withholds_it() -> None:
    shares = {TimeClass.COMM_UNMATCHED: 60.0, TimeClass.COMPUTE: 40.0}
    found = decision([shares] * 10)
    assert (found.label, found.reason) == ("undetermined", "wait_not_separable")
    assert found.dominant == "communication"


def test_unmatched_communication_that_changes_nothing_does_not() -> None:
    shares = {TimeClass.COMM_UNMATCHED: 20.0, TimeClass.COMPUTE: 75.0, TimeClass.INPUT_WAIT: 5.0}
    assert decision([shares] * 10).label == "compute"
    shares = {TimeClass.COMM_UNMATCHED: 5.0, TimeClass.COMM_TRANSFER: 70.0, TimeClass.COMPUTE: 25.0}
    assert decision([shares] * 10).label == "communication"


def test_the_bootstrap_repeats_itself() -> None:
    rng = np.random.default_rng(3)
    steps = [
        {TimeClass.COMPUTE: 50.0, TimeClass.INPUT_WAIT: float(w)} for w in rng.gamma(1, 50, 12)
    ]
    assert decision(steps) == decision(steps)
    assert seed_of("run-a") != seed_of("run-b")
    assert seed_of("run-a") == seed_of("run-a")


def test_no_steps_no_verdict() -> None:
    found = decide(np.zeros((0, len(TimeClass))), np.zeros(0, dtype=np.int64), seed=1)
    assert (found.label, found.reason) == ("undetermined", "no_steps")


@pytest.mark.parametrize(
    ("shares", "limiter"),
    [
        ({"communication": 0.029, "io": 0.049, "host": 0.029}, None),
        ({"communication": 0.031, "io": 0.049, "host": 0.0}, "communication"),
        ({"communication": 0.031, "io": 0.05, "host": 0.04}, "io"),
    ],
)
def test_the_limiter_must_exceed_its_threshold(shares: dict[str, float], limiter: str) -> None:
    assert find_limiter(shares) == limiter


def test_severity_follows_the_cut_offs() -> None:
    found = decision([{TimeClass.COMPUTE: 75, TimeClass.INPUT_WAIT: 20, TimeClass.OTHER: 5}] * 10)
    assert found.severity == {"communication": "none", "io": "high", "host": "moderate"}


@pytest.mark.parametrize(
    ("io", "label"), [((0.7, 0.0), "io"), ((0.3, 0.3), "io"), ((0.5, 0.0), "undetermined")]
)
def test_step_lines_alone_decide_only_io(io: tuple[float, float], label: str) -> None:
    found = decide_without_trace(*io)
    assert found.label == label
    assert found.limiter == ("io" if label == "io" else None)


def test_step_lines_without_shares_decide_nothing() -> None:
    assert decide_without_trace(None, None).label == "undetermined"


def test_shares_of_the_whole_run_replace_those_of_the_window() -> None:
    shares = np.zeros(len(TimeClass))
    shares[[TimeClass.COMPUTE, TimeClass.COMM_TRANSFER, TimeClass.CHECKPOINT]] = 0.6, 0.3, 0.1
    moved = shift_shares(shares, {TimeClass.CHECKPOINT: 0.3, TimeClass.INPUT_WAIT: 0.0})
    assert moved[TimeClass.CHECKPOINT] == pytest.approx(0.4)
    assert moved[TimeClass.COMPUTE] == pytest.approx(0.4)
    assert moved[TimeClass.COMM_TRANSFER] == pytest.approx(0.2)
    assert moved.sum() == pytest.approx(1.0)
    assert shift_shares(shares, {}) is shares


def test_a_shift_can_change_the_label() -> None:
    steps = [{TimeClass.COMPUTE: 80.0, TimeClass.HOST_LAUNCH: 20.0}] * 10
    found = decision(steps, shift={TimeClass.CHECKPOINT: 0.6, TimeClass.INPUT_WAIT: 0.0})
    assert found.label == "io"
    assert found.shares["io"] == pytest.approx(0.6)


def test_ceiling() -> None:
    assert gain_ceiling(0.5) == 2.0
    assert gain_ceiling(0.0) == 1.0
    assert gain_ceiling(1.0) is None
    assert FAMILIES == ("compute", "communication", "io", "host")
