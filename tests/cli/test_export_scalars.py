"""Scalars that TensorBoard's own reader reads, and stacks that speedscope's format allows."""

import json
from pathlib import Path

import pytest

from perfkit.trace import export_tensorboard
from perfkit.trace.run import open_run
from tests.cli.conftest import Call
from tests.trace.folders import add_node, add_rank, add_trace


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for rank in range(2):
        add_trace(add_rank(tmp_path, rank, steps=6), 2, 4)
    add_node(tmp_path)
    return tmp_path


def test_the_checksum_is_crc32c() -> None:
    assert export_tensorboard.crc32c(b"123456789") == 0xE3069283
    assert export_tensorboard.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_tensorboard_reads_every_step_of_every_rank(
    perfkit: Call, run: Path, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    ended = perfkit("export", run, "--format", "tensorboard", "--out", tmp_path / "tb")
    assert ended.status == 0 and ended.out.strip() == str(tmp_path / "tb")
    assert "tensorboard --logdir" in ended.err
    for record in open_run([run]).ranks:
        found = accumulator.EventAccumulator(str(tmp_path / f"tb/rank{record.rank:05d}"))
        found.Reload()
        lines = record.lines
        shown = found.Scalars("step/ms")
        assert [event.step for event in shown] == lines.index.tolist()
        expected = ((lines.end_ns - lines.start_ns) / 1e6).tolist()
        assert [event.value for event in shown] == pytest.approx(expected, rel=1e-6)
        assert [e.wall_time for e in shown] == pytest.approx((lines.end_ns / 1e9).tolist())


def test_the_same_run_gives_the_same_bytes(perfkit: Call, run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        perfkit("export", run, "--format", "tensorboard", "--out", tmp_path / name)
    one, other = (sorted((tmp_path / name).rglob("*tfevents*")) for name in ("a", "b"))
    assert one and [p.read_bytes() for p in one] == [p.read_bytes() for p in other]


def add_stacks(run: Path, rank: int, frames: list[dict[str, object]]) -> None:
    profile = {"type": "sampled", "name": 'Thread 1 "Main"', "unit": "seconds", "startValue": 0.0}
    profile |= {"endValue": 0.02, "samples": [[0, 1], [1]], "weights": [0.01, 0.01]}
    document = {"shared": {"frames": frames}, "profiles": [profile]}
    (run / "stacks").mkdir(exist_ok=True)
    (run / f"stacks/rank{rank:05d}.{rank + 7}.speedscope.json").write_text(json.dumps(document))


def test_stacks_of_all_ranks_share_their_frames(perfkit: Call, run: Path, tmp_path: Path) -> None:
    main = {"name": "main", "file": "/home/alice/train.py", "line": 3}
    add_stacks(run, 0, [main, {"name": "forward", "file": "model.py", "line": 9, "col": None}])
    add_stacks(run, 1, [{"name": "backward", "file": None}, main])
    out = tmp_path / "all.json"
    ended = perfkit("export", run, "--format", "speedscope", "--out", out)
    assert (ended.status, ended.out.strip()) == (0, str(out))
    document = json.loads(out.read_bytes())
    assert document["$schema"].endswith("file-format-schema.json")
    frames = document["shared"]["frames"]
    assert [frame["name"] for frame in frames] == ["main", "forward", "backward"]
    assert frames[0] == main and frames[2] == {"name": "backward"}
    assert [p["name"].split(":")[0] for p in document["profiles"]] == ["rank 0", "rank 1"]
    assert [p["samples"] for p in document["profiles"]] == [[[0, 1], [1]], [[2, 0], [0]]]


def test_redacted_stacks_name_no_paths(perfkit: Call, run: Path, tmp_path: Path) -> None:
    frame = {"name": "main", "file": "/home/alice/train.py", "line": 3}
    add_stacks(run, 0, [frame, {"name": "forward"}])
    out = tmp_path / "all.json"
    perfkit("export", run, "--format", "speedscope", "--redact", "--out", out)
    assert "alice" not in out.read_text() and "train.py" not in out.read_text()


@pytest.mark.parametrize("text", ["", "{", '{"profiles": [], "shared": {"frames": []}}'])
def test_damaged_stacks_are_one_line(perfkit: Call, run: Path, text: str) -> None:
    (run / "stacks").mkdir()
    (run / "stacks/rank00000.7.speedscope.json").write_text(text)
    ended = perfkit("export", run, "--format", "speedscope")
    assert ended.status == 3 and "no stacks can be read" in ended.err


def test_a_run_without_stacks_says_how_to_take_them(perfkit: Call, run: Path) -> None:
    ended = perfkit("export", run, "--format", "speedscope")
    assert ended.status == 3
    assert "--py-spy" in ended.err
