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

    own = nn.Linear(8, 1)
    own.compile(backend=keep)  # before others: dynamo may leave a later one uncompiled
    own(inputs).sum().backward()
    made = {
        "module": taken(),
        "step": iterate(model, torch.compile(optimizer.step, backend=keep)),
        "function": iterate(model, update_and_scale),
        "model": iterate(torch.compile(model, backend=keep), optimizer.step),
    }
    evaluate()
    made["evaluation"] = taken()
    print(json.dumps(made))


if __name__ == "__main__":
    main()
