"""Trainings that are parallel in other ways than DDP: the project's own captures in traces/."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.trace.run import load_rank, open_run

TRACES = Path(__file__).parents[2] / "traces"


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
