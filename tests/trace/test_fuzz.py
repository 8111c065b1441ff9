"""A few mutants of small traces; `python -m tests.trace.fuzz` runs thousands over real ones."""

import json
from pathlib import Path

import pytest

from tests.trace.files import document, kernel, launch, op, span, step
from tests.trace.fuzz import mutate, try_one


def original() -> bytes:
    said = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 10}
    events = [step(1, 0, 500.0), step(2, 500, 500.0)]
    for i in range(20):
        at = 40.0 * i
        events += [op("aten::mm", at, 30.0, i + 1), launch(at + 1, i + 100, External_id=i + 1)]
        events += [kernel("gemm", at + 9.125, 9.5, i + 100, External_id=i + 1)]
    events.append(kernel("ncclDevKernel_AllReduce(x)", 900, 5.0, 119))
    events[-1]["args"] |= said
    events.append(span("user_annotation", "gloo:all_reduce", 700, 5.0, tid=9))
    events.append({"ph": "i", "name": "[memory]", "ts": 4, "args": {"Total Allocated": 5}})
    info = {"rank": 0, "world_size": 2, "pg_config": [{"pg_name": "0", "ranks": [0, 1]}]}
    return json.dumps(document(events, distributedInfo=info), indent=1).encode()


@pytest.mark.parametrize("block", range(10))
def test_mutants_are_read_or_refused(tmp_path: Path, block: int) -> None:
    data = original()
    assert try_one(data, tmp_path) == ""
    for seed in range(block * 40, block * 40 + 40):
        problem = try_one(mutate(data, seed), tmp_path)
        assert not problem, f"seed {seed}: {problem}"
