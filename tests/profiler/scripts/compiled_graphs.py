"""Prints the operators of every graph that dynamo makes of a few compiled pieces of training."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

logging.disable(logging.WARNING)
graphs: list[list[str]] = []


def keep(module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
    graphs.append(
        [re.sub(" at 0x[0-9a-f]+", "", f"{node.op} {node.target}") for node in module.graph.nodes]
    )
    forward: Callable[..., Any] = module.forward
    return forward


def taken() -> list[list[str]]:
    found = list(graphs)
    graphs.clear()
    torch._dynamo.reset()
    return found


class Own(nn.Module):
    """A model of the user's own, whose forward dynamo compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(inputs)
        return result.relu()


def compiled(module: nn.Module, inputs: torch.Tensor) -> list[list[str]]:
    module.compile(backend=keep)
    module(inputs).sum().backward()
    return taken()


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs = torch.randn(4, 8)

    def iterate(forward: Callable[..., Any], update: Callable[[], Any]) -> list[list[str]]:
        for _ in range(3):
            optimizer.zero_grad()
            forward(inputs).sum().backward()
            update()
        return taken()

    @torch.compile(backend=keep)
    def update_and_scale() -> torch.Tensor:
        optimizer.step()
        return inputs * 2

    @torch.compile(backend=keep)
    def evaluate() -> torch.Tensor:
        model.eval()
        result: torch.Tensor = model(inputs)
        model.train()
        return result

    made = {
        "module": compiled(Own(), inputs),
        "torch's own module": compiled(nn.Linear(8, 1), inputs),
        "step": iterate(model, torch.compile(optimizer.step, backend=keep)),
        "function": iterate(model, update_and_scale),
        "model": iterate(torch.compile(model, backend=keep), optimizer.step),
    }
    evaluate()
    made["evaluation"] = taken()
    print(json.dumps(made))


if __name__ == "__main__":
    main()
