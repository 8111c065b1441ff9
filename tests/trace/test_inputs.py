"""What may be given besides files and folders: patterns, archives and URLs, and what is refused."""

import io
import os
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from perfkit.errors import InputError
from perfkit.trace import archive, kept
from perfkit.trace.model import Run
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import document, op, write
from tests.trace.folders import add_node, add_rank, add_trace


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "perfkit"


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    for rank in range(3):
        extra = {"distributedInfo": {"rank": rank, "world_size": 3}}
        write(folder / f"t{rank}.json.gz", document([op("aten::mm", 1, 5.0, 1)], **extra))
    (folder / "model.bin").write_bytes(b"no trace")
    return folder


def tarred(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz" if target.suffix in (".gz", ".tgz") else "w") as tar:
        tar.add(folder, folder.name)
    return target


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
    return target


def events(run: Run) -> dict[int, int]:
    return {record.rank: len(load_rank(record, cache=None).events) for record in run.ranks}


PACKERS = [
    pytest.param(pack, name, id=name)
    for pack, name in (
        (tarred, "all.tar"), (tarred, "all.tar.gz"), (tarred, "all.tgz"), (zipped, "all.zip"),
    )
]  # fmt: skip
Pack = Callable[[Path, Path], Path]


@pytest.mark.parametrize(("pack", "name"), PACKERS)
def test_archives(traces: Path, cache: Path, pack: Pack, name: str) -> None:
    packed = pack(traces, traces.parent / name)
    run = open_run([packed])
    assert events(run) == {0: 1, 1: 1, 2: 1}
    assert run.run_id == "traces"
    assert run.path is None
    assert not list(cache.rglob("model.bin"))
    before = sorted(cache.rglob("*.gz"))
    assert len(before) == 3
    assert events(open_run([packed])) == {0: 1, 1: 1, 2: 1}
    assert sorted(cache.rglob("*.gz")) == before  # unpacked once


@pytest.mark.parametrize(("pack", "name"), PACKERS)
def test_a_packed_run_folder_is_one(tmp_path: Path, pack: Pack, name: str) -> None:
    folder = tmp_path / "run"
    add_node(folder)
    add_trace(add_rank(folder, 0, world_size=1), 2, 4)
    run = open_run([pack(folder, tmp_path / name)])
    assert run.run_id == "r1"
    assert run.path is None  # results do not go into the cache
    assert load_rank(run.ranks[0], cache=None).steps.source == "perfkit"


def member(name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "a/../../evil.json"])
def test_an_archive_that_leads_out_of_itself_is_refused(
    traces: Path, tmp_path: Path, name: str
) -> None:
    content = (traces / "t0.json.gz").read_bytes()
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(member("good.json"))
        info = member(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr(name, content)
    for kind in ("tar", "zip"):
        with pytest.raises(InputError, match="leads out of its folder") as caught:
            open_run([tmp_path / f"evil.{kind}"])
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("evil.json"))
    assert not Path("/tmp/evil.json").exists()


def test_links_and_devices_in_an_archive_are_not_made(
    traces: Path, tmp_path: Path, cache: Path
) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        tar.addfile(member("link.json", kind=tarfile.SYMTYPE, target="/etc/passwd"))
        tar.addfile(member("hard.json", kind=tarfile.LNKTYPE, target="link.json"))
        tar.addfile(member("pipe.json", kind=tarfile.FIFOTYPE))
        tar.add(traces / "t0.json.gz", "t0.json.gz")
    assert events(open_run([tmp_path / "odd.tar"])) == {0: 1}
    made = [path for path in cache.rglob("*") if not path.is_dir()]
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in made)
    assert len(made) == 1


def test_an_archive_bomb_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.json", b"[" + b" " * (8 << 20))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as packed:
        for number in range(11):
            packed.writestr(f"{number}.txt", b"")
    for name, said in (("bomb.zip", "expands more than"), ("many.zip", "more than 10 files")):
        with pytest.raises(InputError, match=said):
            open_run([tmp_path / name])
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_damaged_archives_get_one_line(traces: Path, tmp_path: Path) -> None:
    for pack, name in ((tarred, "all.tar.gz"), (zipped, "all.zip"), (tarred, "all.tar")):
        path = pack(traces, tmp_path / name)
        os.truncate(path, path.stat().st_size // 3)
        with pytest.raises(InputError) as caught:
            open_run([path])
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "junk.zip").write_bytes(b"not an archive at all")
    with pytest.raises(InputError, match="a damaged or unreadable archive"):
        open_run([tmp_path / "junk.zip"])


def test_an_archive_without_traces(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match="no run and no"):
        open_run([zipped(folder, tmp_path / "x.zip")])


def test_what_nobody_asked_for_in_a_while_goes(traces: Path, tmp_path: Path, cache: Path) -> None:
    old, new = (tarred(traces, tmp_path / name) for name in ("old.tar", "new.tar"))
    open_run([old])
    (entry,) = (cache / "inputs").iterdir()
    long_ago = time.time() - (kept.KEPT_DAYS + 1) * 86_400
    os.utime(entry, (long_ago, long_ago))
    open_run([new])
    assert not entry.exists()
    assert events(open_run([old])) == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("pattern", "ranks"),
    [("t1.json.gz", [1]), ("t[02].json.gz", [0, 2]), ("*.gz", [0, 1, 2]), ("", [0, 1, 2])],
)
def test_urls(traces: Path, pattern: str, ranks: list[int]) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(traces), "/bucket/traces", recursive=True)
    try:
        assert list(events(open_run([f"memory://bucket/traces/{pattern}"]))) == ranks
    finally:
        system.rm("/bucket", recursive=True)


def test_an_archive_behind_a_url(traces: Path, tmp_path: Path) -> None:
    packed = tarred(traces, tmp_path / "all.tar.gz")
    assert events(open_run([packed.as_uri()])) == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nowhere/t.json", "no such file"),
        ("nosuchscheme://a/b.json", "cannot be fetched: Protocol not known: nosuchscheme"),
        ("memory://nowhere/*.json", "no such file, or no traces in it"),
    ],
)
def test_urls_that_lead_nowhere(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_run([url])
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_file_behind_a_url_is_fetched_again(traces: Path) -> None:
    url = (traces / "t0.json.gz").as_uri()
    assert list(events(open_run([url]))) == [0]
    extra = {"distributedInfo": {"rank": 7, "world_size": 9}}
    write(traces / "t0.json.gz", document([op("aten::mm", 1, 5.0, 1)], **extra))
    assert list(events(open_run([url]))) == [7]
