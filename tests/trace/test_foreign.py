"""Foreign traces as a run: how ranks are found, and what is said about odd sets of files."""

import os
import shutil
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.trace.model import Run
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import document, op, write


def trace_file(path: Path, **info: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {"distributedInfo": info} if info else {}
    return write(path, document([op("aten::mm", 1, 5.0, 1)], **extra))


def codes(run: Run) -> set[str]:
    return {issue.code for issue in run.issues}


def ranks(run: Run) -> dict[int, list[str]]:
    return {record.rank: [path.name for path in record.traces] for record in run.ranks}


def test_rank_from_the_document_wins(tmp_path: Path) -> None:
    for name, rank in (("rank7.json", 0), ("b.json.gz", 1)):
        trace_file(tmp_path / name, rank=rank, world_size=2)
    run = open_run([tmp_path])
    assert ranks(run) == {0: ["rank7.json"], 1: ["b.json.gz"]}
    assert not run.issues
    assert run.path is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("rank-0.json", "rank-1.json"), (0, 1)),
        (("rank0.pt.trace.json", "rank12.pt.trace.json"), (0, 12)),
        (("worker3_step_12.1694128201557.pt.trace.json", "worker0_step_12.9.json"), (0, 3)),
        (("x - rank4-chrome-trace.json", "Rank_5.json"), (4, 5)),
        (("rank2/trace.json", "rank3/trace.json"), (2, 3)),
    ],
)
def test_rank_from_the_name(
    tmp_path: Path, names: tuple[str, str], expected: tuple[int, int]
) -> None:
    for name in names:
        trace_file(tmp_path / name)
    assert tuple(ranks(open_run([tmp_path]))) == expected


def test_unknown_ranks_are_numbered_and_reported(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.json")
    trace_file(tmp_path / "b.json", rank=0, world_size=2)
    run = open_run([tmp_path])
    assert ranks(run) == {0: ["b.json"], 1: ["a.json"]}
    assert "RANK_GUESSED" in codes(run)


def test_missing_ranks(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.json", rank=1, world_size=4)
    issue = next(i for i in open_run([tmp_path]).issues if i.code == "RANKS_MISSING")
    assert issue.ranks == (0, 2, 3)


def test_windows_of_one_process_belong_together(tmp_path: Path) -> None:
    for stamp in ("1698107929560561434", "1698107999560561434"):
        trace_file(tmp_path / f"host_855.{stamp}.pt.trace.json", rank=0, world_size=1)
    run = open_run([tmp_path])
    assert [len(record.traces) for record in run.ranks] == [2]
    assert not run.issues
    assert len(load_rank(run.ranks[0], cache=None).events) == 2


def test_duplicated_ranks_are_reported(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        trace_file(tmp_path / name, rank=0, world_size=1)
    run = open_run([tmp_path])
    assert ranks(run) == {0: ["a.json"]}
    assert "DUPLICATE_RANKS" in codes(run)


def test_mixed_runs_are_reported(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.json", rank=0, world_size=1)
    trace_file(tmp_path / "b.json", rank=1, world_size=8)
    assert "MIXED_RUNS" in codes(open_run([tmp_path]))


def test_globs_files_and_folders(tmp_path: Path) -> None:
    for rank in range(3):
        trace_file(tmp_path / "t" / f"rank{rank}.json", rank=rank, world_size=3)
    assert len(open_run([str(tmp_path / "t" / "rank*.json")]).ranks) == 3
    assert len(open_run([tmp_path / "t" / "rank0.json"]).ranks) == 1
    assert len(open_run([str(tmp_path / "**" / "*.json")]).ranks) == 3


def test_other_files_in_a_folder_are_skipped(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.json", rank=0, world_size=1)
    write(tmp_path / "config.json", {"a": 1})
    (tmp_path / "notes.txt").write_text("x")
    run = open_run([tmp_path])
    assert len(run.ranks) == 1
    message = next(i.message for i in run.issues if i.code == "FILES_SKIPPED")
    assert "config.json" in message


def test_a_named_file_must_be_a_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", {"a": 1})
    with pytest.raises(InputError, match="JSON without traceEvents"):
        open_run([path])


def test_folders_without_traces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run and no"):
        open_run([tmp_path])
    write(tmp_path / "config.json", {"a": 1})
    with pytest.raises(InputError, match="none of them a trace"):
        open_run([tmp_path])


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_run([tmp_path / "nothing"])


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    trace_file(tmp_path / "a.json", rank=0, world_size=1)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.json").symlink_to(tmp_path / "self.json")
    run = open_run([tmp_path])
    assert ranks(run) == {0: ["a.json"]}


def test_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(InputError, match="cannot be read"):
        open_run([tmp_path / "a.json"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening one waits for whoever writes into it, perhaps forever."""
    os.mkfifo(tmp_path / "pipe.json")
    trace_file(tmp_path / "rank0.json", rank=0, world_size=1)
    assert list(ranks(open_run([tmp_path]))) == [0]
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: a pipe, a socket or a device"):
            open_run([path])


def test_clock_domains_are_never_assumed_equal(tmp_path: Path) -> None:
    for rank in range(2):
        trace_file(tmp_path / f"rank{rank}.json", rank=rank, world_size=2)
    loaded = [load_rank(record, cache=None) for record in open_run([tmp_path]).ranks]
    assert [trace.clock_domain for trace in loaded] == ["rank:0", "rank:1"]


@pytest.mark.parametrize(
    ("folder", "count", "size"),
    [
        ("kineto/nanogpt_h100_8ranks", 8, 8),
        ("kineto/dlrm_v100_8ranks", 8, 8),
        ("kineto/torchrec_v100_4ranks_opt4", 4, 4),
        ("kineto/lightllm_h200_tp8_cudagraph", 8, 8),
        ("kineto/hta_timeline_ranks_0_1_of_128", 2, 128),
        ("own/gloo_ddp4", 4, 4),
    ],
)
def test_real_sets(shared_traces: Path, folder: str, count: int, size: int) -> None:
    run = open_run([shared_traces / folder])
    assert [record.rank for record in run.ranks] == list(range(count))
    assert run.world_size == size
    assert codes(run) <= {"RANKS_MISSING", "FILES_SKIPPED"}


def test_the_number_of_the_device_is_not_the_rank(shared_traces: Path, tmp_path: Path) -> None:
    shutil.copy(shared_traces / "tracelens" / "mi300_ddp_resnet.json.gz", tmp_path / "t.json.gz")
    trace = load_rank(open_run([tmp_path / "t.json.gz"]).ranks[0], cache=None)
    assert (trace.rank, trace.device, trace.world_size) == (0, 2, 8)


def test_rank_by_argument(tmp_path: Path) -> None:
    first, second = trace_file(tmp_path / "a.json"), trace_file(tmp_path / "b.json")
    run = open_run([f"5={first}", f"2={second}"])
    assert ranks(run) == {2: ["b.json"], 5: ["a.json"]}
    assert "RANK_GUESSED" not in codes(run)
    odd = trace_file(tmp_path / "3=c.json")  # a file of that name is the file
    assert ranks(open_run([odd])) == {0: ["3=c.json"]}
    with pytest.raises(InputError, match="a rank goes with one file"):
        open_run([f"1={tmp_path}/?.json"])
