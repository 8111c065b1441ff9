"""Which parallelism a run uses, told from what its groups exchange in which pass."""

from functools import partial
from pathlib import Path

import pytest

from perfkit.roofline.ceilings import Roofs
from perfkit.roofline.closed_form import HIDDEN, TOKENS, WORK, closed_forms
from perfkit.roofline.configuration import Configuration
from perfkit.roofline.network import (
    Sharding,
    critical_tokens,
    tensor_parallel_critical_hidden,
    tensor_parallel_intensity,
)
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.parallel import Parallelism, parallelism_of
from perfkit.roofline.place import place
from perfkit.roofline.step import StepRoofline, step_roofline
from perfkit.roofline.traffic import Exchange, GroupTraffic, Phase
from perfkit.trace import run as run_folder
from tests.builders import op, rank_trace, step
from tests.roofline.machines import ceilings
from tests.roofline.shapes import shape

FORWARD, BACKWARD, AFTER, UNKNOWN = Phase.FORWARD, Phase.BACKWARD, Phase.AFTER, Phase.UNKNOWN
Exchanged = tuple[str, Phase, float]  # operation, pass, elements


def group(*exchanged: Exchanged, ranks: int = 8, nodes: int | None = 1) -> GroupTraffic:
    return GroupTraffic(
        group="0",
        ranks=tuple(range(ranks)),
        nodes=nodes,
        exchanges=tuple(
            Exchange(collective=name, phase=phase, calls=1, size_bytes=2 * n, elements=n)
            for name, phase, n in exchanged
        ),
    )


def kind_of(*exchanged: Exchanged, ddp: bool = False) -> str:
    (found,) = parallelism_of([group(*exchanged)], ddp=ddp)
    assert found.because
    return found.kind


@pytest.mark.parametrize(
    ("exchanged", "kind"),
    [
        ([("all_reduce", BACKWARD, 9), ("broadcast", FORWARD, 1)], "ddp"),
        ([("all_reduce", BACKWARD, 99), ("all_reduce", AFTER, 1)], "ddp"),  # a metric besides
        ([("all_reduce", BACKWARD, 99), ("all_reduce", FORWARD, 1)], "ddp"),  # synchronised norms
        (
            [
                ("all_gather", FORWARD, 9),
                ("all_gather", BACKWARD, 9),
                ("reduce_scatter", BACKWARD, 9),
            ],
            "fsdp",
        ),
        (  # as gloo carries it out
            [("all_gather", FORWARD, 9), ("all_gather", BACKWARD, 9), ("all_reduce", BACKWARD, 9)],
            "fsdp",
        ),
        ([("all_gather", FORWARD, 9), ("all_reduce", BACKWARD, 9)], "ddp"),
        ([("all_gather", AFTER, 9), ("reduce_scatter", BACKWARD, 9)], "zero"),
        ([("all_gather", FORWARD, 9), ("reduce_scatter", BACKWARD, 9)], "zero"),
        ([("all_gather", UNKNOWN, 18), ("reduce_scatter", UNKNOWN, 9)], "fsdp"),
        ([("all_gather", UNKNOWN, 9), ("reduce_scatter", UNKNOWN, 9)], "zero"),
        ([("all_reduce", FORWARD, 9), ("all_reduce", BACKWARD, 9)], "tensor"),
        (
            [
                ("all_gather", FORWARD, 9),
                ("reduce_scatter", FORWARD, 9),
                ("all_gather", BACKWARD, 9),
                ("reduce_scatter", BACKWARD, 9),
            ],
            "tensor",
        ),
        ([("all_reduce", UNKNOWN, 9)], ""),
        ([("all_reduce", FORWARD, 9)], ""),
        ([("all_reduce", AFTER, 9)], ""),
        ([("all_to_all", FORWARD, 9), ("all_to_all", BACKWARD, 9)], ""),
    ],
)
def test_each_pattern_is_told_apart(exchanged: list[Exchanged], kind: str) -> None:
    assert kind_of(*exchanged) == kind


def test_ddp_that_is_known_to_wrap_the_model_needs_no_passes() -> None:
    assert kind_of(("all_reduce", UNKNOWN, 9), ddp=True) == "ddp"
    assert kind_of(("all_reduce", FORWARD, 9), ("all_reduce", BACKWARD, 9), ddp=True) == "tensor"


@pytest.mark.parametrize(
    ("capture", "kind", "parameters"),
    [
        ("tracelens/mi300_ddp_resnet.json.gz", "ddp", 11_689_512),  # ResNet-18, published size
        ("kineto/hta_nccl_metadata.json.gz", "ddp", 25_557_032),  # ResNet-50, published size
        ("kineto/nanogpt_h100_8ranks", "zero", None),
        ("own/gloo_ddp4", "", None),
    ],
)
def test_real_runs(shared_traces: Path, capture: str, kind: str, parameters: int | None) -> None:
    opened = run_folder.open_run([shared_traces / capture])
    found = roofline_of(opened, partial(run_folder.load_rank, cache=None), None)
    (told,) = found.parallelism
    assert told.kind == kind
    if parameters is not None:
        assert told.elements == parameters
    claims = {entry.claim for entry in found.cannot_tell}
    assert any("what parallelism" in claim for claim in claims) == (not kind)


def one_step() -> StepRoofline:
    cube = shape([(1000, 1000), (1000, 1000)], ["float", "float"])  # 2 GFLOP
    trace = rank_trace(
        step(0, at_ms=0, ms=10),
        op("aten::mm", at_ms=0, ms=10, shape=cube),
        world_size=8,
        device_kind="cpu",
    )
    roofs = Roofs(ceilings())
    return step_roofline(trace, place(trace, roofs), roofs, {})


def parallel(kind: str, *, ranks: int, nodes: int, elements: float = 1e6) -> Parallelism:
    return Parallelism(
        kind=kind,
        group="0",
        ranks=ranks,
        nodes=nodes,
        item_bytes=2,
        elements=elements,
        because="made up",
    )


@pytest.mark.parametrize("sharding", list(Sharding))
def test_critical_tokens_and_what_more_ranks_do_to_them(sharding: Sharding) -> None:
    configuration = Configuration(
        parameters=1e6,
        tokens_per_rank=100,
        parallelism=(parallel(sharding.value, ranks=8, nodes=8),),
    )
    roofs = Roofs(ceilings(network={2: 1e9}))
    (form,) = closed_forms([one_step()], configuration, roofs, None)
    assert (form.quantity, form.now, form.level) == (TOKENS, 100, "inter-node")
    assert form.ridge_flop_per_byte == pytest.approx(1000)
    assert form.critical == pytest.approx(critical_tokens(sharding, 1000, 8, 2))
    assert form.critical_doubled == pytest.approx(critical_tokens(sharding, 1000, 16, 2))
    assert form.limit == pytest.approx(critical_tokens(sharding, 1000, 10**9, 2))
    curve = dict(form.curve)
    assert curve[64] == pytest.approx(critical_tokens(sharding, 1000, 64, 2))


def test_every_synchronisation_of_a_step_counts() -> None:
    """Four micro-batches that each reduce all gradients send four times as much per step."""
    group_of_four = parallel("ddp", ranks=8, nodes=8, elements=4e6)
    configuration = Configuration(parameters=1e6, tokens_per_rank=100, parallelism=(group_of_four,))
    (form,) = closed_forms([one_step()], configuration, Roofs(ceilings(network={2: 1e9})), None)
    assert form.critical == pytest.approx(4 * critical_tokens(Sharding.DDP, 1000, 8, 2))


def test_ranks_of_a_node_share_what_leaves_it() -> None:
    configuration = Configuration(parallelism=(parallel("ddp", ranks=16, nodes=2),))
    roofs = Roofs(ceilings(network={1: 10e9, 2: 1e9}))
    inside, between = closed_forms([one_step()], configuration, roofs, None)
    sent = 2 * 15 / 16 * 1e6 * 2
    assert (inside.quantity, inside.now) == (WORK, 1)
    assert inside.critical == pytest.approx(100 * sent * 7 / 8 / 2e9)
    assert between.critical == pytest.approx(1000 * sent / 8 / 2e9)


def test_a_group_inside_a_node_is_shown_what_more_nodes_would_do() -> None:
    configuration = Configuration(parallelism=(parallel("ddp", ranks=8, nodes=1),))
    roofs = Roofs(ceilings(network={1: 10e9, 2: 1e9}))
    _, between = closed_forms([one_step()], configuration, roofs, None)
    assert between.critical is None
    assert between.critical_doubled == pytest.approx(1000 * (2 * 15 / 16 * 2e6 / 8) / 2e9)
    assert min(n for n, _ in between.curve) == 16


def test_tensor_parallelism_needs_a_hidden_size_not_a_batch() -> None:
    configuration = Configuration(parallelism=(parallel("tensor", ranks=4, nodes=1),))
    roofs = Roofs(ceilings(network={1: 10e9}))
    (form,) = closed_forms([one_step()], configuration, roofs, 4096)
    assert (form.quantity, form.now, form.limit) == (HIDDEN, 4096, None)
    assert form.critical == pytest.approx(tensor_parallel_critical_hidden(100, 4, 2))
    assert form.critical is not None
    assert tensor_parallel_intensity(round(form.critical), 4, 2) == pytest.approx(100, rel=0.02)
    assert closed_forms([one_step()], configuration, roofs, None) == ()
    assert closed_forms([one_step()], configuration, Roofs(ceilings()), 4096) == ()
