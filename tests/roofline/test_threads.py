"""Ranks of a CPU share its processors: the peak is that of the threads that they ran."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perfkit.roofline.ceilings import Ceilings, Machine
from perfkit.roofline.of_run import processors
from perfkit.trace.model import Run


def ceilings(threads: int) -> Ceilings:
    machine = Machine(
        device_kind="cpu", device_name="C", memory_bytes=1, threads=threads, host="C", torch="2"
    )
    return Ceilings(schema_version=1, machine=machine, measured_utc="", quick=True, ceilings=())


def ranks(threads: list[int | None], cpus: int, machines: list[str]) -> tuple[Run, list[Any]]:
    """A run whose ranks recorded these threads on a machine of so many processors."""
    facts = [{"threads": t, "cpus_available": cpus} if t else {} for t in threads]
    records = [SimpleNamespace(rank=k, facts=f) for k, f in enumerate(facts)]
    placed = [
        SimpleNamespace(machine=m, placement=SimpleNamespace(rank=k))
        for k, m in enumerate(machines)
    ]
    return cast(Run, SimpleNamespace(ranks=records, path=Path())), placed


@pytest.mark.parametrize(
    ("threads", "cpus", "machines", "measured", "expected"),
    [
        ([1, 1], 2, ["a", "a"], 1, 2.0),  # two ranks of a thread: twice a thread's peak
        ([1, 1], 2, ["a", "a"], 2, 1.0),  # the same: all of the machine
        ([1], 2, ["a"], 2, 0.5),
        ([2, 2, 2, 2], 2, ["a"] * 4, 2, 1.0),  # more threads than processors
        ([4, 4], 4, ["a", "b"], 4, 2.0),
        ([None, None], 2, ["a", "a"], 1, 1),  # nothing recorded: a machine is a device
    ],
)
def test_the_devices_are_the_threads_that_ran(
    threads: list[int | None], cpus: int, machines: list[str], measured: int, expected: float
) -> None:
    run, placed = ranks(threads, cpus, machines)
    assert processors(run, placed, ceilings(measured)) == pytest.approx(expected)


def test_without_ceilings_a_machine_is_a_device() -> None:
    run, placed = ranks([1, 1], 2, ["a", "a"])
    assert processors(run, placed, None) == 1
