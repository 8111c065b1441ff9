"""Containers: objects and arrays, metadata before and after, torn, damaged and hostile files."""

import gzip
import json
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.trace import kineto_text, source
from perfkit.trace.kineto import peek, read_kineto
from perfkit.trace.model import RankTrace
from perfkit.trace.source import Source
from tests.trace.files import document, kernel, launch, op, step, write


def events(count: int = 50) -> list[dict[str, object]]:
    made = [step(3, 1000.0, 20.0 * count)]
    for i in range(count):
        at = 1000.0 + 20 * i
        made += [op(f"aten::op{i}", at, 15.0, i + 1), launch(at + 1, 100 + i, External_id=i + 1)]
        made += [kernel("gemm", at + 5.125, 9.5, 100 + i, External_id=i + 1)]
    return made


def codes(trace: RankTrace) -> set[str]:
    return {issue.code for issue in trace.issues}


def sums(trace: RankTrace) -> tuple[int, int, int]:
    table = trace.events
    return len(table), int(table.duration_ns.sum()), int((table.launch >= 0).sum())


WHOLE = (151, 50 * (15_000 + 2_000 + 9_500) + 1_000_000, 50)


@pytest.mark.parametrize("name", ["t.json", "t.json.gz", "named_wrongly.txt"])
@pytest.mark.parametrize("indent", [None, 1, 4])
def test_object_in_any_packing(tmp_path: Path, name: str, indent: int | None) -> None:
    text = json.dumps(document(events()), indent=indent)
    assert sums(read_kineto(write(tmp_path / name, text))) == WHOLE


def test_array(tmp_path: Path) -> None:
    trace = read_kineto(write(tmp_path / "t.json", events()))
    assert sums(trace) == WHOLE
    assert "TRACE_TRUNCATED" not in codes(trace)


def test_array_without_closing_bracket(tmp_path: Path) -> None:
    trace = read_kineto(write(tmp_path / "t.json", json.dumps(events())[:-1]))
    assert sums(trace) == WHOLE
    assert "TRACE_TRUNCATED" in codes(trace)


def test_metadata_after_the_events(tmp_path: Path) -> None:
    content = {
        "traceEvents": events(),
        "distributedInfo": {"rank": 5, "world_size": 9, "backend": "nccl"},
        "baseTimeNanoseconds": 7_000_000_000,
    }
    trace = read_kineto(write(tmp_path / "t.json", content))
    assert (trace.rank, trace.world_size) == (5, 9)
    assert int(trace.events.start_ns[0]) == 7_000_000_000 + 1_000_000


@pytest.mark.parametrize("chunk", [64, 997, 4096])
def test_any_chunk_size(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.json", json.dumps(document(events(), tail={"a": [{"name": 1}]})))
    monkeypatch.setattr(Source.chunks, "__defaults__", (chunk,))
    assert sums(read_kineto(path)) == WHOLE


def test_names_that_look_like_json_survive_any_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'a}, {"ph": "X", "name": "b"}], "traceEvents": [{"ph'
    made = events(8) + [op(name, 5000.0 + i, 0.5, 900 + i) for i in range(8)]
    path = write(tmp_path / "t.json", document(made))
    for chunk in range(200, 1200, 37):
        monkeypatch.setattr(Source.chunks, "__defaults__", (chunk,))
        trace = read_kineto(path)
        assert len(trace.events) == 25 + 8
        assert trace.events.names.count(name) == 1
        assert codes(trace) == set()


def test_every_truncation_gives_a_prefix(tmp_path: Path) -> None:
    text = json.dumps(document(events(6)))
    last = 0
    for length in [*range(0, len(text), 23), len(text) - 1]:
        path = write(tmp_path / "t.json", text[:length])
        try:
            trace = read_kineto(path)
        except InputError as error:
            assert last == 0
            assert str(path) in str(error)
            continue
        assert len(trace.events) >= last
        assert "TRACE_TRUNCATED" in codes(trace)
        last = len(trace.events)
    assert last == 19


def test_truncated_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(document(events(2000))).encode())
    path = tmp_path / "t.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    trace = read_kineto(path)
    assert 500 < len(trace.events) < 6001
    assert "TRACE_TRUNCATED" in codes(trace)


def test_gzip_with_garbage_behind(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document(events())).encode()) + b"junk")
    trace = read_kineto(path)
    assert sums(trace) == WHOLE
    assert "TRAILING_GARBAGE" in codes(trace)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    text = json.dumps(document(events())).encode()
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(text[:3000]) + gzip.compress(text[3000:]))
    assert sums(read_kineto(path)) == WHOLE


def test_json_with_garbage_behind(tmp_path: Path) -> None:
    trace = read_kineto(write(tmp_path / "t.json", json.dumps(document(events())) + "\n}}x"))
    assert sums(trace) == WHOLE
    assert "TRAILING_GARBAGE" in codes(trace)


def test_one_broken_event_costs_only_itself(tmp_path: Path) -> None:
    broken = '{"ph": "X", "cat": "cpu_op", "name": "said "quoted"", "ts": 1, "dur": 1}'
    made = [json.dumps(event) for event in events()]
    made.insert(20, broken)
    text = '{"traceEvents": [' + ",\n".join(made) + "]}"
    trace = read_kineto(write(tmp_path / "t.json", text))
    assert sums(trace) == WHOLE
    message = next(i.message for i in trace.issues if i.code == "EVENTS_UNREADABLE")
    assert " 1 events" in message


def test_nan_is_absent_and_other_fields_stay(tmp_path: Path) -> None:
    made = events()
    made[3]["args"]["est. achieved occupancy %"] = float("nan")  # type: ignore[index]
    trace = read_kineto(write(tmp_path / "t.json", document(made)))
    assert sums(trace) == WHOLE


def test_wrong_encoding_in_a_name(tmp_path: Path) -> None:
    text = json.dumps(document([*events(), op("caf_", 9000, 1, 999)]))
    path = tmp_path / "t.json"
    path.write_bytes(text.encode().replace(b"caf_", b"caf\xe9"))
    trace = read_kineto(path)
    assert len(trace.events) == WHOLE[0] + 1
    assert "caf\ufffd" in trace.events.names


def test_nesting_beyond_all_bounds(tmp_path: Path) -> None:
    text = json.dumps(document([*events(), op("deep", 9000, 1, 999, Input_Dims="@@")]))
    trace = read_kineto(write(tmp_path / "t.json", text.replace('"@@"', "[" * 100_000)))
    assert len(trace.events) == WHOLE[0]
    with pytest.raises(InputError):
        read_kineto(write(tmp_path / "t.json", '{"a": ' * 100_000))


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    text = json.dumps(document([*events(), op("N", 9000, 1, 999)], host_name="H"))
    text = text.replace('"N"', r'"\ud800"').replace('"H"', r'"\ud800"')
    trace = read_kineto(write(tmp_path / "t.json", text))
    assert (len(trace.events), trace.node) == (WHOLE[0], "?")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BOMB_BYTES", 1 << 20)
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(b'{"traceEvents": [' + b" " * (8 << 20)))
    with pytest.raises(InputError, match="expands more than 250 times"):
        read_kineto(path)


def test_an_endless_event_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kineto_text, "EVENT_LIMIT", 1 << 16)
    monkeypatch.setattr(Source.chunks, "__defaults__", (4096,))
    text = json.dumps(document(events()))[:-2] + ', {"name": "' + "x" * (1 << 20)
    trace = read_kineto(write(tmp_path / "t.json", text))
    assert len(trace.events) >= WHOLE[0] - 1
    assert "TRACE_TRUNCATED" in codes(trace)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"hello", "text that is not JSON"),
        (b"42", "JSON that holds nothing but a number"),
        (b' "x"\n', "JSON that holds nothing but a text"),
        (b"null", "JSON that holds nothing but null"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0", "a JPEG picture"),
        (b"%PDF-1.7", "a PDF document"),
        (b"<!doctype html>", "an HTML or XML document"),
        (b'{"verdict": {}, "budget": {}}', "an analysis that perfkit wrote"),
        (b'{"points": [], "fits": []}', "a result of perfkit scale"),
        (b'{"attempts": [], "diagnosed": []}', "a result of perfkit optimize"),
        (b'{"killed_rank": 0, "fleet": []}', "a result of perfkit faults"),
        (b'{"ceilings": [], "copy_by_working_set": []}', "ceilings that perfkit measured"),
        (b'{"binding_constraint": "compute", "variants": []}', "the ledger of a write-up"),
        (b"PK\x03\x04....", "zip archive"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x7fELF\x02", "a program"),
        (b"a\x00b\x01" * 20, "binary data"),
        ('{"traceEvents": []}'.encode("utf-16"), "UTF-16"),
        ('{"traceEvents": []}'.encode("utf-16-le"), "UTF-16"),
        ('{"traceEvents": []}'.encode("utf-16-be"), "UTF-16"),
        ('{"traceEvents": []}'.encode("utf-32"), "UTF-32"),
        (b'\xef\xbb\xbf{"a": 1}', "JSON without traceEvents"),
        (b'{"schema": "1.1", "nodes": []}', "execution trace"),
        (b'{"entries": [], "version": "2.10"}', "flight-recorder dump"),
        (b'{"a": 1}', "JSON without traceEvents"),
        (b'{"a": {', "ends or breaks before its first event"),
        (b'{"traceEvents": []}', "without a single complete event"),
        (b'{"traceEvents": null}', "without a single complete event"),
        (b"[]", "without a single complete event"),
        (b"[1, 2, 3]", "without a single complete event"),
        (b'[{"ph": "B", "name": "x", "ts": 1}]', "begin and end marks"),
        (
            b'[{"ph": "X", "cat": "v8", "name": "x", "ts": 1, "dur": 1}]',
            "none of its events is of a kind",
        ),
        (gzip.compress(b"", mtime=0), "empty"),
        (
            gzip.compress(b'{"schemaVersion": 1, "x": "' + bytes(range(33, 127)), mtime=0)[:40],
            "cut off",
        ),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_kineto(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_kineto(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_kineto(tmp_path / "missing.json")


def test_peek_reads_only_the_head(tmp_path: Path) -> None:
    content = document(events(), distributedInfo={"rank": 3, "world_size": 4})
    path = write(tmp_path / "t.json.gz", content)
    facts = peek(path)
    assert (facts.rank, facts.world_size) == (3, 4)
