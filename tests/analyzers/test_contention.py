"""How much slower compute runs beside a transfer, from work that was seen in both ways."""

import pytest

from perfkit.analyzers.contention import Contention, beside_of, join_beside
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.scaling import Question, scale
from perfkit.analyzers.scaling_losses import causes_ms
from perfkit.trace.model import RankTrace
from tests.analyzers.scaling_series import measured
from tests.builder_items import gloo, kernel, nccl, op, step
from tests.builders import rank_trace

ALONE_MS, BESIDE_MS = 2.0, 3.0


def cpu(beside_ms: float = BESIDE_MS, *, count: int = 4) -> RankTrace:
    """One step: operators alone, then the same beside an all-reduce; each has a parent."""
    items = [op("parent", at_ms=0.0, ms=99.0)]
    items += [op("aten::mm", at_ms=1 + 4 * k, ms=ALONE_MS) for k in range(count)]
    items += [op("aten::mm", at_ms=40 + 4 * k, ms=beside_ms) for k in range(count)]
    items += [op("aten::relu", at_ms=80.0, ms=5.0)]  # never beside one: compared with nothing
    transfer = gloo("all_reduce", at_ms=39.0, ms=4.0 * count + 2)
    return rank_trace(*items, transfer, step(0, at_ms=0.0, ms=100.0), device_kind="cpu")


def test_the_same_work_is_compared_with_itself() -> None:
    found = join_beside([beside_of(cpu())])
    assert found is not None
    assert found.factor == pytest.approx(BESIDE_MS / ALONE_MS - 1)
    # four operators of 3 ms lie beside the transfer; a third of their time is contention
    assert found.ms_per_step == pytest.approx(4 * (BESIDE_MS - ALONE_MS))


def test_on_a_device_kernels_are_compared() -> None:
    items = [kernel("gemm", at_ms=1 + 4 * k, ms=ALONE_MS) for k in range(4)]
    items += [kernel("gemm", at_ms=40 + 4 * k, ms=2.4) for k in range(4)]
    transfer = nccl("all_reduce", at_ms=39.0, ms=20.0)
    trace = rank_trace(*items, transfer, step(0, at_ms=0.0, ms=100.0))
    found = join_beside([beside_of(trace)])
    assert found is not None
    assert found.factor == pytest.approx(0.2)
    assert found.ms_per_step == pytest.approx(4 * 0.4)


def test_no_slow_down_costs_nothing() -> None:
    found = join_beside([beside_of(cpu(beside_ms=1.8))])
    assert found is not None
    assert found.factor == pytest.approx(-0.1)
    assert found.ms_per_step == 0.0


def test_too_little_work_in_both_ways_tells_nothing() -> None:
    assert join_beside([beside_of(cpu(count=2))]) is None
    silent = rank_trace(op("aten::mm", at_ms=1, ms=9), step(0, at_ms=0.0, ms=10.0))
    assert join_beside([beside_of(silent)]) is None


def test_contention_is_a_loss_of_its_own() -> None:
    slowed = measured(
        2,
        {"compute": 60.0, "comm_transfer": 5.0},
        contention=Contention(factor=0.2, ms_per_step=8.0),
    )
    causes = causes_ms(slowed)
    assert causes["contention"] == pytest.approx(8.0)
    assert causes["compute"] == pytest.approx(52.0)
    found = scale([measured(1, {"compute": 100.0}), slowed], Question(), {})
    assert not isinstance(found, Refusal)
    point = found.points[1]
    assert point.contention == pytest.approx(0.2)
    assert sum(loss.ms for loss in point.losses) == pytest.approx(65 - 50)
    assert {loss.cause: loss.ms for loss in point.losses}["contention"] == pytest.approx(8.0)
