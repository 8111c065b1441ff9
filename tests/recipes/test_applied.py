"""Recipes at work in real ranks: losses to the bit where that is promised."""

from pathlib import Path

import pytest

from tests.recipes.applied import run


@pytest.mark.real
def test_overlap_of_hand_made_all_reduces_is_exact(tmp_path: Path) -> None:
    plain = run(tmp_path / "a", "", "--sync", "manual")
    others = "threads:pin=true,gloo-environment:interfaces=lo,allocator,nccl-environment,pin-memory"
    fast = run(tmp_path / "b", f"overlap:mb=0.001,gc-freeze,{others}", "--sync", "manual")
    assert plain.seen["loader_draws_global_rng"] is False
    applied = {r["recipe"]: r for r in fast.of("applied")}
    assert applied["overlap"]["place"][0].endswith("loop.py") and applied["gc-freeze"]
    assert {r["recipe"]: r["reason"] for r in fast.of("refused")} == {
        "allocator": "no CUDA device is in use: there is no caching allocator",
        "nccl-environment": "the backend is not nccl",
        "pin-memory": "no CUDA device is in use",
    }
    assert applied["gloo-environment"]["setting"] == "GLOO_SOCKET_IFNAME"
    assert fast.losses == plain.losses and len(plain.losses) == 8


@pytest.mark.real
def test_exact_recipes_of_ddp_and_its_loader_are_exact_together(tmp_path: Path) -> None:
    steps = ("--steps", "20")
    plain = run(tmp_path / "a", "", *steps)
    fast = run(tmp_path / "b", "loader:workers=2,ddp-buckets:mb=1,bucket-view", *steps)
    assert {r["recipe"] for r in fast.of("applied")} == {"loader", "ddp-buckets", "bucket-view"}
    assert fast.losses == plain.losses and len(plain.losses) == 20


def test_the_implicit_scaler_equals_an_explicit_one_over_200_steps(tmp_path: Path) -> None:
    common = ("--sync", "none", "--steps", "200", "--accumulate", "2")
    explicit = ("autocast", "fp16", "scaler", "large", "clip")
    theirs = run(tmp_path / "a", "", *common, "--own", *explicit, ranks=1)
    ours = run(tmp_path / "b", "amp-fp16", *common, "--own", "large", "clip", ranks=1)
    scales = [r for r in ours.of("applied") if r["setting"] == "loss scale"]
    assert scales, "no step overflowed: the test would not see the scale being halved"
    assert not ours.reasons
    assert ours.losses == theirs.losses and len(ours.losses) == 200
