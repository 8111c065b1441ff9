"""Real two-rank runs with one known cause each: its name, its rank and its milliseconds."""

from pathlib import Path

import pytest

from perfkit.analyzers.result import Analysis, RankBudget
from perfkit.trace.run import open_run
from tests.truth.harness import DEFAULT_WINDOW, Ended, run_quietly

pytestmark = pytest.mark.real

ACCELERATOR = "--accelerator-ms=30"


def budget_ms(analysis: Analysis, rank: int, name: str) -> float:
    """Milliseconds a step that one rank spent in a class, before blame."""
    found: RankBudget = next(r for r in analysis.budget.per_rank if r.rank == rank)
    time = found.classes[name]
    assert time is not None, f"{name} has no recorder"
    return time.ms


def assert_classes_fill_every_step(analysis: Analysis) -> None:
    """Hold the first law: the classes of a step sum to the step."""
    for step in analysis.budget.per_step:
        assert sum(step.classes_ms.values()) == pytest.approx(step.window_ms, abs=1e-3)


@pytest.fixture(scope="module")
def all_ranks_decode(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Every rank unpacks for 50 ms before each batch, in the training process."""
    flags = ("--loader-ms=50", "--loader-how=decode", "--accelerator-ms=20")
    return run_quietly(tmp_path_factory.mktemp("decode"), *flags)


def test_large_matmuls_are_compute_bound(tmp_path: Path) -> None:
    flags = ("--width=768", "--layers=1", "--batch-size=512", "--repeats=5", "--steps=24")
    analysis = run_quietly(tmp_path, *flags).analyze()
    assert analysis.verdict.label == "compute", analysis.verdict.sentence
    assert analysis.budget.rollup["compute"] > 0.8
    assert_classes_fill_every_step(analysis)


def test_decoding_in_the_training_process_is_io_bound(all_ranks_decode: Ended) -> None:
    analysis = all_ranks_decode.analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    assert_classes_fill_every_step(analysis)
    for rank in (0, 1):
        assert budget_ms(analysis, rank, "input_wait") == pytest.approx(50, rel=0.1)
        own = all_ranks_decode.mean_ms(lambda t: t.input_ms, rank, DEFAULT_WINDOW)
        assert budget_ms(analysis, rank, "input_wait") == pytest.approx(own, abs=1)
        # whatever the accelerator's stand-in does is compute: 20 ms asleep in custom Functions
        assert budget_ms(analysis, rank, "compute") == pytest.approx(20, rel=0.15)


def test_step_lines_agree_with_the_ranks_own_clocks(all_ranks_decode: Ended) -> None:
    run = open_run([all_ranks_decode.run])
    assert [record.rank for record in run.ranks] == [0, 1]
    for record in run.ranks:
        own = all_ranks_decode.truth[record.rank]
        lines = record.lines
        assert lines.index.tolist() == [t.step for t in own]
        # Left out: steps 0 and 1 (set-up lies between the two clocks' readings), and those at
        # whose ends the profiler starts (8, 9) and stops (19, 20).
        for row in {*range(2, len(own))} - {8, 9, 19, 20}:
            truth = own[row]
            ms = (lines.end_ns[row] - lines.start_ns[row]) / 1e6
            # Between the two clocks' readings another process may have had the processor.
            delayed_ms = own[row - 1].delayed_ms + truth.delayed_ms
            assert ms == pytest.approx(truth.step_ms, abs=2 + delayed_ms)
            wait_ms = lines.input_wait_ns[row] / 1e6
            assert wait_ms == pytest.approx(truth.input_ms, abs=1 + truth.delayed_ms)


def test_sleeping_loader_shows_its_milliseconds(tmp_path: Path) -> None:
    ended = run_quietly(tmp_path, "--loader-ms=30", "--loader-how=sleep", "--accelerator-ms=10")
    analysis = ended.analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    for rank in (0, 1):
        assert budget_ms(analysis, rank, "input_wait") == pytest.approx(30, rel=0.1)


def test_slow_reading_in_loader_workers_shows_what_they_cannot_hide(tmp_path: Path) -> None:
    # one worker needs 60 ms a batch, the rest of the step about 20: some 40 ms show
    ended = run_quietly(
        tmp_path, "--loader-ms=60", "--loader-how=read", "--workers=1", "--accelerator-ms=20"
    )
    analysis = ended.analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    own = [ended.mean_ms(lambda t: t.input_ms, rank, DEFAULT_WINDOW) for rank in (0, 1)]
    # one rank may wait less at its loader and more for the other rank: their phases differ
    assert max(own) == pytest.approx(40, abs=8)
    for rank in (0, 1):
        assert budget_ms(analysis, rank, "input_wait") == pytest.approx(own[rank], abs=1)


@pytest.fixture(scope="module")
def one_slow_loader(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Rank 1 alone reads for 60 ms before each batch; both compute for 30 ms."""
    fault = ("--loader-ms=60", "--loader-how=read", "--fault-ranks", "1")
    return run_quietly(tmp_path_factory.mktemp("one"), *fault, ACCELERATOR)


def test_one_slow_loader_is_io_and_blamed_on_its_rank(one_slow_loader: Ended) -> None:
    analysis = one_slow_loader.analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    assert_classes_fill_every_step(analysis)
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (1, "input_wait")
    # rank 0 waits as long as rank 1 loads; blame is the mean over both ranks
    assert worst.ms == pytest.approx(60 / 2, rel=0.1)
    assert budget_ms(analysis, 1, "input_wait") == pytest.approx(60, rel=0.1)
    assert budget_ms(analysis, 0, "comm_wait") == pytest.approx(60, rel=0.1)
    assert analysis.verdict.rollup_after_blame["communication"] < 0.1
    assert [(s.rank, s.class_) for s in analysis.stragglers] == [(1, "input_wait")]


def test_one_slow_computer_is_compute_and_blamed_on_its_rank(tmp_path: Path) -> None:
    flags = ("--width=512", "--layers=1", "--batch-size=256", "--repeats=2")
    ended = run_quietly(tmp_path, *flags, "--slow-repeats=12", "--fault-ranks", "1")
    analysis = ended.analyze()
    assert analysis.verdict.label == "compute", analysis.verdict.sentence
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (1, "compute")
    late = [ended.mean_ms(lambda t: t.forward_ms, rank, DEFAULT_WINDOW) for rank in (1, 0)]
    # the backward pass of a matrix product is two more: the forward's lead, tripled
    assert budget_ms(analysis, 0, "comm_wait") == pytest.approx(3 * (late[0] - late[1]), rel=0.25)


def test_slow_loader_of_one_rank_in_four_is_blamed_on_it(tmp_path: Path) -> None:
    # four ranks on two cores: only sleep is slow, so the processor does not matter
    flags = ("--loader-ms=80", "--fault-ranks", "2", ACCELERATOR)
    analysis = run_quietly(tmp_path, *flags, ranks=4).analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (2, "input_wait")
    assert worst.ms == pytest.approx(80 * 3 / 4, rel=0.1)  # three of four ranks wait
    assert [(s.rank, s.class_) for s in analysis.stragglers] == [(2, "input_wait")]


def test_python_between_batches_is_host_bound(tmp_path: Path) -> None:
    analysis = run_quietly(tmp_path, "--host-ms=50", "--accelerator-ms=20").analyze()
    assert analysis.verdict.label == "host", analysis.verdict.sentence
    for rank in (0, 1):
        assert budget_ms(analysis, rank, "host_launch") == pytest.approx(50, rel=0.1)


def test_checkpoints_show_in_the_whole_run(tmp_path: Path) -> None:
    flags = ("--checkpoint-every=5", "--checkpoint-ms=100", ACCELERATOR, "--steps=40")
    ended = run_quietly(tmp_path, *flags)
    analysis = ended.analyze()
    found = [p for p in analysis.steps.periodic if p.cause == "checkpoint"]
    assert [p.every for p in found] == [5]
    assert found[0].extra_ms == pytest.approx(100, rel=0.1)
    points = {p.step: p.checkpoint_ms for p in analysis.steps.series}
    slow = {step for step, ms in points.items() if ms > 1}
    assert slow == {5, 10, 15, 20, 25, 30, 35}  # written after step 4, so within step 5
    assert all(points[step] == pytest.approx(100, rel=0.1) for step in slow)
    # in the traced window two steps of ten carry one
    for rank in (0, 1):
        own = ended.mean_ms(lambda t: t.checkpoint_ms, rank, DEFAULT_WINDOW)
        assert own == pytest.approx(20, rel=0.1)
        assert budget_ms(analysis, rank, "checkpoint") == pytest.approx(own, abs=1)


def test_a_checkpoint_of_one_rank_is_blamed_on_it(tmp_path: Path) -> None:
    flags = ("--checkpoint-every=2", "--checkpoint-ms=100", "--fault-ranks", "0")
    analysis = run_quietly(tmp_path, *flags, "--accelerator-ms=10").analyze()
    assert analysis.verdict.label == "io", analysis.verdict.sentence
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (0, "checkpoint")
    assert worst.ms == pytest.approx(100 / 2 / 2, rel=0.1)  # every other step, mean of two ranks


def test_collections_of_garbage_on_one_rank_are_blamed_on_it(tmp_path: Path) -> None:
    flags = ("--gc-ms=40", "--fault-ranks", "1", "--accelerator-ms=10", "--steps=21")
    ended = run_quietly(tmp_path, *flags)
    analysis = ended.analyze()
    assert analysis.verdict.label == "host", analysis.verdict.sentence
    worst = max(analysis.verdict.blame, key=lambda b: b.ms)
    assert (worst.rank, worst.class_) == (1, "host_gc")
    own = ended.mean_ms(lambda t: t.host_ms, 1, DEFAULT_WINDOW)
    assert budget_ms(analysis, 1, "host_gc") == pytest.approx(own, rel=0.2)
    assert [(s.rank, s.class_) for s in analysis.stragglers] == [(1, "host_gc")]
    assert "straggler_host_gc" in {f.id for f in analysis.findings}
