"""Checkpoints from which a training continues as if it had never stopped."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from common.ranks import Rank

FILE_NAME = "checkpoint.pt"


def save(
    folder: Path, step: int, model: DistributedDataParallel, optimizer: Optimizer, worker: Rank
) -> None:
    """Write the state after `step` steps. Every rank must call this: each has its own RNG."""
    generators: list[Any] = [None] * worker.world_size
    dist.all_gather_object(generators, _generator_state(worker.device))
    if not worker.is_first:
        return
    state = {
        "step": step,
        "world_size": worker.world_size,
        "model": model.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generators": generators,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Written beside the old one, then renamed: a crash half-way leaves the old one whole.
    partial = folder / f"{FILE_NAME}.partial"
    torch.save(state, partial)
    os.replace(partial, folder / FILE_NAME)


def load(folder: Path, model: DistributedDataParallel, optimizer: Optimizer, worker: Rank) -> int:
    """Restore model, optimizer and this rank's RNG; return the number of steps already done."""
    path = folder / FILE_NAME
    if not path.exists():
        raise SystemExit(f"--resume: there is no {path}; start without --resume first")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["world_size"] != worker.world_size:
        raise SystemExit(
            f"--resume: {path} is of {state['world_size']} ranks, this job has {worker.world_size}"
        )
    model.module.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    _restore_generators(state["generators"][worker.rank], worker.device)
    return int(state["step"])


def _generator_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _restore_generators(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
