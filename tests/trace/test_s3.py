"""Traces on S3: a local moto server stands in for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.trace.run import load_rank, open_run
from tests.trace.files import document, op, write

pytestmark = pytest.mark.filterwarnings("ignore")  # of botocore and werkzeug, not of ours


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if not system.exists("runs"):
        system.mkdir("runs")
    for rank in range(2):
        extra = {"distributedInfo": {"rank": rank, "world_size": 2}}
        file = write(tmp_path / f"t{rank}.json.gz", document([op("a", 1, 5.0, 1)], **extra))
        system.put(str(file), f"runs/job/{file.name}")
    return "s3://runs/job"


@pytest.mark.parametrize(("end", "ranks"), [("", [0, 1]), ("/*.gz", [0, 1]), ("/t1.json.gz", [1])])
def test_folders_patterns_and_files(bucket: str, end: str, ranks: list[int]) -> None:
    run = open_run([bucket + end])
    assert [record.rank for record in run.ranks] == ranks
    assert all(len(load_rank(record, cache=None).events) == 1 for record in run.ranks)


@pytest.mark.parametrize("url", ["s3://runs/none.json", "s3://no-such-bucket/t.json"])
def test_nothing_there(bucket: str, url: str) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        open_run([url])
    assert "\n" not in str(caught.value)


def test_no_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InputError, match="cannot be fetched") as caught:
        open_run(["s3://runs/job/t0.json.gz"])
    assert "\n" not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()
