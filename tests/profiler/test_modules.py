"""`--modules`: what a module is called, and that its range closes whatever its forward does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from perfkit.profiler.inrank import modules, ranges, traced
from perfkit.trace.event_names import kind_of
from perfkit.trace.kinds import Kind


class Block(nn.Module):
    """A module with one below it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(inputs)
        return result


class Refuses(nn.Module):
    """Raises."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        raise ValueError("refused")


class Wrapper(nn.Module):
    """Holds its model as DDP does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.module(inputs)
        return result


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the ranges opened ("<" where one closed), a window being open."""
    seen: list[str] = []

    def begin(name: str) -> str:
        seen.append(name)
        return name

    monkeypatch.setattr(ranges, "begin", begin)
    monkeypatch.setattr(ranges, "end", lambda mark: seen.append("<"))
    monkeypatch.setattr(ranges.state, "recording", True)
    call = traced.module_call(nn.Module._call_impl, modules.Names())
    monkeypatch.setattr(nn.Module, "_call_impl", call)
    yield seen


def test_a_module_is_named_by_its_place_in_the_model(named: list[str]) -> None:
    model = nn.Sequential(Block(), nn.ReLU())
    model(torch.ones(1, 4))
    assert [name.removeprefix("nn.Module: ") for name in named] == [
        "Sequential",
        *("Sequential.0 (Block)", "Sequential.0.inner (Linear)", "<", "<"),
        *("Sequential.1 (ReLU)", "<", "<"),
    ]
    assert all(kind_of("user_annotation", name) is Kind.MODULE for name in named if name != "<")


def test_wrappers_leave_the_names_as_they_were(named: list[str]) -> None:
    Wrapper(Block())(torch.ones(1, 4))
    assert [name.removeprefix("nn.Module: ") for name in named if name != "<"] == [
        "Block (Wrapper)",
        "Block",
        "Block.inner (Linear)",
    ]


def test_a_second_model_of_a_class_has_a_number(named: list[str]) -> None:
    first, second = Block(), Block()
    for model in (first, second, first):
        model(torch.ones(1, 4))
    assert [name.removeprefix("nn.Module: ") for name in named if name != "<"] == [
        *("Block", "Block.inner (Linear)"),
        *("Block#2", "Block#2.inner (Linear)"),
        *("Block", "Block.inner (Linear)"),
    ]


def test_a_forward_that_raises_closes_its_ranges(named: list[str]) -> None:
    model = nn.Sequential(nn.ReLU(), Refuses())
    with pytest.raises(ValueError, match="refused"):
        model(torch.ones(1))
    assert named[-3:] == ["nn.Module: Sequential.1 (Refuses)", "<", "<"]
    named.clear()
    nn.ReLU()(torch.ones(1))
    assert named == ["nn.Module: ReLU", "<"]


def test_nothing_is_named_outside_a_window(
    named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges.state, "recording", False)
    Block()(torch.ones(1, 4))
    assert named == []
