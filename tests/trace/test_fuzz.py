"""A few mutants of small traces; `python -m tests.trace.fuzz` runs thousands over real ones."""

import gzip
import json
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.trace.model import NONE
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import document, kernel, launch, op, span, step
from tests.trace.folders import (
    MONO_NS,
    STEP_NS,
    UNIX_NS,
    add_node,
    add_rank,
    add_trace,
    step_line,
    write_lines,
)
from tests.trace.fuzz import mutate, try_one
from tests.trace.nsys_files import two_steps


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
        problem = try_one(mutate(data, seed), tmp_path, analysed=seed % 40 == 0)
        assert not problem, f"seed {seed}: {problem}"


@pytest.mark.parametrize("block", range(4))
def test_mutants_of_nsight_exports_are_read_or_refused(tmp_path: Path, block: int) -> None:
    data = two_steps(export=two_steps(pid=90, device=1)).write(tmp_path / "r.sqlite").read_bytes()
    assert try_one(data, tmp_path) == ""
    for seed in range(block * 40, block * 40 + 40):
        problem = try_one(mutate(data, seed), tmp_path, analysed=seed % 40 == 0)
        assert not problem, f"seed {seed}: {problem}"


@pytest.mark.parametrize("block", range(4))
def test_mutants_of_real_captures_are_read_or_refused(
    shared_traces: Path, tmp_path: Path, block: int
) -> None:
    """The first seeds of `make fuzz`, on a few of its files."""
    names = (
        "kineto/hta_cpu_only_gloo_300.json.gz",
        "kineto/hta_amd_mi250.json.gz",
        "kineto/hta_critical_path/simple_add.json.gz",
        "nsys/fuser_h100_report1.sqlite.gz",
    )
    packed = (shared_traces / names[block]).read_bytes()
    for seed in range(100):
        data = mutate(packed if seed % 10 == 9 else gzip.decompress(packed), seed)
        problem = try_one(data, tmp_path)
        assert not problem, f"seed {seed}: {problem}"


@pytest.mark.parametrize("name", ["facts.json", "steps.jsonl", "collectives.jsonl", "run.json"])
def test_damaged_run_folders_are_read_or_refused(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    add_node(run)
    folder = add_rank(run, 0)
    add_trace(folder, 2, 4)
    lines = [step_line(i, gc=[[MONO_NS + i * STEP_NS, 50_000]]) for i in range(6)]
    write_lines(folder / "steps.jsonl", lines)
    entry = {"k": "c", "group": "0", "seq": 2, "op": "all_reduce", "sizes": [[2, 3]]}
    write_lines(folder / "collectives.jsonl", [{**entry, "created_ns": UNIX_NS}] * 3)
    path = next(run.rglob(name))
    whole = path.read_bytes()
    for seed in range(150):
        path.write_bytes(mutate(whole, seed))
        try:
            records = open_run([run]).ranks
        except InputError as error:
            assert "\n" not in str(error), seed
            continue
        for record in records:
            lines_read = record.lines
            assert (lines_read.end_ns >= lines_read.start_ns).all(), seed
            trace = load_rank(record, cache=None)
            assert set(trace.events.step.tolist()) <= {NONE, *trace.steps.index.tolist()}, seed
