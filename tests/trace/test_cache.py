"""The Parquet cache: the same content, rebuilt when stale or damaged, never in the way."""

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.trace import cache, run
from perfkit.trace.kineto import read_kineto
from perfkit.trace.model import RankTrace
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import document, op, write

REAL = (
    "kineto/nanogpt_h100_8ranks/*rank0*",
    "kineto/hta_v100_5steps_54MB.json.gz",  # memory samples
    "kineto/hta_mtia_inference.json.gz",
    "own/gloo_ddp4/rank0.pt.trace.json.gz",
    "tracelens/mi210_gpu_only.json.gz",  # no operators, no shapes
)


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    """Compare dataclasses field by field, arrays with their types."""
    if is_dataclass(left):
        assert type(left) is type(right), where
        for item in fields(left):
            assert_equal(getattr(left, item.name), getattr(right, item.name), item.name)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype, where
        np.testing.assert_array_equal(left, right, err_msg=where)
    else:
        assert left == right, where


@pytest.mark.parametrize("pattern", REAL)
def test_what_comes_back_is_what_was_read(
    shared_traces: Path, tmp_path: Path, pattern: str
) -> None:
    path = next(iter(shared_traces.glob(pattern)))
    trace = read_kineto(path)
    key = cache.key_of(path)
    assert cache.load(tmp_path, key, path) is None
    cache.store(tmp_path, key, trace)
    kept = cache.load(tmp_path, key, path)
    assert kept is not None
    assert_equal(trace, kept)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "t.json", document([op("a", 1, 1, 1), op("b", 2, 1, 2)]))


def load(path: Path, folder: Path) -> RankTrace:
    return load_rank(open_run([path]).ranks[0], cache=folder)


def test_the_second_open_reads_no_json(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(small, tmp_path / "cache")

    def refuse(path: Path, *_: object) -> RankTrace:
        raise AssertionError(path)

    monkeypatch.setattr(run, "read_trace", refuse)
    assert_equal(first, load(small, tmp_path / "cache"))


def test_a_changed_file_is_read_again(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load(small, folder)
    times = os.stat(small)
    text = small.read_text().replace('"name": "b"', '"name": "c"')
    with small.open("r+") as file:  # same device, inode, size and mtime: only the digest differs
        file.write(text)
    os.utime(small, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(small, folder).events.names == ("a", "c")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("name", ["rest.json", "events.parquet", "collectives.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"PAR1junkPAR1"])
def test_a_damaged_cache_is_rebuilt(
    small: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    folder = tmp_path / "cache"
    first = load(small, folder)
    broken = next(folder.glob(f"*/{name}"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert_equal(first, load(small, folder))
    key = cache.key_of(small)
    assert cache.load(folder, key, small) is not None


def test_an_unwritable_place_is_no_error(small: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert len(load(small, blocked / "cache").events) == 2
    assert len(load(small, blocked).events) == 2
    assert blocked.read_text() == "not a folder"


def test_another_reader_version_does_not_count(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    load(small, folder)
    monkeypatch.setattr(cache, "READER_VERSION", -1)
    assert cache.load(folder, cache.key_of(small), small) is None


def test_nothing_is_left_behind(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load(small, folder)
    assert [path.name.split("-")[0] for path in folder.iterdir()] == ["trace"]
