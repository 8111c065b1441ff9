"""Every golden value of the reference that the analyzers use, by its name: none is left out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfkit.analyzers import replay_edit as edit
from perfkit.analyzers.alphabeta import AlphaBetaFit, Observation, fit_alpha_beta
from perfkit.analyzers.critical_path import critical_path
from perfkit.analyzers.efficiency import EfficiencyTree, efficiency_tree
from perfkit.analyzers.straggler_whatif import slow_down
from perfkit.roofline import collective_cost as cc
from perfkit.roofline import volumes
from perfkit.roofline.collective_cost import Link
from perfkit.roofline.nccl_tuner import LINK_PROFILES, profile_saturation_bytes
from perfkit.roofline.pipeline import PassTimes, Shape, bubble, in_flight
from perfkit.roofline.schedule_simulation import orders, play
from tests.models import test_alphabeta, test_collective_cost
from tests.models.test_replay import (
    BASE,
    COMM,
    GRAPH,
    PLAN,
    half_precision,
    no_stragglers,
    one_bucket,
)

Found = dict[str, Any]
ELSEWHERE = ("attribution", "busbw")
"""tests/analyzers/test_goldens.py goes through all of these."""
NAMES = ("HIN", "L", "F", "B1", "AR1", "B2", "AR2", "O")
MET = {"AR2_0": "AR2_1", "O_0": "O_1"}
"""Both ranks meet in the last all-reduce and end together: either way on is the critical one."""
TASKS = [MET.get(f"{name}_{rank}", f"{name}_{rank}") for rank in (0, 1) for name in NAMES]


@pytest.fixture(scope="module")
def goldens(shared_traces: Path) -> dict[str, list[dict[str, Any]]]:
    text = (shared_traces.parent / "reference" / "models_golden.json").read_text()
    return dict(json.loads(text))


def pop() -> Iterator[tuple[str, Found]]:
    def tree(**more: Any) -> EfficiencyTree:
        found = efficiency_tree([68, 80], 100, **more)
        assert isinstance(found, EfficiencyTree)
        return found

    plain, split = tree(), tree(ideal_network_s=90)
    full = tree(host_s=[5, 10], io_s=[17, 5])
    product = full.load_balance * full.orchestration * full.io * full.communication
    yield (
        "two ranks u=[68,80], T=100",
        {"LB": plain.load_balance, "CommE": plain.communication, "PE": plain.parallel},
    )
    yield (
        "serialisation/transfer with T_ideal=90",
        {"SerE": split.serialisation, "TrE": split.transfer, "CommE": split.communication},
    )
    factors = {"LB": full.load_balance, "OrchE": full.orchestration, "IOE": full.io}
    yield "telescoping u,h,o", {**factors, "CommE": full.communication, "product": product}


def collectives() -> Iterator[tuple[str, float]]:
    size, link = test_collective_cost.SIZE, test_collective_cost.LINK
    wire, nvlink = test_collective_cost.WIRE, test_collective_cost.NVLINK
    free = Link(alpha_s=0, bandwidth_byte_per_s=50e9)
    costs = {
        "ring_8": cc.ring_s("all_reduce", size, 8, link),
        "rhd_8": cc.halving_doubling_all_reduce_s(size, 8, link),
        "tree_8": cc.binomial_tree_all_reduce_s(size, 8, link),
        "ag_8": cc.ring_s("all_gather", size, 8, link),
        "hier_8x4": cc.hierarchical_all_reduce_s(size, 8, 4, nvlink, wire),
        "flat_32_at50": cc.ring_s("all_reduce", size, 32, wire),
    }
    for name, seconds in costs.items():
        yield f"{name} seconds, S=100MiB", seconds
    yield (
        "MLSysBook example 1GB, 8 GPUs, 50GB/s, alpha=0",
        cc.ring_s("all_reduce", 1e9, 8, free),
    )


def alphabeta() -> Iterator[tuple[str, Found | float]]:
    def fitted(rows: list[Observation]) -> AlphaBetaFit:
        found = fit_alpha_beta(rows, seed=1, draws=20)
        assert isinstance(found, AlphaBetaFit) and found.alpha_s is not None
        return found

    link = Link(alpha_s=4e-6, bandwidth_byte_per_s=150e9)
    made = fitted([_seen(8, 10**i, cc.ring_s("all_reduce", 10**i, 8, link)) for i in range(4, 10)])
    sizes = [(32768 << i, gb * 1e9) for i, gb in enumerate(test_alphabeta.TABLE)]
    table = fitted([_seen(32, size, size / speed) for size, speed in sizes])
    yield (
        "stas00 all_reduce table n=32 Huber-IRLS relative NNLS",
        {**_line(table), "medrel": table.median_relative_residual},
    )
    yield "synthetic n=8 alpha=4us B=150GB/s", _line(made)
    yield (
        "S_half for ring AR n=8 alpha=4us B=150GB/s (busbw = B/2)",
        cc.saturation_bytes("all_reduce", 8, link, efficiency=0.5),
    )
    yield (
        "S_.9 ring AR n=8 alpha=4us B=150e9",
        cc.saturation_bytes("all_reduce", 8, link, efficiency=0.9),
    )
    yield (
        "inductor H100 n=8 AR min saturation 0.9",
        profile_saturation_bytes(LINK_PROFILES["NVLINK_H100"], "all_reduce", 8),
    )


def _seen(ranks: int, size: int, seconds: float) -> Observation:
    return Observation(op="all_reduce", ranks=ranks, size_bytes=size, transfer_s=seconds)


def _line(fit: AlphaBetaFit) -> Found:
    alpha = fit.alpha_s or 0.0
    return {"alpha_us": alpha * 1e6, "B_GBs": fit.bandwidth_byte_per_s / 1e9}


def straggler(inputs: dict[str, Found]) -> Iterator[tuple[str, Found]]:
    for name, given in inputs.items():
        ratio, waste = slow_down(given["T_nodelay"], given["T_ideal"])
        yield name, {"S": ratio, "waste": waste}


def replay() -> Iterator[tuple[str, Found | float]]:
    path = critical_path(PLAN, BASE)
    baseline = {"T": BASE.makespan_ns, "cp": [TASKS[t] for t in path.tasks], "share": path.shares}
    yield "baseline", baseline
    changes = {
        "network x2": edit.scaled(GRAPH, PLAN.unchanged, COMM, 0.5),
        "no input stall": edit.scaled(GRAPH, PLAN.unchanged, {"input"}, 0),
        "AMP fwd/bwd x0.5": half_precision(),
        "perfect overlap (comm=0)": edit.scaled(GRAPH, PLAN.unchanged, COMM, 0),
        "no stragglers (mean)": no_stragglers(),
        "launch=0": edit.scaled(GRAPH, PLAN.unchanged, {"host"}, 0),
        "one bucket 22ms": one_bucket(),
    }
    for name, work in changes.items():
        fresh = PLAN.run(work).makespan_ns
        yield name, {"T": fresh, "speedup": 78 / fresh, "gain": 1 - fresh / 78}
    for kind in ("compute", "comm", "input", "host"):
        moved = PLAN.run(edit.scaled(GRAPH, PLAN.unchanged, {kind}, 1 + 1e-6)).makespan_ns
        yield f"elasticity {kind}", (moved / 78 - 1) / 1e-6


CASE = re.compile(r"(GPipe|1F1B|interleaved)(?: v=(\d))? p=(\d) m=(\d+) tf=1 tb=(\d)")


def pipeline(names: list[str]) -> Iterator[tuple[str, Found]]:
    for name in names:
        if found := CASE.fullmatch(name):
            schedule, chunks, p, m, backward = found.groups()
            shape = Shape(stages=int(p), micro_batches=int(m), chunks=int(chunks or 1))
            times = PassTimes(forward_s=1, backward_s=float(backward))
            whole = bubble(schedule.lower(), shape, times)
            span = play(orders(schedule.lower(), shape), [times] * int(p), shape).makespan_s
            shares = {"bubble_over_ideal": whole.over_ideal, "bubble_over_total": whole.over_total}
            yield name, {"T": span, **shares, "formula": whole.over_ideal}
    small, pairs = Shape(stages=4, micro_batches=8), Shape(stages=4, micro_batches=8, chunks=2)
    held = {"gpipe": in_flight("gpipe", small), "f1b1": in_flight("1f1b", small)}
    held["interleaved_v2_chunks"] = in_flight("interleaved", pairs)
    yield "max in-flight microbatches p=4 m=8", {k: list(v) for k, v in held.items()}
    even = PassTimes(forward_s=1, backward_s=2, weight_s=1)
    short, full = (bubble(s, small, even).bubble_s for s in ("zb-h1", "1f1b"))
    yield (
        "ZB-H1 TF=TB=TW=1 p=4",
        {"bubble_formula": short, "f1b1_bubble": full, "ratio": short / full},
    )
    uneven = PassTimes(forward_s=1, backward_s=2, weight_s=0.8)
    played = play(orders("zb-h1", small), [uneven] * 4, small)
    yield (
        "ZB-H1 simulated p=4 m=8 (1,1.2,.8)",
        {
            "bubble": played.idle_s[0],
            "f1b1": bubble("1f1b", small, uneven).bubble_s,
            "inflight": list(played.in_flight),
        },
    )


def zero() -> Iterator[tuple[str, Found]]:
    for ranks in (8, 64):
        moved = {f"z{stage}": volumes.zero_bytes(stage, 14e9, ranks) for stage in (1, 2, 3)}
        ddp = volumes.data_parallel_bytes(14e9, ranks)
        yield f"per-rank bus bytes per step, Psi=7e9 b=2 n={ranks}", {"ddp": ddp, **moved}
    held = [volumes.model_state_bytes(7.5e9, 64, stage=stage) / 1e9 for stage in range(4)]
    names = ("ddp", "z1", "z2", "z3")
    yield "memory GB 7.5B params Nd=64", dict(zip(names, held, strict=True))


def computed(goldens: dict[str, list[dict[str, Any]]]) -> dict[str, Found]:
    """What perfkit makes of every published case: section to name to value."""
    return {
        "pop": dict(pop()),
        "collectives": dict(collectives()),
        "alphabeta": dict(alphabeta()),
        "straggler": dict(straggler({c["name"]: c["input"] for c in goldens["straggler"]})),
        "replay": dict(replay()),
        "pipeline": dict(pipeline([c["name"] for c in goldens["pipeline"]])),
        "zero": dict(zero()),
    }


def test_every_published_value_is_met_and_none_is_left_out(
    goldens: dict[str, list[dict[str, Any]]],
) -> None:
    found = computed(goldens)
    assert not set(ELSEWHERE) & set(found)
    for section, values in found.items():
        published = {case["name"]: case["expected"] for case in goldens[section]}
        assert set(values) == set(published), section
        for name, expected in published.items():
            got = values[name]
            if isinstance(expected, dict):
                got = {key: got[key] for key in expected}
                for key, own in expected.items():
                    assert got[key] == _about(own), (section, name, key)
            else:
                assert got == _about(expected), (section, name)


def _about(expected: Any) -> Any:
    """As published: shares have four digits, the rest at least five."""
    if isinstance(expected, list):
        return expected
    return pytest.approx(expected, rel=1e-4, abs=5e-5 if _is_share(expected) else None)


def _is_share(expected: Any) -> bool:
    return isinstance(expected, dict) or abs(expected) < 1
