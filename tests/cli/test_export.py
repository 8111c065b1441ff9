"""`perfkit export`: what other tools read is what perfkit read, on one clock, and harmless."""

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from perfkit.trace.run import load_rank, open_run
from tests.cli.conftest import Call
from tests.trace.files import document, kernel, launch, op, span, step, write
from tests.trace.folders import add_node, add_rank, add_trace
from tests.trace.trace_event_format import problems

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    '</script><script>alert("x")</script>',
    'quote " comma , backslash \\',
    "line\nbreak",
    "nul\x00bell\x07",
    "caf\u00e9 \u202e \U0001f600",
    "%s %n {0}",
)
SECRETS = (
    "load /home/alice/secret-project/train.py",
    "read C:\\Users\\bob\\data.csv",
    "from alice@example.org at 10.1.2.3",
    "run on gpu-host-17.internal",
)


def events_of(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    content: dict[str, Any] = json.loads(text)
    return list(content["traceEvents"])


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    events = [step(1, 0, 500.0), launch(1, 7), kernel(HOSTILE[0], 10.125, 5.5, 7)]
    events += [op(name, 20.0 + i, 0.5, i + 1) for i, name in enumerate(HOSTILE)]
    events += [span("user_annotation", name, 90.0 + i, 0.5) for i, name in enumerate(SECRETS)]
    extra = {"distributedInfo": {"rank": 0, "world_size": 1}, "host_name": "gpu-host-17.internal"}
    return write(tmp_path / "t.json", document(events, **extra))


def test_perfetto_holds_every_event_once(perfkit: Call, hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    ended = perfkit("export", hostile, "--out", out)
    assert (ended.status, ended.out.strip()) == (0, str(out))
    events = events_of(out)
    trace = load_rank(open_run([hostile]).ranks[0], cache=None)
    spans = [e for e in events if e["ph"] == "X" and e["cat"] != "step"]
    assert Counter(e["name"] for e in spans) == Counter(
        trace.events.names[i] for i in trace.events.name.tolist()
    )
    work = next(e for e in spans if e["cat"] == "kernel")
    assert (work["name"], work["ts"], work["dur"]) == (HOSTILE[0], 10.125, 5.5)
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[work["tid"]] == "device 0 stream 7"
    assert {e["name"] for e in events if e.get("cat") == "step"} == {"step 1"}
    flows = {e["ph"]: e for e in events if e.get("cat") == "launch" and e["ph"] in "sf"}
    assert flows["s"]["id"] == flows["f"]["id"]
    assert flows["f"]["tid"] == work["tid"]
    assert names[flows["s"]["tid"]].startswith("training thread")


def moved(source: Path, target: Path, microseconds: int) -> Path:
    """Write a trace whose clock is off by so much."""
    content = json.loads(gzip.decompress(source.read_bytes()))
    for event in content["traceEvents"]:
        if "ts" in event:
            event["ts"] += microseconds
    return write(target, content)


def test_no_string_ends_with_a_backslash_as_such(perfkit: Call, tmp_path: Path) -> None:
    """Perfetto up to v52 refuses a whole file for it; undone by any reader of JSON."""
    texts = ("\\", "two \\\\", 'quote \\"', 'then \\"\\', "C:\\ in between", "\\n")
    events = [step(1, 0, 500.0)] + [op(t, 20.0 + i, 0.5, i + 1) for i, t in enumerate(texts)]
    source, out = write(tmp_path / "t.json", document(events)), tmp_path / "all.json"
    assert perfkit("export", source, "--out", out).status == 0
    assert [e["name"] for e in events_of(out) if e.get("cat") == "op"] == list(texts)
    for found in re.finditer(rb'\\+"', out.read_bytes()):
        assert len(found.group()) % 2 == 0  # an odd number of backslashes: the quote is escaped


def test_hostile_names_keep_to_the_format(perfkit: Call, hostile: Path, tmp_path: Path) -> None:
    assert perfkit("export", hostile, "--out", tmp_path / "all.json").status == 0
    assert problems(json.loads((tmp_path / "all.json").read_bytes())) == []


@pytest.mark.parametrize(
    "name",
    ["dlrm_v100_8ranks", "lightllm_h200_tp8_cudagraph", "kineto_2020_array.json.gz",
     "hta_cpu_only_gloo_300.json.gz", "torchrec_v100_4ranks_opt4"],
)  # fmt: skip
def test_real_captures_keep_to_the_format(
    perfkit: Call, shared_traces: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "all.json"
    assert perfkit("export", shared_traces / "kineto" / name, "--out", out).status == 0
    assert problems(json.loads(out.read_bytes())) == []


def test_overlapping_kernels_of_a_stream_get_a_row_beside(perfkit: Call, tmp_path: Path) -> None:
    events = [step(1, 0, 500.0)]
    for number in range(3):  # each begins in the one before and ends after it
        events += [launch(1.0 + number, number + 1)]
        events += [kernel(f"k{number}", 10.0 + 4 * number, 10.0, number + 1)]
    source = write(tmp_path / "t.json", document(events))
    out = tmp_path / "all.json"
    assert perfkit("export", source, "--out", out).status == 0
    content = json.loads(out.read_bytes())
    assert problems(content) == []
    rows = {
        e["tid"]: e["args"]["name"] for e in content["traceEvents"] if e["name"] == "thread_name"
    }
    drawn = {e["name"]: rows[e["tid"]] for e in content["traceEvents"] if e.get("cat") == "kernel"}
    assert drawn == {
        "k0": "device 0 stream 7",
        "k1": "device 0 stream 7 (overlapping 1)",
        "k2": "device 0 stream 7 (overlapping 2)",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ph": "B"}, "phase"),
        ({"tid": 1 << 40}, "pid and tid"),
        ({"ts": -1.0}, "times"),
        ({"dur": 14.0}, "overlaps"),
        ({"ts": 400.0}, "no slice"),
    ],
)
def test_the_check_of_the_format_can_fail(change: dict[str, Any], said: str) -> None:
    slices = [{"ph": "X", "cat": "c", "name": "n", "pid": 0, "tid": 1, "ts": t, "dur": 10.0}
              for t in (0.0, 12.0)]  # fmt: skip
    ends = [{"ph": p, "cat": "l", "name": "l", "id": 1, "pid": 0, "tid": 1, "ts": t}
            for p, t in (("s", 1.0), ("f", 13.0))]  # fmt: skip
    assert problems({"traceEvents": [*slices, *ends]}) == []
    broken = {"traceEvents": [slices[0] | change, slices[1], *ends]}
    assert said in " ".join(problems(broken))


def test_clocks_are_aligned(perfkit: Call, shared_traces: Path, tmp_path: Path) -> None:
    files = sorted((shared_traces / "kineto" / "dlrm_v100_8ranks").iterdir())
    for number, file in enumerate(files):
        moved(file, tmp_path / f"rank{number}.json.gz", 7_000_000 * number)
    out = tmp_path / "all.json"
    given = sorted(tmp_path.glob("rank*.json.gz"))
    assert perfkit("export", *given, "--out", out).status == 0
    events = events_of(out)
    assert {e["pid"] for e in events if e["ph"] == "X"} == set(range(8))
    ends: dict[int, list[float]] = {}
    for event in events:
        if event["ph"] == "X" and event["cat"] == "comm_kernel":
            ends.setdefault(event["pid"], []).append(event["ts"] + event["dur"])
    last = [max(found) for found in ends.values()]
    assert len(last) == 8
    assert max(last) - min(last) < 100.0  # microseconds; the files differ by 49 s


def test_a_run_folder_gets_its_export_inside(perfkit: Call, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    add_node(folder)
    for rank in range(2):
        add_trace(add_rank(folder, rank), 2, 4)
    assert perfkit("export", folder).status == 0
    events = events_of(folder / "export" / "perfetto.json.gz")
    named = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert sorted(named) == [0, 1]
    assert named[1].startswith("rank 1")
    rows = [(e["pid"], e["tid"], e["args"]["name"]) for e in events if e["name"] == "thread_name"]
    for rank in (0, 1):  # viewers sort rows by number, the one numbered as its process first
        own = [name for pid, _, name in sorted(rows) if pid == rank]
        assert own[0] == "steps"
        assert own[1].startswith("training thread")
    assert not [row for row in rows if row[0] == row[1] and row[2] != "steps"]
    assert perfkit("analyze", folder, "--json").status == 0  # the export is not taken for a trace


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_tables(perfkit: Call, shared_traces: Path, tmp_path: Path, format: str) -> None:
    source = shared_traces / "kineto" / "torchrec_v100_4ranks_opt4"
    out = tmp_path / "tables"
    assert perfkit("export", source, "--format", format, "--out", out).status == 0
    read = pl.read_parquet if format == "parquet" else pl.read_csv
    for record in open_run([source]).ranks:
        trace = load_rank(record, cache=None)
        table = read(out / "events" / f"rank{record.rank:05d}.{format}")
        assert table["duration_ns"].to_list() == trace.events.duration_ns.tolist()
        assert table["launch"].null_count() == int((trace.events.launch == -1).sum())
        names = [trace.events.names[i] for i in trace.events.name.tolist()]
        if format == "parquet":
            assert table["name"].to_list() == names
    steps, collectives = read(out / f"steps.{format}"), read(out / f"collectives.{format}")
    assert sorted(set(steps["rank"].to_list())) == [0, 1, 2, 3]
    assert set(collectives["op"].to_list()) == {"all_reduce", "send_recv", "all_to_all"} & set(
        collectives["op"].to_list()
    )
    assert len(collectives) > 40


def test_csv_holds_no_formula(perfkit: Call, hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    assert perfkit("export", hostile, "--format", "csv", "--out", out).status == 0
    with (out / "events" / "rank00000.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(load_rank(open_run([hostile]).ranks[0], cache=None).events)
    for row in rows:
        name = row["name"]
        assert not name.lstrip().startswith(("=", "+", "-", "@"))
        assert not any(ord(mark) < 32 and mark not in "\n\t" for mark in name)
    names = {row["name"] for row in rows}
    assert "'=cmd|' /C calc'!A0" in names
    assert 'quote " comma , backslash \\' in names


@pytest.mark.parametrize("format", ["perfetto", "csv", "parquet"])
def test_redaction(perfkit: Call, hostile: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / ("all.json" if format == "perfetto" else "tables")
    shown: dict[bool, str] = {}
    for redact in (False, True):
        given = ["--redact"] if redact else []
        assert perfkit("export", hostile, "--format", format, "--out", out, *given).status == 0
        files = [out] if out.is_file() else sorted(p for p in out.rglob("*") if p.is_file())
        if format == "parquet":
            shown[redact] = "".join(str(pl.read_parquet(f).to_dicts()) for f in files)
        else:
            shown[redact] = "".join(file.read_text() for file in files)
    for secret in ("alice", "bob", "secret-project", "example.org", "10.1.2.3", "gpu-host-17"):
        assert secret in shown[False]
        assert secret not in shown[True]
    assert re.search(r"load path-[0-9a-f]{8}\.py", shown[True])
    assert re.search(r"run on host-[0-9a-f]{8}", shown[True])


def test_an_unwritable_place_is_one_line(perfkit: Call, hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = perfkit("export", hostile, "--out", tmp_path / "file" / "all.json")
    assert ended.status == 2
    assert "cannot write" in ended.err
    assert ended.err.count("\n") == 1
