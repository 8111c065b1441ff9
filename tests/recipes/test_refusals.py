"""Every case in which a recipe leaves the script's own choice alone, asked of the recipe itself."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from perfkit.analyzers.refusal import Refusal
from perfkit.errors import UsageError
from perfkit.recipes.activation import VARIABLE, activate, parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.inrank import (
    accumulate,
    amp,
    comm_hook,
    compiling,
    ddp_arguments,
    fused_optimizer,
    loader,
    matmul,
    pipeline_schedule,
    scaler,
    zero1,
)
from perfkit.recipes.inrank.applying import Applying
from perfkit.recipes.inrank.manual_gradients import ManualGradients
from perfkit.recipes.inrank.no_sync import NoSync


class DTensor(nn.Parameter):
    """What FSDP2's parameters are called."""


def applying(name: str, **values: Any) -> Applying:
    defaults = BY_ID[name].values(values)
    return Applying(name, dict(defaults), lambda kind, **fields: None)


def sharded_model() -> nn.Module:
    model = nn.Linear(4, 4)
    model.weight = DTensor(torch.zeros(4, 4))
    return model


def argument(name: str, **given: Any) -> str:
    which, _, default = ddp_arguments.WANTED[name]
    return ddp_arguments._reason(applying(name), which, given, default)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("ddp-buckets", {"bucket_cap_mb": 10}, "chose bucket_cap_mb=10"),
        ("bucket-view", {"gradient_as_bucket_view": True}, "itself"),
        ("static-graph", {"find_unused_parameters": True}, "may go unused"),
        ("find-unused-parameters", {}, "does not ask"),
        ("ddp-buckets", {"module": sharded_model()}, "sharded"),
    ],
)
def test_ddp_arguments_of_the_script_win(name: str, given: dict[str, Any], says: str) -> None:
    assert says in argument(name, **given)


def test_ddp_arguments_that_nobody_gave_are_free() -> None:
    assert argument("ddp-buckets", module=nn.Linear(2, 2)) == ""
    assert argument("find-unused-parameters", find_unused_parameters=True) == ""


class FakeDDP:
    """As much of DDP as a hook looks at."""

    def __init__(self, module: nn.Module, hooks: list[Any]) -> None:
        self.module, self._comm_hooks = module, hooks


@pytest.mark.parametrize(
    ("module", "hooks", "says"),
    [
        (nn.Linear(2, 2), ["own"], "communication hook itself"),
        (nn.Linear(2, 2).bfloat16(), [], "not all fp32"),
        (sharded_model(), [], "sharded"),
        (nn.Linear(2, 2), [], ""),
    ],
)
def test_a_communication_hook(module: nn.Module, hooks: list[Any], says: str) -> None:
    reason = comm_hook._reason(applying("bf16-gradients"), FakeDDP(module, hooks))
    assert says in reason and bool(says) == bool(reason)


class WithLock(TensorDataset):
    """A dataset that workers cannot share."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(4))
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_workers": 3}, "num_workers=3"),
        ({"worker_init_fn": print}, "worker_init_fn"),
        ({"dataset": WithLock()}, "lock"),
        ({}, ""),
    ],
)
def test_a_loader(given: dict[str, Any], says: str) -> None:
    reason = loader._reason({"dataset": TensorDataset(torch.zeros(4)), **given})
    assert says in reason and bool(says) == bool(reason)


def test_an_iterable_dataset_gets_one_worker() -> None:
    from tests.recipes.scripts.loop import Stream

    assert loader._workers(applying("loader", workers=4), Stream()) == 1
    assert loader._workers(applying("loader", workers=4), TensorDataset(torch.zeros(1))) == 4


def test_autocast_refuses_what_it_would_double() -> None:
    fp32 = list(nn.Linear(2, 2).parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "autocast itself" in amp.refusal(fp32, torch.float16)
    assert "not all fp32" in amp.refusal(list(nn.Linear(2, 2).half().parameters()), torch.float16)
    assert "sharded" in amp.refusal(list(sharded_model().parameters()), torch.float16)


def test_a_scaler_refuses_other_derivatives() -> None:
    loss = torch.ones((), requires_grad=True)
    assert "twice" in scaler._reason(loss, (), {"create_graph": True})
    assert "one number" in scaler._reason(torch.ones(2), (), {})
    assert scaler._reason(loss, (), {}) == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fused": True}, "fused=True"),
        ({"foreach": True}, "foreach=True"),
        ({"foreach": False}, "foreach or fused"),
        ({"differentiable": True}, "differentiable=True"),
        ({}, ""),
    ],
)
def test_a_fused_optimizer(given: dict[str, Any], says: str) -> None:
    reason = fused_optimizer._reason(given, list(nn.Linear(2, 2).parameters()))
    assert says in reason and bool(says) == bool(reason)
    sharded = fused_optimizer._reason(given, list(sharded_model().parameters()))
    assert says in sharded if says else "sharded" in sharded


def test_the_script_sets_a_precision() -> None:
    recipe = applying("tf32")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        matmul._set(recipe)
        assert "'high'" in recipe.refused
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_model_that_is_compiled_or_sharded() -> None:
    compiled = nn.Linear(2, 2)
    compiled._compiled_call_impl = print
    assert "compiles its model itself" in compiling._reason(compiled)
    assert "sharded" in compiling._reason(sharded_model())


def test_zero_refuses_a_script_that_saves_the_state(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("torch.save(optimizer.state_dict(), path)\n")
    assert zero1._saves_state((str(script), 1))
    script.with_name("other.py").write_text("torch.save(model.state_dict(), path)\n")
    assert not zero1._saves_state((str(script.with_name("other.py")), 1))
    assert "one rank" in zero1._reason([torch.zeros(1)], None, ())


def watched(name: str, **values: Any) -> tuple[ManualGradients, torch.Tensor]:
    state = ManualGradients(applying(name, **values), lambda *a, **k: None)
    p = nn.Parameter(torch.zeros(4))
    p.grad = torch.zeros(4)
    state.versions[id(p)] = p.grad._version
    return state, p


def test_overlap_refuses_other_patterns() -> None:
    from torch.distributed import ReduceOp

    state, p = watched("overlap")
    assert state.fault(p, ReduceOp.SUM, None, False) == ""
    assert "asynchronously" in state.fault(p, ReduceOp.SUM, None, True)
    assert "SUM" in state.fault(p, ReduceOp.MAX, None, False)
    assert p.grad is not None
    p.grad.mul_(2)
    assert "changed" in state.fault(p, ReduceOp.SUM, None, False)
    state.calls.append(id(p))
    assert "several groups" in state.fault(p, ReduceOp.SUM, "other", False)
    assert "no all-reduce" in watched("overlap")[0].reason()


def test_no_sync_refuses_irregular_steps_and_hooks() -> None:
    state = NoSync(applying("no-sync"))
    state.ddp = FakeDDP(nn.Linear(2, 2), [])
    state.ddp.parameters = state.ddp.module.parameters
    state.learned = [2, 3]
    assert "changes from step to step" in state.fault(3)
    state.learned = [1, 1]
    assert "one backward pass" in state.fault(1)
    state.learned = [2, 2]
    assert state.fault(2) == ""
    state.ddp._comm_hooks = ["own"]
    assert "hook" in state.fault(2)


def test_accumulation_refuses_closures_and_own_accumulation() -> None:
    state = accumulate.Accumulation(applying("gradient-accumulation"))
    assert state.step(lambda *a, **k: "stepped", (print,), {}) == "stepped"
    assert "closure" in state.recipe.refused
    state = accumulate.Accumulation(applying("gradient-accumulation"))
    state.backwards = 2
    assert state.step(lambda: "stepped", (), {}) == "stepped"
    assert "accumulates itself" in state.recipe.refused


def test_a_schedule_needs_as_many_micro_batches_as_stages() -> None:
    class Stage:
        num_stages = 4

    recipe = applying("pipeline-schedule")
    made = pipeline_schedule._maker(recipe, lambda *a, **k: "own", lambda *a, **k: "other")
    assert made(Stage(), 2) == "own"
    assert "fewer than 4 stages" in recipe.refused


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("threads", {"OMP_NUM_THREADS": "3"}, "OMP_NUM_THREADS=3"),
        ("allocator", {"PYTORCH_CUDA_ALLOC_CONF": "x"}, "PYTORCH_CUDA_ALLOC_CONF"),
        ("nccl-environment:name=NCCL_ALGO:value=Ring", {"NCCL_ALGO": "Tree"}, "NCCL_ALGO=Tree"),
        ("gloo-environment", {}, "name the interfaces"),
    ],
)
def test_variables_of_the_user_win(text: str, environ: dict[str, str], says: str) -> None:
    activation = activate(parse(text, BY_ID), environ)
    (refusal,) = activation.refused.values()
    assert isinstance(refusal, Refusal) and says in str(refusal)
    assert set(activation.environment) == {"PERFKIT_RECIPES"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "no such recipe"),
        ("ddp-buckets:size=3", "sets no parameter"),
        ("ddp-buckets:mb=big", "is no float"),
        ("ddp-buckets:mb=-3", "mb=-3 is not a number of 0.001 or more"),
        ("overlap:mb=nan", "mb=nan is not a number"),
        ("loader:workers=-2", "workers=-2 is not a number of 0"),
        ("gradient-accumulation:batches=1", "batches=1 is not a number of 2"),
        ("tf32:precision=banana", "precision=banana is not of auto"),
        ("pipeline-schedule:schedule=X", "schedule=X is not of Schedule1F1B"),
        ("nccl-environment:name=PATH", "name=PATH is not of NCCL_"),
    ],
)
def test_a_wrong_name_or_parameter_is_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text, BY_ID)


def test_a_recipe_is_named_once_and_alone_of_its_kind() -> None:
    with pytest.raises(UsageError, match="ddp-buckets is given twice"):
        activate(parse("ddp-buckets:mb=1,ddp-buckets:mb=2", BY_ID), {})
    found = activate(parse("overlap,coalesce,bucket-view", BY_ID), {})
    assert set(found.refused) == {"coalesce"}
    assert "overlap is on" in str(found.refused["coalesce"])
    asked = json.loads(found.environment[VARIABLE])["recipes"]
    assert [one["id"] for one in asked] == ["overlap", "bucket-view"]


def test_a_suggestion_cannot_be_applied() -> None:
    with pytest.raises(UsageError, match="only you can make"):
        activate(parse("fsdp2", BY_ID), {})
