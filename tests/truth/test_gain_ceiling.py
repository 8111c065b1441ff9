"""A stall is put on one of two ranks and taken away: no finding promised less than that gave."""

from pathlib import Path

import pytest

from tests.truth.harness import TIMED, Ended, run_quietly

pytestmark = pytest.mark.real

ACCELERATOR = "--accelerator-ms=30"
STEPS = "--steps=24"
STALL_MS = 40.0
NOISE = 0.03
"""Two runs of the same thing differ by this much, and by what the machine took from either; all
times here are slept, not computed."""


def step_ms(ended: Ended) -> float:
    """The mean step by the ranks' own clocks, in the window that perfkit looked into."""
    return max(ended.mean_ms(lambda t: t.step_ms, rank, TIMED) for rank in ended.truth)


def work_ms(ended: Ended) -> float:
    """What the rank with the stall does besides; without the stall it waits a little as well."""
    return ended.mean_ms(lambda t: t.parts_ms - t.input_ms, 1, TIMED)


def test_removing_the_stall_of_one_rank_gains_no_more_than_the_ceiling(tmp_path: Path) -> None:
    faulty = run_quietly(
        tmp_path / "stall", ACCELERATOR, STEPS, f"--loader-ms={STALL_MS}", "--fault-ranks", "1"
    )
    mended = run_quietly(tmp_path / "mended", ACCELERATOR, STEPS)
    same = work_ms(faulty) / work_ms(mended)
    if same > 1 + NOISE:
        pytest.skip(f"the machine was slower in the first run: the same work took {same:.0%}")
    speed_up = step_ms(faulty) / step_ms(mended)
    assert speed_up > 1.5, "the stall must matter"
    analysis = faulty.analyze()
    assert [(s.rank, s.class_) for s in analysis.stragglers] == [(1, "input_wait")]
    assert analysis.stragglers[0].excess_ms == pytest.approx(STALL_MS, rel=0.1)
    noise = NOISE + faulty.contention(TIMED) + mended.contention(TIMED)
    ceilings = {f.id: f.gain_ceiling for f in analysis.findings}
    for name in ("slow_loader", "straggler_input_wait"):
        ceiling = ceilings[name]
        assert ceiling is not None
        assert speed_up <= ceiling * (1 + noise), name
        assert ceiling <= speed_up * 1.15, f"{name}: a ceiling that bounds nothing is no help"
