"""An analysis carries the roofline that `perfkit roofline` would show, with or without ceilings."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from perfkit.analyzers.analysis import analyze, decode, encode
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.of_run import roofline_of
from perfkit.trace import run as run_folder
from perfkit.trace.model import NodeRecord
from tests.roofline.machines import ceilings


@pytest.fixture
def gloo(shared_traces: Path) -> Path:
    return shared_traces / "own" / "gloo_ddp4"


LOAD = partial(run_folder.load_rank, cache=None)


@pytest.mark.parametrize("measured", [None, ceilings()])
def test_it_is_that_of_the_roofline_command(gloo: Path, measured: Ceilings | None) -> None:
    run = run_folder.open_run([gloo])
    found = analyze(run, LOAD, ceilings=measured)
    assert found.roofline == roofline_of(run, LOAD, measured)
    assert found.roofline is not None
    assert bool(found.roofline.ceilings) is (measured is not None)
    assert decode(encode(found)) == found


def test_ceilings_of_another_device_are_left_out_with_the_reason(gloo: Path) -> None:
    found = analyze(run_folder.open_run([gloo]), LOAD, ceilings=ceilings(device_kind="cuda"))
    assert found.roofline is not None and found.roofline.ceilings == ()
    told = {entry.claim: entry.why for entry in found.roofline.cannot_tell}
    assert told["shares of measured ceilings"].startswith("the ceilings are of Abacus (cuda)")


def test_published_peaks_stand_in_for_measured_ones(shared_traces: Path) -> None:
    run = run_folder.open_run([shared_traces / "tracelens" / "h100_qwen.json.gz"])
    found = analyze(run, LOAD).roofline
    assert found is not None
    assert {c.source.partition(":")[0] for c in found.ceilings} == {"published"}


def test_ceilings_of_another_cpu_are_left_out_with_the_reason(gloo: Path) -> None:
    run = run_folder.open_run([gloo])
    node = NodeRecord(node="n", facts={"cpu_model": "Slide Rule"})
    found = analyze(replace(run, nodes=(node,)), LOAD, ceilings=ceilings()).roofline
    assert found is not None and found.ceilings == ()
    told = {entry.claim: entry.why for entry in found.cannot_tell}
    assert told["shares of measured ceilings"].startswith("the ceilings are of another CPU")
