"""The rules that run inside a rank, one by one and without launching anything."""

from __future__ import annotations

import ast
import gc
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from perfkit.profiler.inrank import activation, capture, flight, identity, inputs, regions, secrets
from perfkit.profiler.inrank import optimizers as in_optimizers
from perfkit.profiler.inrank.capture import Capture, Detail
from perfkit.profiler.inrank.tally import MIN_GC_NS, Tally, tally
from perfkit.profiler.launch import ProfileOptions

INRANK = Path(capture.__file__).parent
ALLOWED = {"torch", *sys.stdlib_module_names}


# Files


@pytest.mark.parametrize("path", sorted(INRANK.rglob("*.py")), ids=lambda path: path.name)
def test_in_rank_code_is_python_39_and_imports_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = set()
    for element in ast.walk(tree):
        if isinstance(element, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in element.names}
        elif isinstance(element, ast.ImportFrom) and element.level == 0:
            imported.add(str(element.module).partition(".")[0])
    assert imported - ALLOWED - {"sitecustomize"} == set()


# Evaluation


@pytest.fixture
def fresh() -> Tally:
    begun = Tally()
    begun.begin(1)
    return begun


def test_switching_to_eval_and_back_is_an_evaluation(fresh: Tally) -> None:
    fresh.module_switched(training=False)
    fresh.module_switched(training=True)
    fresh.backward_begins()
    assert fresh.has_eval


def test_training_in_eval_mode_is_no_evaluation(fresh: Tally) -> None:
    """Frozen batch norm: the model is switched to eval mode and trained in it."""
    fresh.module_switched(training=True)
    fresh.module_switched(training=False)
    fresh.backward_begins()
    assert not fresh.has_eval
    assert not fresh.eval_candidate


def test_an_evaluation_after_the_last_backward_is_still_open_at_the_boundary(fresh: Tally) -> None:
    fresh.backward_begins()
    fresh.module_switched(training=False)
    assert fresh.eval_candidate


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(16, 3), (16, 0)),
        (torch.zeros(16, 3, dtype=torch.int64), (16, 48)),
        (torch.zeros(16, 3, dtype=torch.bool), (16, 0)),
        ((torch.zeros(8, 4, dtype=torch.int32), torch.zeros(8)), (8, 32)),
        ([torch.zeros(8, 3, 4, 4), torch.zeros(8, dtype=torch.int64)], (8, 0)),
        ({"name": ["a", "b"], "input_ids": torch.zeros(2, 5, dtype=torch.int64)}, (2, 10)),
        (torch.tensor(3), (0, 0)),
        ("text", (0, 0)),
        (None, (0, 0)),
        ([[[[torch.zeros(2)]]]], (0, 0)),
    ],
)
def test_samples_and_tokens_of_a_batch(batch: object, size: tuple[int, int]) -> None:
    assert inputs.size_of(batch) == size


# Regions and collections


@pytest.fixture
def training() -> Iterator[Tally]:
    tally.__init__()  # type: ignore[misc]
    tally.begin(1)
    yield tally
    tally.__init__()  # type: ignore[misc]


class Clock:
    """A clock that goes on when it is told to."""

    now_ns = 1

    def perf_counter_ns(self) -> int:
        return self.now_ns


def test_a_region_counts_once_even_around_another(
    training: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(regions, "time", clock)
    with regions.Region("data"):
        clock.now_ns += 20
        with regions.Region("checkpoint"):
            clock.now_ns += 30
    with regions.Region("checkpoint"):
        clock.now_ns += 7
    with regions.Region("forward"):
        clock.now_ns += 1000
    assert (training.input_ns, training.checkpoint_ns) == (50, 7)
    assert training.depth == 0


def test_a_region_that_raises_is_closed(training: Tally) -> None:
    with pytest.raises(ValueError, match="theirs"), regions.Region("data"):
        raise ValueError("theirs")
    assert training.depth == 0
    assert training.input_ns > 0


def test_only_collections_that_matter_are_recorded(
    training: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfkit.profiler.inrank import pauses

    clock = Clock()
    monkeypatch.setattr(pauses, "time", clock)
    listening = pauses.Pauses()
    for took_ns in (MIN_GC_NS - 1, MIN_GC_NS, 10**6):
        listening.on_gc("start", {})
        clock.now_ns += took_ns
        listening.on_gc("stop", {})
    assert training.gc == [(MIN_GC_NS, MIN_GC_NS), (2 * MIN_GC_NS, 10**6)]
    assert gc.isenabled()


# The anchor


class Recorder:
    """Stands in for a rank: remembers the boundaries."""

    def __init__(self) -> None:
        self.source = "optimizer"
        self.step = 0

    def boundary(self, source: str) -> None:
        self.step += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    rank = Recorder()
    monkeypatch.setattr(activation, "activate", lambda evidence: rank)
    monkeypatch.setattr(in_optimizers.Anchor, "_describe", lambda self, optimizer: None)
    return rank


def _optimizer() -> SimpleNamespace:
    class Weak(SimpleNamespace):
        __hash__ = object.__hash__  # type: ignore[assignment]

    return Weak()


def test_only_the_first_optimizer_ends_steps(recorder: Recorder) -> None:
    anchor, first, second = in_optimizers.Anchor(), _optimizer(), _optimizer()
    for _ in range(5):
        anchor.stepped(first)
        for _ in range(5):
            anchor.stepped(second)
    assert recorder.step == 5


def test_an_abandoned_or_deleted_anchor_is_replaced(recorder: Recorder) -> None:
    anchor, first, second = in_optimizers.Anchor(), _optimizer(), _optimizer()
    anchor.stepped(first)
    for _ in range(in_optimizers.ABANDONED_AFTER + 3):
        anchor.stepped(second)
    assert recorder.step == 1 + 4
    del second
    gc.collect()
    anchor.stepped(_optimizer())
    assert recorder.step == 6


# The flight recorder


def _entry(number: int, created: int) -> dict[str, Any]:
    return {
        "record_id": number,
        "process_group": ("0", "default_pg"),
        "collective_seq_id": number + 1,
        "p2p_seq_id": 0,
        "op_id": number + 1,
        "profiling_name": "gloo:all_reduce",
        "time_created_ns": created,
        "input_sizes": [[10]],
        "input_dtypes": ["BFloat16"],
        "output_sizes": [[10]],
        "time_discovered_started_ns": None,
        "time_discovered_completed_ns": None,
        "is_p2p": False,
    }


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    dump = lambda *asked: pickle.dumps({"entries": entries})  # noqa: E731
    monkeypatch.setattr(flight, "find_dump", lambda: dump)
    return entries


def test_collectives_are_written_once_with_their_step(
    tmp_path: Path, ring: list[dict[str, Any]]
) -> None:
    warnings: list[str] = []
    recorder = flight.FlightRecorder(str(tmp_path), 0, warnings.append)
    ring.append(_entry(0, created=50))
    recorder.mark(step=4)
    ring += [_entry(1, created=110), _entry(2, created=210)]
    recorder.collect([100, 200], 4)
    ring.append(_entry(3, created=310))
    recorder.collect([100, 200, 300], 4)
    lines = [json.loads(x) for x in (tmp_path / "collectives.jsonl").read_text().splitlines()]
    assert lines[0]["k"] == "header"
    assert [(line["seq"], line["step"]) for line in lines[1:]] == [(2, 4), (3, 5), (4, 6)]
    assert lines[1]["dtypes"] == ["bfloat16"]
    assert lines[1]["op"] == "all_reduce"
    assert warnings == []


def test_a_ring_that_overran_is_reported(tmp_path: Path, ring: list[dict[str, Any]]) -> None:
    warnings: list[str] = []
    recorder = flight.FlightRecorder(str(tmp_path), 0, warnings.append)
    ring.append(_entry(0, created=50))
    recorder.mark(step=4)
    ring[:] = [_entry(9, created=110)]
    recorder.collect([100], 4)
    assert warnings == ["flight recorder overran: 8 collectives of the window are missing"]


def test_the_ring_is_read_before_it_overruns(tmp_path: Path, ring: list[dict[str, Any]]) -> None:
    recorder = flight.FlightRecorder(str(tmp_path), 0, lambda text: None)
    ring.append(_entry(999, created=50))  # a hundred collectives a step
    recorder.mark(step=10)
    assert recorder.reach == int(0.7 * 2000 / 100)
    assert recorder.next_read == 10 + recorder.reach


# The request, the secrets, the names


def test_a_request_travels_through_the_environment() -> None:
    detail = Detail(with_stack=True, max_bytes=10)
    request = Capture("/run", "id", "node", ((1, 2), (5, 9)), (0, 3), detail)
    assert capture.read(request.environment()) == request
    assert capture.read({}) is None
    assert request.traces(3, 4, None) and not request.traces(1, 4, 0)


@pytest.mark.parametrize(
    ("spec", "world", "traced"),
    [
        (None, 64, set(range(64))),
        (None, 96, {0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 95}),
        ("all", 96, set(range(96))),
        ("one-per-node", 24, {0, 8, 16}),
        ((3, 5), 96, {3, 5}),
    ],
)
def test_which_ranks_are_traced(spec: capture.Spec, world: int, traced: set[int]) -> None:
    """Eight ranks a node."""
    request = Capture("/run", "id", "node", ((1, 2),), spec)
    assert capture.read(request.environment()) == request
    assert {rank for rank in range(world) if request.traces(rank, world, rank % 8)} == traced


def test_windows_are_sorted_and_joined() -> None:
    options = ProfileOptions(windows=((20, 29), (5, 9), (8, 12), (13, 14)))
    assert options.windows_to_trace() == ((5, 14), (20, 29))
    assert ProfileOptions().windows_to_trace() == ((10, 19),)
    assert ProfileOptions(trace=False).windows_to_trace() == ()


def test_the_environment_is_recorded_through_an_allow_list() -> None:
    recorded = secrets.allowed_environment(
        {
            "NCCL_DEBUG": "INFO",
            "TORCH_HUB_TOKEN": "abc",
            "SLURM_JWT": "abc",
            "HOME": "/root",
            "AWS_SECRET_ACCESS_KEY": "abc",
            "TORCH_HOME": "https://me:pw@host/x",
            "TOKENIZERS_PARALLELISM": "true",
        }
    )
    assert recorded == {
        "NCCL_DEBUG": "INFO",
        "SLURM_JWT": "***",
        "TOKENIZERS_PARALLELISM": "true",
        "TORCH_HOME": "https://***@host/x",
        "TORCH_HUB_TOKEN": "***",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--token", "abc", "--lr", "1"], ["--token", "***", "--lr", "1"]),
        (["--api-key=abc", "HF_TOKEN=abc"], ["--api-key=***", "HF_TOKEN=***"]),
        (["--max-tokens", "4096"], ["--max-tokens", "4096"]),
        (["hf_abcdefghijklmnopqrstuv"], ["***"]),
        (["s3://key:secret@bucket/data"], ["s3://***@bucket/data"]),
        (["train.py", "--tokenizer", "bpe"], ["train.py", "--tokenizer", "bpe"]),
    ],
)
def test_a_command_line_is_shown_without_secrets(given: list[str], shown: list[str]) -> None:
    assert secrets.redact_arguments(given) == shown


def test_a_node_has_the_launchers_number_or_host_and_namespace() -> None:
    assert identity.node_name({"GROUP_RANK": "3"}) == "3"
    assert identity.node_name({"GROUP_RANK": "../x"}) == identity.node_name({})
    assert identity.node_name({}).endswith(f"-{identity.network_namespace()}")
