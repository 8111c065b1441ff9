"""What ranks say of frameworks, devices, variables and compilers; stand-ins where it takes one."""

import json
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from perfkit.recipes.activation import VARIABLE, activate, parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.inrank import compiling, environment, frameworks, loader
from perfkit.recipes.inrank.applying import Applying
from perfkit.recipes.inrank.steps import steps
from tests.recipes.test_refusals import applying


def called_from(module: str, call: Any) -> Any:
    """Call something from a function of a module of this name."""
    scope: dict[str, Any] = {"__name__": module, "call": call}
    exec("def training_step():\n    return call()", scope)
    return scope["training_step"]()


@pytest.mark.parametrize(
    ("module", "framework"),
    [
        ("transformers.trainer", "transformers"),
        ("lightning.pytorch.loops.fit_loop", "lightning"),
        ("pytorch_lightning.trainer", "lightning"),
        ("deepspeed.runtime.engine", "deepspeed"),
        ("transformers.models.llama.modeling_llama", ""),  # a model in a loop of the script's own
        ("train", ""),
    ],
)
def test_the_framework_that_runs_the_loop_is_asked_to_do_it(module: str, framework: str) -> None:
    assert called_from(module, frameworks.in_use) == framework
    settings = {framework: "its flag"} if framework else {"transformers": "its flag"}
    recipe = Applying("amp-bf16", {}, lambda kind, **fields: None, settings)
    reason = called_from(module, recipe.framework)
    assert bool(reason) == bool(framework) and ("its flag" in reason) == bool(framework)
    other = Applying("amp-bf16", {}, lambda kind, **fields: None, {"other": "its flag"})
    assert called_from(module, other.framework) == ""


def test_the_ranks_are_told_what_frameworks_offer() -> None:
    asked = json.loads(activate(parse("amp-bf16,gc-freeze", BY_ID), {}).environment[VARIABLE])
    amp_bf16, gc_freeze = asked["recipes"]
    assert "--bf16" in amp_bf16["settings"]["transformers"]
    assert gc_freeze["settings"] == {}


def test_a_loader_that_is_made_again_from_ours_is_left_alone() -> None:
    made: list[int] = []

    def original(self: Any, dataset: Any, batch_size: int = 1, **kwargs: Any) -> None:
        made.append(kwargs.get("num_workers", 0))

    def signature(
        self: Any,
        dataset: Any,
        batch_size: int = 1,
        num_workers: int = 0,
        persistent_workers: bool = False,
        prefetch_factor: Any = None,
    ) -> None:
        original(self, dataset, batch_size, num_workers=num_workers)  # fmt: skip

    class Loader:
        """What frameworks make again from the attributes of the script's."""

    recipe, data = applying("loader", workers=2), TensorDataset(torch.zeros(4))
    init = loader._with_workers(recipe, signature)
    init(Loader(), data)
    init(Loader(), data, num_workers=2)
    assert made == [2, 2] and not recipe.refused
    init(Loader(), TensorDataset(torch.zeros(4)), num_workers=2)
    assert "num_workers=2 itself" in recipe.refused


class Device:
    """As much of torch.cuda as recipes ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)


def test_memory_is_pinned_where_a_device_is_and_the_script_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a stand-in: no device is at hand."""
    given: list[bool] = []

    def original(self: Any, dataset: Any, pin_memory: bool = False) -> None:
        given.append(pin_memory)

    recipe = applying("pin-memory")
    loader._pinning(recipe, original)(object(), [1])
    assert given == [False] and "no CUDA device" in recipe.refused
    Device(monkeypatch)
    recipe = applying("pin-memory")
    loader._pinning(recipe, original)(object(), [1])
    loader._pinning(recipe, original)(object(), [1], pin_memory=False)
    assert given[1:] == [True, False] and not recipe.refused
    loader._pinning(recipe, original)(object(), [1], pin_memory=True)
    assert "itself" in recipe.refused


def test_the_allocators_variable_counts_where_a_device_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in: no device is at hand."""
    recipe = applying("allocator")
    recipe.variables = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert "sets PYTORCH_CUDA_ALLOC_CONF itself" in environment._reason(recipe)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    assert "no caching allocator" in environment._reason(recipe)
    Device(monkeypatch)
    assert environment._reason(recipe) == ""


@pytest.mark.parametrize(
    ("breaks", "graphs", "says"), [(0, 0, "nothing was compiled"), (30, 9, "30 places"), (2, 3, "")]
)
def test_what_does_not_compile_is_told(
    monkeypatch: pytest.MonkeyPatch, breaks: int, graphs: int, says: str
) -> None:
    utils: Any = ModuleType("torch._dynamo.utils")
    utils.counters = {
        "graph_break": Counter({"why": breaks}),
        "stats": Counter(unique_graphs=graphs),
    }
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", utils)
    monkeypatch.setattr(steps, "done", compiling.LOOK_AT_STEP)
    recipe = applying("compile")
    compiling._look(recipe)
    assert says in recipe.refused and bool(says) == bool(recipe.refused)
