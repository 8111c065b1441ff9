"""Where results go, and what `report`, `analyze` and `schema` read and write."""

import json
from pathlib import Path

import msgspec
import pytest

from perfkit.analyzers.analysis import encode
from perfkit.analyzers.result import Analysis
from perfkit.cli import results
from perfkit.errors import InputError, UsageError
from perfkit.trace.model import Run
from tests.cli.conftest import Call
from tests.report.sample import io_bound
from tests.trace.folders import add_node, add_rank, add_trace

RUN = Run(run_id="abc", path=None, ranks=())


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Make an analysis.json of a made-up run."""
    file = tmp_path / "run" / "analysis.json"
    file.parent.mkdir()
    file.write_bytes(encode(io_bound()))
    return file


def test_results_go_where_they_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = tmp_path / "new" / "run"
    assert results.writable(wanted, may_move=True, run=RUN) == wanted
    assert not any(tmp_path.iterdir())
    assert capsys.readouterr().err == ""
    moved = results.writable(Path("/proc/run"), may_move=True, run=RUN)
    assert moved == results.elsewhere(RUN)
    assert moved.parent == tmp_path / "perfkit-runs"
    assert moved.name.startswith("analysis-abc-")
    said = capsys.readouterr().err
    assert "cannot write into /proc/run" in said
    assert f"the results go to {moved}" in said


def test_an_out_that_cannot_be_written_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="cannot write into /proc/run"):
        results.writable(Path("/proc/run"), may_move=False, run=RUN)


def test_files_are_written_whole(tmp_path: Path) -> None:
    results.write(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"
    (tmp_path / "folder" / "in").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write"):
        results.write(tmp_path / "folder", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_report_of_a_run_folder_and_of_an_analysis(perfkit: Call, recorded: Path) -> None:
    page = recorded.with_name("report.html")
    ended = perfkit("report", recorded.parent)
    assert (ended.status, ended.out) == (0, f"{page}\n")
    first = page.read_text()
    assert "</html>" in first
    assert ended.err == f"Next: open {page} in a browser\n"
    elsewhere = recorded.parents[1] / "page.html"
    assert perfkit("report", recorded, "--out", elsewhere).out == f"{elsewhere}\n"
    assert elsewhere.read_text() == first


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "neither a run folder nor an analysis.json"),
        (b"{}", "neither a run folder nor an analysis.json"),
        (b"\x1f\x8b\x00", "neither a run folder nor an analysis.json"),
        (b"42", "analysis.json: JSON that holds nothing but a number;"),
        (b"[1]", "analysis.json: JSON that holds nothing but a list;"),
        (b"\x89PNG\r\n", "analysis.json: a PNG picture;"),
        (b'{"points": [], "fits": []}', "analysis.json: a result of perfkit scale;"),
        (b'{"verdict": {}, "budget": {}}', "not an analysis of this version of perfkit"),
    ],
)
def test_report_of_something_else(perfkit: Call, tmp_path: Path, content: bytes, says: str) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(content)
    ended = perfkit("report", other)
    assert (ended.status, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert says in ended.err


@pytest.mark.parametrize(("folder", "name"), [("lab/amp-run1", "amp-run1"), ("lab/run", "lab/run")])
def test_a_page_is_called_as_its_run_folder(
    perfkit: Call, tmp_path: Path, folder: str, name: str
) -> None:
    run = tmp_path / folder
    add_node(run)
    for rank in range(2):
        add_trace(add_rank(run, rank), 2, 4)
    assert perfkit("analyze", run).status == 0
    assert f"<title>{name} · perfkit</title>" in (run / "report.html").read_text()
    assert perfkit("report", run, "--light").status == 0
    assert f"<title>{name} · perfkit</title>" in (run / "report.html").read_text()
    assert perfkit("report", run, "--light", "--redact").status == 0
    assert f"<title>{name}" not in (run / "redacted.html").read_text()


def test_report_of_nothing(perfkit: Call, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        ended = perfkit("report", path)
        assert (ended.status, ended.out, ended.err.count("\n")) == (3, "", 1)
        assert str(path) in ended.err


def test_an_analysis_of_another_release_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "analysis.json").write_text('{"schema_version": 0}')
    with pytest.raises(InputError, match=tmp_path.name):  # the folder is opened, and holds no run
        results.recall(tmp_path)


def test_schema_describes_the_analysis(perfkit: Call) -> None:
    ended = perfkit("schema")
    assert ended.status == 0
    described = json.loads(ended.out)["$defs"]["Analysis"]
    names = {field.encode_name for field in msgspec.structs.fields(Analysis)}
    assert set(described["properties"]) == names
    written = json.loads(encode(io_bound()))
    assert set(described["required"]) <= set(written) <= names


@pytest.mark.parametrize("arguments", [["nowhere"], ["empty"], ["a.json"], ["a.json", "nowhere"]])
def test_analyze_of_what_cannot_be_used(
    perfkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.json").write_text("not a trace")
    before = sorted(tmp_path.rglob("*"))
    ended = perfkit("analyze", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert ended.err.startswith("perfkit: ")
    assert sorted(tmp_path.rglob("*")) == before
