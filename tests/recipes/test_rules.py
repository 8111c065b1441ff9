"""A recipe that gains may still need too much memory; and what is refused under accumulation."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from perfkit.recipes.inrank import amp
from perfkit.recipes.inrank.applying import Applying
from perfkit.recipes.inrank.manual_gradients import ManualGradients
from perfkit.recipes.inrank.no_sync import NoSync
from perfkit.recipes.inrank.steps import steps
from perfkit.recipes.measured import Measured, Wanted
from tests.recipes.laboratory import FakeLaboratory, recipe, search

GIB = 2**30


@dataclass
class Tight(FakeLaboratory):
    """A laboratory whose runs use device memory: 10 GiB, and so much more with a recipe."""

    needs: dict[str, float] = field(default_factory=dict)

    def run(self, wanted: Wanted) -> Measured:
        found = super().run(wanted)
        times = 1.0
        for choice in wanted.stack:
            times *= self.needs.get(choice.recipe.id, 1.0)
        numbers = [replace(n, peak_bytes=int(10 * GIB * times)) for n in found.numbers]
        return replace(found, numbers=numbers)


@pytest.mark.parametrize(("times", "decision"), [(1.05, "kept"), (1.2, "reverted")])
def test_a_gain_is_not_bought_with_memory(times: float, decision: str) -> None:
    laboratory = Tight(law=lambda on: 80.0 if on else 100.0, needs={"greedy": times})
    book = search(laboratory, [recipe("greedy", 1.25)])
    (attempt,) = book.attempts
    assert attempt.decision == decision
    if decision == "reverted":
        assert "1.20 times the memory" in attempt.reason
    else:
        assert attempt.memory_ratio == pytest.approx(times)


class FlatParameter(nn.Parameter):
    """What FSDP1's parameters are called."""


def applying(name: str) -> Applying:
    return Applying(name, {"mb": 2.0}, lambda kind, **fields: None)


@pytest.fixture
def watched_step(monkeypatch: pytest.MonkeyPatch) -> nn.Parameter:
    """The only parameter of a training whose second step is being watched."""
    p = nn.Parameter(torch.zeros(4))
    p.grad = torch.zeros(4)
    monkeypatch.setattr(steps, "done", 1)
    monkeypatch.setattr(type(steps), "parameters", lambda self: [p])
    return p


def test_overlap_refuses_accumulation_when_it_learns_and_later(watched_step: nn.Parameter) -> None:
    sent: list[Any] = []
    state = ManualGradients(applying("overlap"), lambda *a, **k: sent.append(a))
    state.final(watched_step)
    assert not state.trouble
    state.final(watched_step)
    assert "several backward passes" in state.trouble
    state = ManualGradients(applying("overlap"), lambda *a, **k: sent.append(a))
    state.plan([watched_step])
    state.phase = "active"
    state.final(watched_step)
    assert len(sent) == 1 and not state.trouble
    state.final(watched_step)
    assert "several backward passes" in state.trouble and len(sent) == 1


def test_coalescing_may_accumulate(watched_step: nn.Parameter) -> None:
    state = ManualGradients(applying("coalesce"), lambda *a, **k: None)
    state.final(watched_step)
    state.final(watched_step)
    assert not state.trouble


@pytest.mark.parametrize("name", ["overlap", "coalesce"])
def test_sharded_parameters_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded = FlatParameter(torch.zeros(4))
    monkeypatch.setattr(type(steps), "parameters", lambda self: [sharded])
    state = ManualGradients(applying(name), lambda *a, **k: None)
    state.plans = [([id(sharded)], [id(sharded)])] * 2
    assert "sharded" in state.reason()


def test_no_sync_leaves_sharded_parameters_and_own_choices_alone() -> None:
    class Wrapped(nn.Module):
        """DDP in name only."""

        _comm_hooks: tuple[()] = ()

        def __init__(self) -> None:
            super().__init__()
            self.weight = FlatParameter(torch.zeros(4))

    state = NoSync(applying("no-sync"))
    state.ddp, state.learned = Wrapped(), [2, 2]
    assert "sharded" in state.fault(2)


def test_a_scaler_or_an_autocast_of_the_scripts_ends_autocast() -> None:
    for begin in (_scale, _cast):
        state = amp.Autocast(applying("amp-bf16"), torch.bfloat16)
        begin(state)
        assert "itself" in state.recipe.refused


def _scale(state: amp.Autocast) -> None:
    scaler = torch.amp.GradScaler("cpu")
    amp._refusing(state, torch.amp.GradScaler.scale)(scaler, torch.ones(()))


def _cast(state: amp.Autocast) -> None:
    cast = torch.autocast("cpu", dtype=torch.bfloat16)
    with cast:
        amp._noticing(state, lambda self: self)(cast)
