"""A training of Ray Train on two workers, of a cluster of its own or of an existing one."""

import os
import sys
import time

import ray
import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

STEPS = 8


def work(config: dict[str, str]) -> None:
    assert os.environ.get("OWN", "") == config["own"]
    torch.manual_seed(0)
    model = prepare_model(nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(4, 16)).square().mean().backward()
        optimizer.step()
    ray.train.report({"steps": STEPS})
    time.sleep(0.05)


def main() -> None:
    address, storage = sys.argv[1:]
    if address == "local":
        # "local": a cluster that was ended by force may have left its address on this machine
        ray.init(address="local", num_cpus=3, include_dashboard=False)
    else:
        ray.init(address=address, runtime_env={"env_vars": {"OWN": "kept"}})
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    TorchTrainer(
        work,
        train_loop_config={"own": "" if address == "local" else "kept"},
        scaling_config=scaling,
        run_config=RunConfig(storage_path=storage, name="run"),
    ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main()
