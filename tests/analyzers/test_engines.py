"""Where the ranks are read changes nothing: in memory, on disk, in processes, on a Ray cluster."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from perfkit.analyzers import shelf
from perfkit.analyzers.analysis import _survey_one, analyze, encode
from perfkit.analyzers.shelf import InMemory, OnDisk, Shelf, shelf_for
from perfkit.analyzers.survey import Surroundings
from perfkit.errors import InputError, UsageError
from perfkit.trace.model import RankRecord, RankTrace, Run
from perfkit.trace.run import load_rank, open_run

load = partial(load_rank, cache=None)
SETS = ("kineto/torchrec_v100_4ranks_opt4", "own/gloo_ddp4")


@pytest.fixture(params=SETS)
def run(request: pytest.FixtureRequest, shared_traces: Path) -> Run:
    return open_run([shared_traces / request.param])


def test_values_on_a_shelf(tmp_path: Path) -> None:
    assert Shelf().keep("a", [1]) == InMemory([1])
    kept = Shelf(tmp_path).keep("a", [1])
    assert isinstance(kept, OnDisk)
    assert kept.get() == [1]
    with shelf_for(shelf.RANKS_IN_MEMORY) as few, shelf_for(shelf.RANKS_IN_MEMORY + 1) as many:
        assert few.folder is None
        assert many.folder is not None
        folder = many.folder
    assert not folder.exists()


def test_details_on_disk_give_the_same_bytes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encode(analyze(run, load))
    monkeypatch.setattr(shelf, "RANKS_IN_MEMORY", 1)
    assert encode(analyze(run, load)) == expected
    assert encode(analyze(run, load, jobs=2)) == expected


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two nodes of a Ray cluster on this machine."""
    ray = pytest.importorskip("ray", reason="needs ray (the extra of that name)")
    from ray.cluster_utils import Cluster

    os.environ["RAY_DEDUP_LOGS"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    yield
    ray.shutdown()
    made.shutdown()


def node_of(load_one: partial[RankTrace], record: RankRecord) -> RankTrace:
    """Load a rank and say in its node's name on which Ray node that was."""
    from dataclasses import replace

    import ray

    trace = load_one(record)
    return replace(trace, node=str(ray.get_runtime_context().get_node_id()))


@pytest.mark.filterwarnings("ignore")  # of ray, not of ours
@pytest.mark.real
def test_a_cluster_gives_the_same_bytes(cluster: None, run: Run) -> None:
    from perfkit.analyzers.ray_engine import map_on_ray

    expected = encode(analyze(run, load))
    assert encode(analyze(run, load, mapper=map_on_ray)) == expected
    read = partial(_survey_one, partial(node_of, load), Surroundings())
    nodes = {survey.node for survey in map_on_ray(read, run.ranks)}
    assert len(nodes) == 2  # both nodes of the cluster had ranks to read


@pytest.mark.filterwarnings("ignore")
@pytest.mark.real
def test_a_rank_that_cannot_be_read_is_an_issue(cluster: None, run: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    from perfkit.analyzers.ray_engine import map_on_ray

    broken = replace(run.ranks[0], traces=(tmp_path / "gone.json",))
    partly = replace(run, ranks=(broken, *run.ranks[1:]))
    analysis = analyze(partly, load, mapper=map_on_ray)
    assert "TRACE_UNREADABLE" in {issue.code for issue in analysis.quality.issues}
    with pytest.raises(InputError, match=r"gone\.json"):
        analyze(replace(run, ranks=(broken,)), load, mapper=map_on_ray)


def test_without_ray_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from perfkit.analyzers import ray_engine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="ray, which is not installed"):
        ray_engine.start_ray()
