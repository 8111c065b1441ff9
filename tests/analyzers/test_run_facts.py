"""What a report says of the run itself: files that can be told apart, sizes in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.result import RunFacts
from perfkit.trace.model import RankTrace
from perfkit.trace.run import load_rank, open_run
from tests.builder_items import kernel, step
from tests.builders import rank_trace, run_of
from tests.trace.folders import add_node, add_rank, add_trace


def traced(rank: int, source: str) -> RankTrace:
    trace = rank_trace(
        step(0, at_ms=0, ms=10), kernel("gemm", at_ms=1, ms=5), rank=rank, world_size=2
    )
    return replace(trace, sources=(Path(source),))


def facts(*sources: str, path: str | None = None) -> RunFacts:
    run, load = run_of(
        *(traced(rank, source) for rank, source in enumerate(sources)),
        facts={0: {"ddp": {"bucket_cap_bytes": 26214400}}},
    )
    return analyze(replace(run, path=None if path is None else Path(path)), load).run


@pytest.mark.parametrize(
    ("sources", "path", "shown"),
    [
        (("/r/a/t.json", "/r/b/t.json"), "/r", ("a/t.json", "b/t.json")),
        (("/r/a/t.json", "/r/b/t.json"), None, ("a/t.json", "b/t.json")),
        (("/x/rank0.json", "/x/rank1.json"), None, ("rank0.json", "rank1.json")),
        (("/x/one/a/t.json", "/x/two/a/t.json"), "/r", ("one/a/t.json", "two/a/t.json")),
    ],
)
def test_files_of_one_name_are_told_apart(
    sources: tuple[str, ...], path: str | None, shown: tuple[str, ...]
) -> None:
    assert facts(*sources, path=path).sources == shown


def test_a_bucket_has_a_size() -> None:
    assert facts("/a.json", "/b.json").facts["DDP bucket"] == "25 MiB"


@pytest.mark.parametrize(
    ("recorded", "told"),
    [(["amp-bf16", "loader:workers=1"], "amp-bf16, loader:workers=1"), ([], None)],
)
def test_a_run_names_the_recipes_it_was_started_with(
    tmp_path: Path, recorded: list[str], told: str | None
) -> None:
    add_node(tmp_path, recipes=recorded, windows=[[2, 4], [6, 6]])
    for rank in range(2):
        add_trace(add_rank(tmp_path, rank), 2, 4)
    found = analyze(open_run([tmp_path]), lambda record: load_rank(record, cache=None))
    assert found.run.facts.get("recipes") == told
    assert found.run.facts["traced steps"] == "2:4, 6:6"
