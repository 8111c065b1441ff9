"""A run folder on a network file system: streams lie on local disk until the rank ends."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from perfkit.profiler import closing, filesystems, launch, rank_folders
from perfkit.profiler.inrank import streams
from perfkit.trace.run import open_run
from tests.profiler.launching import SCRIPTS, plain, ranks
from tests.trace.folders import add_node, add_rank

MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/local tmpfs rw 0 0
//box/share /mnt/with\\040space cifs rw 0 0
me@host:/x /mnt/ssh fuse.sshfs rw 0 0
server:/old /over nfs rw 0 0
/dev/vdb /over xfs rw 0 0
short
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/", False),
        ("/home/me/run", True),
        ("/home/local/run", False),
        ("/homely", False),
        ("/mnt/with space/run", True),
        ("/mnt/ssh", True),
        ("/over/run", False),
    ],
)
def test_the_last_and_longest_mount_decides(tmp_path: Path, path: str, network: bool) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert filesystems.is_network(Path(path), tmp_path / "mounts") == network


def test_without_proc_everything_is_local(tmp_path: Path) -> None:
    assert filesystems.kind_of(tmp_path, tmp_path / "absent") == ""
    assert not filesystems.is_network(tmp_path)  # here, truly


def test_local_disk_is_used_only_if_it_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    for run_remote, temp_remote, used in ((1, 0, True), (0, 0, False), (1, 1, False)):
        remote = {"/run": run_remote}
        monkeypatch.setattr(
            filesystems, "is_network", lambda p, r=remote, t=temp_remote: bool(r.get(str(p), t))
        )
        assert (launch.stream_dir_of(Path("/run"), "id") is not None) == used


def test_a_folder_that_cannot_be_made_is_the_ranks_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert streams.folder_for(str(tmp_path / "file"), "a/b", "/own") == "/own"
    assert streams.folder_for(None, "a/b", "/own") == "/own"
    assert streams.folder_for(str(tmp_path), "a/b", "/own") == str(tmp_path / "a/b")


def test_streams_of_a_killed_rank_are_seen_and_then_moved(tmp_path: Path) -> None:
    run, local = tmp_path / "run", tmp_path / "local/perfkit-x/attempt0/rank00000.0.100"
    add_node(run, ended_unix_ns=None)
    folder = add_rank(
        run, 0, world_size=1, ended=None, parent_node="0", hostname="h",
        stream_folder=str(local),
    )  # fmt: skip
    facts = json.loads((folder / "facts.json").read_bytes()) | {"pid": 1, "attempt": 0}
    (folder / "facts.json").write_text(json.dumps(facts))
    local.mkdir(parents=True)
    (folder / "steps.jsonl").rename(local / "steps.jsonl")
    (seen,) = rank_folders.find(run)
    line = seen.last_step()
    assert line is not None and line["i"] == 5
    assert len(open_run([run]).ranks[0].lines.index) == 6
    assert closing.bring_streams(run, "another") == ()
    assert not (folder / "steps.jsonl").exists()
    assert closing.bring_streams(run, "0") == ()
    assert len((folder / "steps.jsonl").read_text().splitlines()) == 7
    assert list((tmp_path / "local").iterdir()) == []
    assert tmp_path.joinpath("local").is_dir()  # nothing above the run's own folder is touched
    assert closing.bring_streams(run, "0") == ()  # a second time there is nothing to do


PARENT = """
import sys
from pathlib import Path
from perfkit.profiler import filesystems
filesystems.is_network = lambda path, mounts=None: str(path).startswith({run!r})
from tests.profiler.scripts import parent
parent.main()
"""


def test_a_rank_keeps_its_streams_on_local_disk_and_brings_them(tmp_path: Path) -> None:
    run, local = tmp_path / "run", tmp_path / "tmp"
    local.mkdir()
    (tmp_path / "parent.py").write_text(PARENT.format(run=str(run)))
    options = json.dumps({"out": str(run), "windows": [[2, 3]]})
    command = [sys.executable, str(SCRIPTS / "single.py"), "--end=SIGKILL", "--at=6"]
    environment = {"TMPDIR": str(local), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = plain(sys.executable, str(tmp_path / "parent.py"), options, *command, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (rank,) = ranks(run)
    assert rank.facts["stream_folder"].startswith(f"{local}/perfkit-")
    assert rank.steps == list(range(6))
    assert rank.traces == ["trace-0002-0003.json.gz"]
    assert list(local.glob("perfkit-*")) == []
