"""`--nsys`: a stand-in for nsys that records its arguments and hands out a real export."""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfkit.errors import SetupError
from perfkit.profiler import nsys, nsys_scrub
from perfkit.profiler.inrank.capture import Detail
from perfkit.profiler.inrank.window import Window
from perfkit.trace.run import load_rank, open_run
from tests.profiler.launching import TRAIN, node, profile, ranks
from tests.profiler.window_rank import WindowRank
from tests.trace.nsys_files import Export

FAKE = """\
#!{python}
import json, os, shutil, subprocess, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("NVIDIA Nsight Systems version 2024.6.2.225-246235244400v0")
elif arguments == ["profile", "--help"]:
    print({help!r})
elif arguments[0] == "profile":
    options = [a for a in arguments[1:] if a.startswith("--")]
    target = next(a for a in arguments if a.startswith("--output=")).partition("=")[2]
    command = arguments[1 + arguments[1:].index(options[-1]) + 1:]
    status = subprocess.call(command)
    if {export!r}:
        shutil.copy({export!r}, target + ".nsys-rep")
    sys.exit(status)
elif arguments[0] == "export":
    shutil.copy(arguments[-1], arguments[arguments.index("--output") + 1])
"""
HELP = "  --capture-range\n  --capture-range-end\n  --kill\n  --cuda-graph-trace\n"


class FakeNsys:
    """An nsys first on PATH."""

    def __init__(self, folder: Path, export: Path | str = "", help_text: str = HELP) -> None:
        self.folder = folder
        self.log = folder / "calls.jsonl"
        folder.mkdir()
        text = FAKE.format(
            python=sys.executable, log=str(self.log), help=help_text, export=str(export)
        )
        (folder / "nsys").write_text(text)
        (folder / "nsys").chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.folder}:/usr/bin:/bin"

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def real_export(shared_traces: Path, tmp_path: Path) -> Path:
    """A real export of two H100s."""
    target = tmp_path / "real.sqlite"
    target.write_bytes(
        gzip.decompress((shared_traces / "nsys/h100_2gpu_1s.sqlite.gz").read_bytes())
    )
    return target


def test_the_command_runs_under_nsys_and_its_report_is_exported(
    tmp_path: Path, real_export: Path
) -> None:
    fake = FakeNsys(tmp_path / "bin", real_export)
    command = (sys.executable, "-c", "print('out'); raise SystemExit(3)")
    done = profile(tmp_path / "run", *command, env={"PATH": fake.path}, nsys=True)
    assert (done.returncode, done.stdout) == (3, "out\n")
    report = tmp_path / "run/nsys" / f"trace-0010-0019.{node(tmp_path / 'run')['node']}"
    assert fake.calls[2] == [
        *("profile", "--trace=cuda,nvtx,osrt", "--sample=none", "--capture-range=cudaProfilerApi"),
        *("--capture-range-end=stop", "--force-overwrite=true", "--kill=none"),
        *("--cuda-graph-trace=node", f"--output={report}", *command),
    ]
    assert fake.calls[3][:3] == ["export", "--type", "sqlite"]
    assert len(fake.calls) == 4
    assert node(tmp_path / "run")["options"]["nsys"].endswith("2024.6.2.225-246235244400v0")
    export = Path(f"{report}.sqlite")
    run = open_run([export])
    assert [record.rank for record in run.ranks] == [0, 1]
    assert len(load_rank(run.ranks[0], cache=None).events) > 1000


def test_a_training_without_cuda_keeps_its_kineto_trace(tmp_path: Path) -> None:
    fake = FakeNsys(tmp_path / "bin")
    script = str(Path(TRAIN).with_name("single.py"))
    done = profile(
        tmp_path / "run", sys.executable, script, env={"PATH": fake.path}, nsys=True,
        windows=[[2, 4]],
    )  # fmt: skip
    assert done.returncode == 0
    (rank,) = ranks(tmp_path / "run")
    assert rank.traces == ["trace-0002-0004.json.gz"]
    (warning,) = node(tmp_path / "run")["warnings"]
    assert warning.startswith("nsys wrote no report: no rank of this node that uses CUDA")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "--nsys: nsys is not on PATH"),
        ("#!/bin/sh\necho 'no licence' >&2; exit 9\n", "failed: no licence"),
        ("#!/no/such/interpreter\n", "does not run"),
        ("#!/bin/sh\necho old\n", "has no --capture-range-end"),
    ],
)
def test_an_nsys_that_cannot_be_used_stops_before_the_job(
    tmp_path: Path, script: str | None, says: str
) -> None:
    (tmp_path / "bin").mkdir()
    if script is not None:
        (tmp_path / "bin/nsys").write_text(script)
        (tmp_path / "bin/nsys").chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    done = profile(tmp_path / "run", "touch", str(tmp_path / "x"), env={"PATH": path}, nsys=True)
    assert done.returncode == 125
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists() and not (tmp_path / "run").exists()


def test_an_nsys_that_is_absent_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="not on PATH"):
        nsys.find()


SECRET = "sk-abcdefghijklmnopqrstuvwxyz0123"


def test_environments_are_taken_out_of_an_export(tmp_path: Path) -> None:
    export = Export()
    export.kernel("gemm", 0, 10, 1)
    export.environment(RANK="3", AWS_SECRET_ACCESS_KEY=SECRET, HOME="/home/someone")
    export.text(f"PATH=/home/someone/bin\0USER=someone\0KEY={SECRET}\0LANG=C\0NCCL_DEBUG=INFO")
    export.add(
        "TARGET_INFO_SYSTEM_ENV",
        ("name", "value"),
        [("DeviceEnvironment", f"USER=someone;KEY={SECRET};WORLD_SIZE=8"), ("CpuCores", "8")],
    )
    path = export.write(tmp_path / "x.sqlite")
    nsys_scrub.scrub(path)
    content = path.read_bytes()
    assert SECRET.encode() not in content and b"someone" not in content
    (part,) = open_run([path]).ranks
    assert part.rank == 3
    with closing(sqlite3.connect(path)) as database:
        values = dict(database.execute("SELECT name, value FROM TARGET_INFO_SYSTEM_ENV"))
    assert values == {"DeviceEnvironment": 'WORLD_SIZE="8"', "CpuCores": "8"}


def test_a_rank_without_a_trace_has_its_part_of_the_nodes_export(tmp_path: Path) -> None:
    """Two ranks, told apart by process id; only the steps of the window are whole."""
    run = tmp_path / "run"
    (run / "nodes/n0").mkdir(parents=True)
    (run / "nodes/n0/run.json").write_text(json.dumps({"run_id": "x", "ended_unix_ns": 1}))
    (run / "nsys").mkdir()
    export = Export()
    for rank, pid in enumerate((501, 502)):
        folder = run / f"attempt0/rank{rank:05d}.n0.{pid}"
        folder.mkdir(parents=True)
        facts = {
            **{"schema_version": 1, "rank": rank, "world_size": 2, "pid": pid, "node": "n0"},
            **{"parent_node": "n0", "device_kind": "cuda", "device": rank},
        }
        (folder / "facts.json").write_text(json.dumps(facts))
        lines = [{"k": "header", "schema_version": 1}]
        lines += [
            {"k": "step", "i": i, "t0": i * 100, "t1": i * 100 + 100, "u1": 10**18 + i}
            for i in range(1, 8)
        ]
        (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for step in range(4, 7):
            begun = step * 1000
            export.range(f"ProfilerStep#{step}", begun, begun + 900, pid=pid)
            export.call("cudaLaunchKernel", begun + 10, begun + 20, step, pid=pid)
            export.kernel(f"gemm{rank}", begun + 50, begun + 500, step, pid=pid, device=rank)
    export.write(run / "nsys/trace-0005-0006.n0.sqlite")
    found = [load_rank(record, cache=None) for record in open_run([run]).ranks]
    for rank, trace in enumerate(found):
        assert f"gemm{rank}" in trace.events.names and f"gemm{1 - rank}" not in trace.events.names
        assert trace.steps.index.tolist() == [4, 5, 6]
        assert trace.steps.complete.tolist() == [False, True, True]


class Cuda:
    """Notes what a window asks of the CUDA runtime and of NVTX, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, name: str) -> int:
        self.calls.append(name)
        return 0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A CUDA runtime that only notes what it is asked; this machine has none."""
    import torch

    from perfkit.profiler.inrank import window

    fake = Cuda()
    runtime = SimpleNamespace(
        cudaProfilerStart=lambda: fake.note("start"), cudaProfilerStop=lambda: fake.note("stop")
    )

    class Ranges:
        def __init__(self, record_shapes: bool) -> None:
            assert record_shapes

        def __enter__(self) -> None:
            fake.note("ranges")

        def __exit__(self, *_: object) -> None:
            fake.note("no ranges")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch.autograd.profiler, "emit_nvtx", Ranges)
    monkeypatch.setattr(window, "uses_cuda", lambda: True)
    yield fake


@pytest.mark.parametrize("local_rank", [0, 1, None])
def test_one_rank_a_node_opens_the_range_and_closes_it_a_step_late(
    tmp_path: Path, cuda: Cuda, local_rank: int | None
) -> None:
    """Ranks that are a little behind still end their last step inside the range."""
    rank = WindowRank(tmp_path, local_rank)
    window = Window(rank, ((3, 4),), Detail(nsys=True))
    seen = []
    for rank.step in range(8):
        window.at_boundary()
        seen.append(list(cuda.calls))
    leads = local_rank != 1
    opened = ["start", "ranges"] if leads else ["ranges"]
    closed = [*opened, "no ranges", *(["stop"] if leads else [])]
    assert seen == [[], [], *[opened] * 4, closed, closed]
    assert [(r["first"], r["last"], r["file"]) for r in rank.records] == [(3, 4, "")]
    assert list(tmp_path.iterdir()) == []
    window.add(9, 9)
    rank.step = 8
    window.at_boundary()
    assert cuda.calls == closed
    assert rank.warnings == ["window 9:9 skipped: nsys records one window"]
