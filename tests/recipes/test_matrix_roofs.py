"""Products in fewer bits by measured ceilings, on numbers that a hand can follow."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from perfkit.analyzers import analysis as analysis_of
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.recipe import Prediction, Situation
from perfkit.recipes.situation import situation_of
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.place import Point
from perfkit.trace import run as run_folder
from tests.recipes.test_predictions import shown, situation
from tests.report.roofline_parts import point, roofline
from tests.roofline.machines import ceilings

BOTH = ceilings(matrix={"fp32": 1e12, "bf16": 4e12}, copy=100e9)


def product(time_s: float, size: float) -> Point:
    return replace(point("mm", 0.0, size, time_s, bound_s=None, limit=None), precision="fp32")


def of(held: Ceilings | None, *products: Point) -> Situation:
    """100 ms a step, 90 of them compute."""
    placed = replace(roofline(("mm",)), points=products)
    found = situation(msgspec.structs.replace(shown(100, 90, 1e-9, 1, 0), roofline=placed))
    return replace(found, ceilings=held)


def test_products_keep_their_share_of_the_roof_and_pay_for_casts() -> None:
    # 60 ms become 15, with 1.2 ms of casts; 1 ms of 160 MB cannot be under 0.8, with 2.4 of casts.
    run = of(BOTH, product(0.060, 80e6), product(0.001, 160e6))
    found = BY_ID["amp-bf16"].applicable(run)
    assert isinstance(found, Prediction)
    assert found.expected == pytest.approx(100 / (100 - 61 + 15 + 0.8 + 1.2 + 2.4))
    assert found.ceiling == pytest.approx(1 / (1 - 0.61))
    assert "61.0 ms of matrix products take 15.8 ms in bf16, casts 3.60 ms" in found.why


def test_tf32_casts_nothing() -> None:
    held = ceilings(matrix={"fp32": 1e12, "tf32": 4e12}, copy=100e9)
    found = BY_ID["tf32"].applicable(of(held, product(0.060, 80e6)))
    assert isinstance(found, Prediction)
    assert found.expected == pytest.approx(100 / (100 - 60 + 15))


@pytest.mark.parametrize("held", [None, ceilings(matrix={"fp32": 1e12}, copy=100e9)])
def test_without_both_ceilings_the_cautious_factor_stands(held: Ceilings | None) -> None:
    found = BY_ID["amp-bf16"].applicable(of(held, product(0.060, 80e6)))
    assert "taken as 2 times as fast" in str(found) or "matrix work by its operators" in str(found)


def test_a_run_takes_the_ceilings_that_its_operators_were_held_against(shared_traces: Path) -> None:
    run = run_folder.open_run([shared_traces / "own" / "gloo_ddp4"])
    other = ceilings(matrix={"fp32": 1e12, "bf16": 4e12}, device_kind="cuda")
    load = partial(run_folder.load_rank, cache=None)
    for held, used in ((BOTH, BOTH), (other, None), (None, None)):
        analysis = analysis_of.analyze(run, load, jobs=1, ceilings=held)
        assert situation_of(analysis, run, {}, held).ceilings == used
