"""What recipes say of runs whose answer is known: measured prototypes, and plain refusals."""

from typing import Any

import msgspec
import pytest

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis, ClassTime, CollectiveRow, RankBudget
from perfkit.recipes.catalogue import BY_ID, RECIPES
from perfkit.recipes.frameworks import SETTINGS, judge
from perfkit.recipes.loader import is_exact
from perfkit.recipes.recipe import Prediction, Situation
from tests.report.sample import io_bound as sample


def shown(
    step_ms: float, compute_ms: float, exposed_ms: float, calls: float, wait_ms: float
) -> Analysis:
    """An analysis of two ranks with these times per step."""
    base = sample()
    classes: dict[str, ClassTime | None] = {
        "compute": ClassTime(ms=compute_ms, share=compute_ms / step_ms),
        "input_wait": ClassTime(ms=wait_ms, share=wait_ms / step_ms),
    }
    row = CollectiveRow(
        group="0",
        name="all_reduce",
        dtype="float32",
        bytes=1 << 20,
        ranks=2,
        count=calls,
        transfer_ms=exposed_ms / calls,
        wait_ms=0.0,
        exposed_ms=exposed_ms / calls,
        algbw_gbyte_per_s=None,
        busbw_gbyte_per_s=None,
        last_arriver={},
        matched_by="sequence",
    )
    rank = RankBudget(rank=0, window_ms=step_ms, classes=classes)
    replace = msgspec.structs.replace
    return replace(
        base,
        world=replace(base.world, size=2, nodes=2, device_kind="cpu"),
        steps=replace(base.steps, median_ms=step_ms),
        budget=replace(base.budget, classes=classes, per_rank=(rank,)),
        verdict=replace(base.verdict, rollup_after_blame={"compute": compute_ms / step_ms}),
        collectives=(row,),
        what_if=None,
        networks=(),
    )


def situation(analysis: Analysis, passes: int = 1, seen: Any = None, **facts: Any) -> Situation:
    model = {"gradient_bytes": 18.9e6, "dtypes": ["float32"]}
    known = {"model": model, "cpus_available": 2, "threads": 1, **facts}
    return Situation(analysis=analysis, facts=known, micro_batches=passes, seen=seen or {})


DDP = {"bucket_cap_bytes": 25 << 20}
LOADER = {"num_workers": 0, "iterable": False}

# Step, compute, exposed all-reduce, calls, input wait; ratio measured in the prototypes S1, S4, S2
# and E4. Exposed time there: what is left of the step beside compute and 50 ms of host.
Case = tuple[str, tuple[float, ...], dict[str, Any], float]
MEASURED: tuple[Case, ...] = (
    ("overlap", (452, 240, 162, 26, 0), {}, 1.49),
    ("bf16-gradients", (962, 240, 672, 2, 0), {"ddp": DDP}, 1.52),
    ("ddp-buckets", (398, 240, 108, 2, 0), {"ddp": DDP}, 1.31),
    ("loader", (154, 54, 1, 2, 100), {"loader": LOADER}, 2.85),
)


@pytest.mark.parametrize(("name", "times", "facts", "measured"), MEASURED)
def test_predictions_come_near_the_prototypes(
    name: str, times: Any, facts: Any, measured: float
) -> None:
    found = BY_ID[name].applicable(situation(shown(*times), **facts))
    assert isinstance(found, Prediction) and found.expected and found.low and found.high
    assert 0.87 <= found.expected / measured <= 1.15, found
    assert found.low <= found.expected <= found.high <= (found.ceiling or 0) + 1e-9


def test_one_exchange_of_four_stays() -> None:
    run = situation(shown(1000, 400, 500, 8, 0), 4, ddp=DDP)
    found = BY_ID["no-sync"].applicable(run)
    assert isinstance(found, Prediction)
    assert found.expected == pytest.approx(1000 / (1000 - 375))
    assert found.ceiling == pytest.approx(2.0)


NOTHING = shown(100, 100, 1e-9, 1, 0)


@pytest.mark.parametrize(
    ("name", "seen", "facts", "says"),
    [
        ("overlap", {}, {"ddp": DDP}, "exchanges the gradients already"),
        ("loader", {}, {"loader": {"num_workers": 2}}, "num_workers=2 itself"),
        ("loader", {}, {"loader": LOADER}, "no rank waits"),
        ("amp-bf16", {"autocast": True}, {}, "autocast itself"),
        ("amp-fp16", {"grad_scaler": True}, {}, "GradScaler itself"),
        ("bf16-gradients", {"comm_hook": True}, {"ddp": DDP}, "communication hook itself"),
        ("no-sync", {}, {"ddp": DDP}, "one backward pass"),
        ("ddp-buckets", {"sharded_parameters": True}, {"ddp": DDP}, "sharded"),
        ("static-graph", {}, {"ddp": DDP}, "has not recorded"),
        ("find-unused-parameters", {}, {"ddp": DDP}, "does not look"),
        ("zero1", {"optimizer_state_saved": True}, {"optimizer": {"class": "AdamW"}}, "saves"),
        ("fused-optimizer", {}, {"optimizer": {"class": "Muon"}}, "fused form"),
        ("threads", {}, {"threads": 2}, "no more threads"),
        ("tf32", {"autocast": True}, {}, "autocast itself"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    name: str, seen: Any, facts: Any, says: str
) -> None:
    found = BY_ID[name].applicable(situation(NOTHING, seen=seen, **facts))
    assert isinstance(found, Refusal) and says in found.reason


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.id)
def test_every_recipe_answers_on_any_run(recipe: Any) -> None:
    answer = recipe.applicable(Situation(analysis=sample(), facts={}))
    assert isinstance(answer, Prediction | Refusal)


def test_workers_are_exact_only_where_it_was_seen() -> None:
    assert is_exact(situation(NOTHING, seen={"loader_draws_global_rng": False}))
    assert not is_exact(situation(NOTHING, seen={"loader_draws_global_rng": True}))
    assert not is_exact(situation(NOTHING))


def test_a_framework_gets_its_own_setting() -> None:
    known = situation(NOTHING, seen={"framework": "transformers"})
    answer = judge(BY_ID["amp-bf16"], known)
    assert isinstance(answer, Refusal) and "--bf16" in str(answer)
    assert {recipe for of in SETTINGS.values() for recipe in of} <= set(BY_ID)
