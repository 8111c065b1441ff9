"""Where a killed training resumed, whether its losses are right, and what that cost."""

from dataclasses import replace

import numpy as np
import pytest

from perfkit.analyzers import faults, reliability
from perfkit.analyzers.faults_result import Faults
from perfkit.analyzers.refusal import Refusal
from perfkit.trace.attempts import Attempt, Death, RankAttempt
from perfkit.trace.launcher_log import notice_ns
from perfkit.trace.steplines import no_steps

START = 1_700_000_000_000_000_000
STEP_MS, WRITE_MS, EVERY = 100, 20, 10


def rank_of(rank: int, begin_ns: int, first: int, steps: int, *, noise: float = 0.0) -> RankAttempt:
    """Steps of 100 ms; one that follows a checkpoint (every 10 steps) is 20 ms longer."""
    writes = [(first + k) % EVERY == 0 and first + k > 0 and k > 0 for k in range(steps)]
    lengths = np.array([STEP_MS + WRITE_MS * w for w in writes], dtype=np.int64) * 1_000_000
    ends = begin_ns + np.cumsum(lengths)
    lines = replace(
        no_steps(),
        index=np.arange(steps, dtype=np.int32),
        start_ns=ends - lengths,
        end_ns=ends,
        checkpoint_ns=np.array(writes, dtype=np.int64) * WRITE_MS * 1_000_000,
    )
    return RankAttempt(
        rank=rank,
        lines=lines,
        losses={k: loss_of(first + k, rank) * (1 + noise) for k in range(steps)},
        process_started_ns=begin_ns - 2_000_000_000,
        death=None,
        ended="exit",
    )


def loss_of(step: int, rank: int) -> float:
    return 4.0 / (1 + step) + 0.01 * ((step * 7 + rank) % 5)


def attempt(number: int, begin_ns: int, first: int, steps: int, *, noise: float = 0.0) -> Attempt:
    ranks = tuple(rank_of(r, begin_ns, first, steps, noise=noise) for r in range(2))
    return Attempt(number=number, ranks=ranks)


def killed(after: int) -> Attempt:
    """Rank 1 dies right after a step."""
    whole = attempt(0, START, 0, after + 1)
    victim = whole.ranks[1]
    death = Death(rank=1, step=after, at_ns=int(victim.lines.end_ns[-1]))
    return replace(whole, ranks=(whole.ranks[0], replace(victim, death=death, ended="killed")))


UNTOUCHED = attempt(0, START, 0, 40)
ASKED = faults.Asked(command="train", mtbf_of_one_rank_s=86400.0 * 2)


def judged(
    *attempts: Attempt, asked: faults.Asked = ASKED, untouched: Attempt = UNTOUCHED
) -> Faults:
    found = faults.judge(untouched, attempts, asked)
    assert isinstance(found, Faults)
    return found


def test_a_right_restart_is_found_with_its_times() -> None:
    first = killed(25)
    death = first.ranks[1].death
    assert death is not None
    again = attempt(1, death.at_ns + 2_500_000_000, 20, 20)
    found = judged(first, again)
    assert (found.verdict, found.passed, found.difference) == ("resumed", True, 0.0)
    assert (found.resumed_at_step, found.lost_steps, found.steps_done) == (20, 6, 40)
    times = found.times
    assert times is not None
    assert times.detection_s == pytest.approx(0.5)
    assert times.restart_s == pytest.approx(2.0)
    assert times.lost_work_s == pytest.approx(0.6)  # steps 20 to 25
    assert times.total_s == pytest.approx(3.1)
    assert found.step_ms == pytest.approx(STEP_MS)
    cost = found.checkpoint
    assert cost is not None
    assert (cost.count, cost.median_ms, cost.every_steps) == (3, WRITE_MS, EVERY)
    wall = 2.6 + 2 * 0.02 + 2.5 + 2.0 + 0.02  # before, its writes, away, again, its write
    assert found.goodput == pytest.approx(4.0 / wall)
    assert "6 steps were done twice" in found.sentence


def test_the_interval_is_that_of_the_formulas() -> None:
    first = killed(25)
    again = attempt(1, START + 10_000_000_000, 20, 20)
    found = judged(first, again)
    row = next(r for r in found.fleet if r.ranks == 2)
    assert row.mtbf_s == pytest.approx(86400)
    assert row.young_s == pytest.approx(reliability.young_interval_s(0.02, 86400))
    assert row.daly_s == pytest.approx(reliability.daly_interval_s(0.02, 86400))
    assert [r.ranks for r in found.fleet][-1] == 10_000
    shares = [r.goodput for r in found.fleet]
    assert shares == sorted(shares, reverse=True)
    assert all(r.goodput_now is not None and r.goodput_now <= r.goodput for r in found.fleet)


def test_wrong_losses_are_found() -> None:
    found = judged(killed(25), attempt(1, START + 10**10, 20, 20, noise=0.003))
    assert (found.verdict, found.passed, found.resumed_at_step) == ("wrong_loss", False, 20)
    assert found.difference == pytest.approx(0.003, rel=0.01)


def test_noise_between_two_runs_is_no_wrong_restart() -> None:
    first = killed(25)
    noisy = replace(
        first,
        ranks=tuple(
            replace(r, losses={k: v * 1.0004 for k, v in r.losses.items()}) for r in first.ranks
        ),
    )
    found = judged(noisy, attempt(1, START + 10**10, 20, 20, noise=0.003))
    assert found.verdict == "resumed"
    assert any("not deterministic" in note for note in found.notes)


def test_a_start_from_scratch_is_no_resumption() -> None:
    found = judged(killed(25), attempt(1, START + 10**10, 0, 40))
    assert (found.verdict, found.resumed_at_step, found.lost_steps) == ("from_scratch", 0, 26)
    assert not found.passed


def test_an_older_checkpoint_is_told_from_the_newest() -> None:
    found = judged(killed(25), attempt(1, START + 10**10, 10, 30))
    assert (found.verdict, found.resumed_at_step, found.lost_steps) == ("resumed", 10, 16)


def test_a_job_that_stays_away_says_so() -> None:
    found = judged(killed(25), asked=replace(ASKED, failure="it ended with status 1"))
    assert (found.verdict, found.times, found.goodput) == ("not_restarted", None, None)
    assert "it ended with status 1" in found.sentence


def test_without_losses_nothing_is_claimed() -> None:
    def silent(whole: Attempt) -> Attempt:
        return replace(whole, ranks=tuple(replace(r, losses={}) for r in whole.ranks))

    again = silent(attempt(1, START + 10**10, 20, 20))
    found = judged(silent(killed(25)), again, untouched=silent(UNTOUCHED))
    assert (found.verdict, found.passed, found.resumed_at_step) == ("losses_unknown", False, 20)


def test_nothing_killed_is_refused() -> None:
    refused = faults.judge(UNTOUCHED, [UNTOUCHED], ASKED)
    assert isinstance(refused, Refusal)


def test_the_step_lies_between_two_checkpoints() -> None:
    assert faults.checkpoint_steps(UNTOUCHED) == [10, 20, 30]
    assert faults.step_to_kill(UNTOUCHED) == 25
    assert isinstance(faults.step_to_kill(attempt(0, START, 0, 8)), Refusal)


def test_a_loss_that_is_no_number_differs() -> None:
    assert faults.relative_difference(float("nan"), 1.0) == float("inf")
    assert faults.relative_difference(float("nan"), float("nan")) == 0.0
    assert faults.relative_difference(float("inf"), 1.0) == float("inf")


def test_the_launcher_s_line_is_read() -> None:
    from datetime import datetime

    moment = datetime(2026, 11, 21, 5, 42, 35, 153000).astimezone()
    after = int(moment.timestamp() * 1e9) - 30_000_000
    line = (
        "E1121 05:42:35.153000 18739 torch/x.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 7)"
    )
    found = notice_ns(f"step 1\n{line}\n", after)
    assert found is not None
    assert found - after == pytest.approx(30_000_000, abs=1000)
    assert notice_ns("E1121 05:42:36.932000 1 x] failed (exitcode: 1)", after) is None
