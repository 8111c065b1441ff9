"""`perfkit writeup`: files, refusals, and communication that is really off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.test_scale import make_run

BOOT = Path(__file__).parent.parent.parent / "profiler" / "inrank" / "boot"
SYNC = """
import torch, torch.distributed as dist
dist.init_process_group("gloo", rank=0, world_size=1, init_method="file://{store}")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
calls = []
model.register_comm_hook(None, lambda state, bucket: (calls.append(1), dist.all_reduce(
    bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0]))[1])
model(torch.ones(1, 2)).sum().backward()
print(len(calls))
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lab04"], "no run to write about"),
        (["lab04", "--measure"], "--measure and a command after -- belong together"),
        (["lab04", "x", "--", "true"], "--measure and a command after -- belong together"),
        (["lab04", "x", "--out", "a.pdf"], "neither .md nor .html"),
        (["lab05", "x"], "'lab05' is not one of"),
    ],
)
def test_wrong_usage_is_one_line(perfkit: Call, arguments: list[str], says: str) -> None:
    ended = perfkit("writeup", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err


def test_a_missing_run_is_one_line(perfkit: Call, tmp_path: Path) -> None:
    ended = perfkit("writeup", "lab04", tmp_path / "none")
    assert (ended.status, ended.err.count("\n")) == (3, 1)
    assert "there is no such folder" in ended.err


def test_a_report_and_its_figures_are_written(perfkit: Call, tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", 2, 100.0, 8)
    amp = make_run(tmp_path / "amp", 2, 80.0, 8)
    out = tmp_path / "lab04.md"
    ended = perfkit("writeup", "lab04", base, f"amp={amp}", "--out", out)
    assert ended.status == 0, ended.err
    text = out.read_text()
    assert "| + AMP | 200 samples/s | 1.25x (one run each: no interval) |" in text
    assert (tmp_path / "lab04-figures" / "throughput.svg").is_file()
    assert "Missing: rows of the table: + Grad Accum, + DataLoader, + All" in ended.out
    page = perfkit("writeup", "lab09", base, f"trap={amp}", "--out", tmp_path / "lab09.html")
    assert page.status == 0, page.err
    assert "The trap, beside the change that mattered" in (tmp_path / "lab09.html").read_text()
    assert (tmp_path / "lab09-ledger.json").is_file()


@pytest.mark.real
@pytest.mark.parametrize(("wanted", "calls"), [("1", "0"), ("", "1")])
def test_communication_off_is_off(tmp_path: Path, wanted: str, calls: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(BOOT), "PERFKIT_NO_SYNC": wanted}
    environment["PERFKIT_RUN_DIR"] = str(tmp_path)  # what makes a process look for hooks
    done = subprocess.run(
        [sys.executable, "-c", SYNC.format(store=tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert done.stdout.strip() == calls, done.stderr
