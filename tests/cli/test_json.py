"""What commands write, they name as JSON: every file, each of them there, and nothing else said."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.cli.test_export_scalars import add_stacks
from tests.cli.test_scale import make_run
from tests.trace.folders import add_node, add_rank, add_trace


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    add_node(folder)
    for rank in range(2):
        add_trace(add_rank(folder, rank), 2, 4)
        add_stacks(folder, rank, [{"name": "main", "file": "a.py", "line": 1}] * 2)
    return folder


def printed(perfkit: Call, *arguments: str | Path) -> dict[str, Any]:
    ended = perfkit(*arguments, "--json")
    assert (ended.status, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert document["schema_version"] == 1
    return dict(document)


def files_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def test_a_report_names_its_files(perfkit: Call, run: Path) -> None:
    before = files_in(run)
    told = printed(perfkit, "report", run)
    assert told["written"] == [str(run / "report.html")]
    assert set(told["written"]) == files_in(run) - before - files_in(run / "cache")
    told = printed(perfkit, "report", run, "--redact", "--light")
    assert told["written"] == [str(run / "redacted.html"), str(run / "redacted.json")]


@pytest.mark.parametrize("format", ["perfetto", "parquet", "csv", "speedscope", "tensorboard"])
def test_an_export_names_its_files(perfkit: Call, run: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out" / "export"
    told = printed(perfkit, "export", run, "--format", format, "--out", out)
    assert told["format"] == format
    assert told["ranks"] == [0, 1]
    assert set(told["written"]) == files_in(out.parent)
    assert told["written"]


def test_a_write_up_names_its_files_and_what_is_missing(perfkit: Call, tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", 2, 100.0, 8)
    out = tmp_path / "lab"
    told = printed(perfkit, "writeup", "lab04", base, "--out", out / "lab04.md")
    assert set(told["written"]) == files_in(out)
    assert told["lab"] == "lab04"
    assert told["words"] > told["words_of_analysis"] > 100
    missing = {gap["what"] for gap in told["missing"]}
    assert "rows of the table: + AMP, + Grad Accum, + DataLoader, + All" in missing
    assert all(gap["command"].startswith("perfkit ") for gap in told["missing"])


@pytest.mark.parametrize("what", [(), ("amp-bf16",), ("RUN",)])
def test_recipes_are_one_versioned_document(
    perfkit: Call, run: Path, what: tuple[str, ...]
) -> None:
    ended = perfkit("recipes", *(str(run) if word == "RUN" else word for word in what), "--json")
    document = json.loads(ended.out)
    assert document["schema_version"] == 1
    names = {entry.get("id") or entry["recipe"] for entry in document["recipes"]}
    assert "amp-bf16" in names and (len(names) == 1) == (what == ("amp-bf16",))
