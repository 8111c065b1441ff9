"""A script with a torch.profiler of its own keeps it, and its trace is collected and read."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from perfkit.profiler import own_traces
from perfkit.trace.renumbering import renumbered
from perfkit.trace.run import load_rank, open_run
from tests.profiler.launching import node, profile, ranks
from tests.trace.folders import add_node, add_rank, add_trace

SCRIPT = """
import os, sys, time
import torch
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
handler = tensorboard_trace_handler(sys.argv[1])
plan = schedule(wait=3, warmup=1, active=3, repeat=1)
with profile(activities=[ProfilerActivity.CPU], schedule=plan, on_trace_ready=handler) as own:
    for step in range(10):
        loss = model(torch.ones(4, 8)).sum()
        loss.backward()
        time.sleep(0.2 if 3 < step < 8 else 0.0)  # far more than after the optimizer's step
        optimizer.step()
        time.sleep(0.01)
        own.step()
print(float(loss).hex(), len(os.listdir(sys.argv[1])))
"""


def test_a_programs_own_trace_is_collected_and_numbered_as_ours(tmp_path: Path) -> None:
    """Its profiler counts the end of an iteration, perfkit the optimizer's return."""
    (tmp_path / "train.py").write_text(SCRIPT)
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    command = (sys.executable, str(tmp_path / "train.py"), str(theirs))
    done = profile(run, *command, windows=[[50, 60]])
    assert done.returncode == 0 and done.stdout.endswith(" 1\n")
    (rank,) = ranks(run)
    (own,) = theirs.iterdir()
    (collected,) = rank.path.glob("own-*")
    assert collected.name == "own-0000.json.gz"
    assert gzip.decompress(collected.read_bytes()) == own.read_bytes()
    assert node(run)["warnings"] == []
    profiled = [record["i"] for record in rank.records("step") if record["pr"]]
    assert profiled == [4, 5, 6, 7]  # 7 holds the end of the profiler and the export
    record = open_run([run]).ranks[0]
    assert record.traces == (collected,)
    trace = load_rank(record, cache=None)
    assert len(trace.steps.index) == 3
    lines = record.lines
    spans = zip(lines.start_ns.tolist(), lines.end_ns.tolist(), strict=True)
    ours = dict(zip(lines.index.tolist(), spans, strict=True))
    for index, start in zip(trace.steps.index.tolist(), trace.steps.start_ns.tolist(), strict=True):
        begun, ended = ours[index]
        assert (
            begun + 9e6 < start < ended - 190e6
        )  # it sleeps on both sides of the optimizer's step


def test_a_packed_trace_is_copied_as_it_is(tmp_path: Path) -> None:
    folder = add_rank(tmp_path, 0, parent_node="n")
    packed = gzip.compress(b"{}")
    (tmp_path / "theirs.json.gz").write_bytes(packed)
    with open(folder / "steps.jsonl", "a") as file:
        file.write(f'{{"k":"own_trace","file":"{tmp_path}/theirs.json.gz"}}\n')
    assert own_traces.collect(tmp_path, "n") == ()
    assert (folder / "own-0000.json.gz").read_bytes() == packed


def test_what_cannot_be_collected_is_a_warning(tmp_path: Path) -> None:
    folder = add_rank(tmp_path, 0, parent_node="n")
    with open(folder / "steps.jsonl", "a") as file:
        file.write('{"k":"own_trace","file":"/nowhere/gone.json"}\n' * 2)
        file.write('{"k":"own_trace","fi')
    (warning,) = own_traces.collect(tmp_path, "n")
    assert warning.startswith(
        "/nowhere/gone.json: the program's own trace was not collected: No su"
    )
    assert own_traces.collect(tmp_path, "another") == ()


def test_steps_that_do_not_fit_the_lines_are_not_told_of(tmp_path: Path) -> None:
    add_node(tmp_path)
    folder = add_rank(tmp_path, 0, world_size=1)
    add_trace(folder, 2, 4)
    record = open_run([tmp_path]).ranks[0]
    trace = load_rank(record, cache=None)
    same = renumbered(trace, record.lines)
    assert same.steps.index.tolist() == trace.steps.index.tolist() == [1, 2, 3, 4]
    assert np.array_equal(same.events.step, trace.events.step)
    shifted = replace(trace, steps=replace(trace.steps, index=trace.steps.index + 40))
    assert renumbered(shifted, record.lines).steps.index.tolist() == [1, 2, 3, 4]
    twice = replace(
        record.lines, index=record.lines.index[::2], start_ns=record.lines.start_ns[::2],
        end_ns=record.lines.end_ns[1::2],
    )  # fmt: skip
    assert not renumbered(trace, twice).steps.complete.any()
    later = replace(record.lines, start_ns=record.lines.start_ns + 10**12)
    assert not renumbered(trace, later).steps.complete.any()
