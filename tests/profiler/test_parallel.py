"""Trainings that are parallel in other ways than DDP: launched, and as captures in traces/."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.roofline.place import place
from perfkit.trace.kinds import Kind
from perfkit.trace.run import load_rank, open_run
from tests.profiler.launching import SCRIPTS, TORCHRUN, RankFolder, profile, ranks
from tests.roofline.machines import roofs

TRACES = Path(__file__).parents[2] / "traces"
STEPS = 5
WAYS = {  # operations that each rank must have recorded in its window
    "fsdp2": {"all_gather", "all_reduce"},  # gloo reduces whole and keeps a shard
    "tensor": {"all_reduce"},
    "gpipe": {"send", "recv"},
    "1f1b": {"send", "recv"},
}
MODULES = {  # of --modules, by their place in the model; "#2" is the second model of the class
    "fsdp2": {"FSDPSequential", "FSDPSequential.0 (FSDPLinear)", "FSDPSequential.1 (ReLU)"},
    "tensor": {"Sequential", "Sequential.2 (Linear)"},
    "gpipe": {"Sequential#2", "Sequential#2.0 (Linear)"},
    "1f1b": {"Sequential#3", "Sequential#3.0 (Linear)"},
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> list[RankFolder]:
    """Two ranks that train in one way after the other, a window of two steps in each."""
    run = tmp_path_factory.mktemp("parallel") / "run"
    script = (str(SCRIPTS / "parallel.py"), *WAYS, f"--steps={STEPS}")
    windows = [[first + 2, first + 3] for first in range(0, STEPS * len(WAYS), STEPS)]
    done = profile(run, *TORCHRUN, "--standalone", *script, windows=windows, modules=True)
    assert done.returncode == 0, done.stderr
    return ranks(run)


@pytest.mark.real
@pytest.mark.parametrize("way", WAYS)
def test_every_rank_of_a_launched_training_is_captured(
    launched: list[RankFolder], way: str
) -> None:
    begun = STEPS * list(WAYS).index(way)
    first, last = begun + 2, begun + 3
    assert [rank.facts["rank"] for rank in launched] == [0, 1]
    run = open_run([launched[0].path.parents[1]])
    for rank, record in zip(launched, run.ranks, strict=True):
        assert rank.steps == list(range(STEPS * len(WAYS)))
        assert f"trace-{first:04d}-{last:04d}.json.gz" in rank.traces
        trace = load_rank(record, cache=None)
        steps, events = trace.steps.index.tolist(), trace.events
        inside = (events.start_ns >= trace.steps.start_ns[steps.index(first)]) & (
            events.end_ns <= trace.steps.end_ns[steps.index(last)]
        )
        transfers = zip(trace.collectives.event, trace.collectives.op, strict=True)
        assert {op for row, op in transfers if inside[row]} == WAYS[way]
        named = {events.names[n] for n in events.name[inside & (events.kind == Kind.MODULE)]}
        assert {name.removeprefix("nn.Module: ") for name in named} >= MODULES[way]


@pytest.mark.real
def test_the_roofline_of_a_launched_training_sums_by_module(launched: list[RankFolder]) -> None:
    record = open_run([launched[0].path.parents[1]]).ranks[0]
    found = {
        module.name: module for module in place(load_rank(record, cache=None), roofs()).modules
    }
    layer = found["nn.Module: FSDPSequential.0 (FSDPLinear)"]
    assert layer.flop > 0 and layer.time_s > 0


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("ddp", {"all_reduce"}),
        ("fsdp2", {"all_gather", "all_reduce"}),
        ("tensor", {"all_reduce"}),
        ("gpipe", {"send", "recv"}),
    ],
)
def test_own_captures_are_read_with_their_collectives(name: str, operations: set[str]) -> None:
    run = open_run([TRACES / name])
    assert [record.rank for record in run.ranks] == [0, 1]
    assert [len(record.lines.index) for record in run.ranks] == [8, 8]
    found = [load_rank(record, cache=None) for record in run.ranks]
    assert [trace.steps.index.tolist()[-3:] for trace in found] == [[2, 3, 4]] * 2
    issued = {op for trace in found for op in trace.collectives.op}
    assert operations <= issued
    analysis = analyze(run, lambda record: load_rank(record, cache=None))
    assert analysis.steps.analysed == 3
    assert analysis.world.analysed_ranks == (0, 1)


def test_each_capture_is_small_and_names_no_machine_path() -> None:
    for folder in (path for path in TRACES.iterdir() if path.is_dir()):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000
        assert not any(b'"/root' in path.read_bytes() for path in files)
