"""The plan of the real corpus: what is run, how often, and whether each fault is what it says."""

import pytest

from tests.corpus.real import (
    BACKWARD_MS,
    RECIPES,
    STRENGTHS_MS,
    own_host_ms,
    ranks_of,
    real_name,
)
from tests.corpus.run import REAL_FAULT_FREE, read, read_set_aside, real_cases
from tests.corpus.scenario import CAUSES, SYNTHETIC
from tests.truth.harness import DEFAULT_WINDOW, Ended, StepTruth


def test_every_run_has_its_name() -> None:
    names = [real_name(*case) for case in real_cases()]
    assert len(names) == len(set(names))
    assert sum(not causes for causes, *_ in real_cases()) == REAL_FAULT_FREE >= 60


def test_every_cause_is_run_at_every_strength_and_somewhere_on_four_ranks() -> None:
    found = {(causes, strength) for causes, strength, *_ in real_cases() if causes}
    assert {((c,), s) for c in RECIPES for s in STRENGTHS_MS} <= found
    assert any(len(causes) > 1 for causes, _ in found)
    assert ranks_of(("gc",)) == (2,)
    assert ranks_of(("loader", "network")) == (2, 4)


def test_both_corpora_together_hold_every_cause() -> None:
    assert set(RECIPES) | set(SYNTHETIC) == set(CAUSES)
    assert set(CAUSES) - set(RECIPES) == {"sync", "launch"}  # these need a device


@pytest.mark.parametrize("cause", [c for c in RECIPES if CAUSES[c].one_rank])
def test_faults_of_one_rank_are_on_rank_1(cause: str) -> None:
    flags = RECIPES[cause].flags(25.0)
    assert flags[flags.index("--fault-ranks") + 1] == "1"


def test_the_link_is_so_slow_that_the_fault_stands_out() -> None:
    """4 layers of 1 MiB: at this rate they take 30 ms, which backward hides, and 25 ms more."""
    rate = RECIPES["network"].rate
    assert rate is not None
    megabit = float(rate(25.0).removesuffix("mbit"))
    assert 4 * 2**20 * 8 / megabit / 1e3 == pytest.approx(25.0 + BACKWARD_MS * 3 / 4, rel=0.01)


def test_set_aside_runs_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("corpus") / "real.jsonl"
    file.write_text(
        '{"type":"head","digest":"0","started_utc":"","load":0.0,"cores":2}\n'
        '{"run":"real none none 0 2","why":"the machine was too busy"}\n{"torn'
    )
    head, outcomes = read(file)
    assert head is not None and not outcomes
    assert [s.run for s in read_set_aside(file)] == ["real none none 0 2"]


def test_what_is_python_where_nothing_is_sent() -> None:
    """Of 66 ms, 60.5 are forward and the device's part of backward, 0.2 the loader."""
    step = {
        "step_ms": 66.0,
        "input_ms": 0.2,
        "host_ms": 0.0,
        "forward_ms": 20.5,
        "backward_ms": 44.0,
        "checkpoint_ms": 0.0,
        "forward_device_ms": 20.0,
        "backward_device_ms": 40.0,
        "delayed_ms": 0.0,
    }
    last = DEFAULT_WINDOW[-1]  # perfkit saves its trace in it
    log = [StepTruth(step=n, **step) for n in range(last)]
    log.append(StepTruth(step=last, **step | {"step_ms": 900.0}))
    twin = Ended((0,), "", "", (), {0: log, 1: log})
    assert own_host_ms(twin) == pytest.approx(5.3)
