"""What happens to the run folder meanwhile must not change how the command ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.profiler.launch import ProfileOptions
from perfkit.profiler.launch import profile as profile_here
from tests.profiler.launching import SCRIPTS, plain, profile


def test_a_run_folder_deleted_meanwhile_leaves_the_exit_status(tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = profile_here(["sh", "-c", f"rm -r {run}; exit 3"], ProfileOptions(out=run))
    assert (outcome.status, outcome.signal) == (3, None)
    assert any("the end was not recorded" in warning for warning in outcome.warnings)
    assert not run.exists()


def test_a_run_folder_deleted_in_the_window_costs_the_record_and_nothing_else(
    tmp_path: Path,
) -> None:
    """The rank has its files open and its window to save."""
    command = (sys.executable, str(SCRIPTS / "single.py"), "--end=delete", "--at=4")
    ended = profile(tmp_path / "run", *command, windows=[[3, 5]])
    bare = plain(*command)
    assert (ended.returncode, ended.stdout) == (bare.returncode, bare.stdout) == (0, bare.stdout)
    assert bare.stdout.count("0x") == 8
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.glob("run/attempt*/rank*/steps.jsonl")) == []


LINES = """
import resource, signal, sys
from perfkit.profiler.inrank.files import Stream
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
stream = Stream(sys.argv[1])
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for i in range(3):
    stream.write(b'{"i":%d}\\n' % i)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stream.write(b'{"i":3}\\n')
print(stream.lost, bool(stream.why_lost))
"""


@pytest.mark.parametrize(("room", "lost"), [(0, 3), (4, 3), (8, 2), (11, 2), (100, 0)])
def test_lines_go_on_once_there_is_room_again(tmp_path: Path, room: int, lost: int) -> None:
    """A file size limit refuses and cuts lines as a full disk does."""
    header = len(b'{"k":"header","schema_version":1}\n')
    path = tmp_path / "lines.jsonl"
    told = subprocess.run(
        [sys.executable, "-c", LINES, str(path), str(header + room)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == [str(lost), str(lost > 0)]
    whole = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert whole[-1] == b'{"i":3}' and len(whole) == 1 + 4 - lost


@pytest.mark.needs_root
def test_a_full_disk_costs_the_record_and_nothing_else(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "large").write_bytes(bytes(3 * 4096))
        single = (sys.executable, str(SCRIPTS / "single.py"))
        ended = profile(disk / "run", *single, windows=[[3, 5]])
        full = os.statvfs(disk).f_bavail == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    bare = plain(*single)
    assert full
    assert (ended.returncode, ended.stdout) == (bare.returncode, bare.stdout) == (0, bare.stdout)
    assert "Traceback" not in ended.stderr
