"""Twenty iterations of every kind of training loop, each in a forked process, as rank 0, 1, ..."""

import os
import sys
import tempfile
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.utils.data import DataLoader, TensorDataset

import perfkit

ITERATIONS = 20
warnings.filterwarnings("ignore")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def batch() -> torch.Tensor:
    return torch.randn(4, 8)


def loop(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        model(batch()).sum().backward()
        optimizer.step()


def plain() -> None:
    model = network()
    loop(torch.optim.SGD(model.parameters(), lr=0.1), model)


def accumulation() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    for micro in range(4 * ITERATIONS):
        model(batch()).sum().backward()
        if micro % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


def overflowing_scaler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for iteration in range(ITERATIONS):
        optimizer.zero_grad()
        loss = model(batch()).sum() * (float("inf") if iteration % 5 == 2 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def two_optimizers() -> None:
    generator, critic = network(), network()
    first = torch.optim.Adam(generator.parameters())
    second = torch.optim.Adam(critic.parameters())
    for _ in range(ITERATIONS):
        for optimizer, model in ((first, generator), (second, critic)):
            optimizer.zero_grad()
            model(batch()).sum().backward()
            optimizer.step()


def optimizer_in_backward() -> None:
    model = network()
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step(parameter: Any) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(ITERATIONS):
        model(batch()).sum().backward()


def applied_in_backward() -> None:
    from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward

    model = network()
    _apply_optimizer_in_backward(torch.optim.SGD, model.parameters(), {"lr": 0.1})
    for _ in range(ITERATIONS):
        model(batch()).sum().backward()


def scheduler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        model(batch()).sum().backward()
        optimizer.step()
        schedule.step()


def fused() -> None:
    model = network()
    loop(torch.optim.AdamW(model.parameters(), fused=True), model)


def foreach() -> None:
    model = network()
    loop(torch.optim.AdamW(model.parameters(), foreach=True), model)


def lbfgs() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(batch()).square().sum()
        loss.backward()
        return loss

    for _ in range(ITERATIONS):
        optimizer.step(closure)


class Signed(torch.optim.Optimizer):
    """A user's own optimizer, on top of another one that it steps."""

    def __init__(self, parameters: object) -> None:
        super().__init__(parameters, {"lr": 0.1})  # type: ignore[arg-type]
        self.inner = torch.optim.SGD(self.param_groups, lr=0.1)

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.inner.step()


def nested_custom() -> None:
    model = network()
    loop(Signed(list(model.parameters())), model)


def compiled_model() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    loop(torch.optim.SGD(model.parameters(), lr=0.1), compiled)  # type: ignore[arg-type]


def batches() -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(torch.randn(4 * ITERATIONS, 8)), batch_size=4)


def compiled_step() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    step = torch.compile(optimizer.step, backend="eager")
    for (data,) in batches():
        optimizer.zero_grad()
        model(data).sum().backward()
        step()


def compiled_iteration() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())

    @torch.compile(backend="eager")
    def iterate(data: torch.Tensor) -> None:
        optimizer.zero_grad()
        model(data).sum().backward()
        optimizer.step()

    for (data,) in batches():
        iterate(data)


def hand_written() -> None:
    model = network()
    for (data,) in batches():
        model(data).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
                parameter.grad = None


def explicit() -> None:
    model = network()
    for _ in range(ITERATIONS):
        model(batch()).sum().backward()
        perfkit.step()


def explicit_after_the_optimizer() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        model(batch()).sum().backward()
        optimizer.step()
        perfkit.step()


def checkpoints() -> None:
    from torch.distributed.checkpoint.state_dict_saver import save

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tempfile.TemporaryDirectory() as folder:
        for iteration in range(ITERATIONS):
            model(batch()).sum().backward()
            if iteration == 3:
                torch.save(model.state_dict(), f"{folder}/whole.pt")
            if iteration == 5:
                save(model.state_dict(), checkpoint_id=f"{folder}/sharded")
            if iteration == 7:
                torch.load(f"{folder}/whole.pt", weights_only=True)
            optimizer.step()


def zero_redundancy() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    model = network()
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.1)
    loop(optimizer, model)


def fully_sharded() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    loop(torch.optim.Adam(model.parameters()), model)


CASES = (
    plain,
    accumulation,
    overflowing_scaler,
    two_optimizers,
    optimizer_in_backward,
    applied_in_backward,
    scheduler,
    fused,
    foreach,
    lbfgs,
    nested_custom,
    compiled_model,
    compiled_step,
    compiled_iteration,
    hand_written,
    checkpoints,
    explicit,
    explicit_after_the_optimizer,
    zero_redundancy,
    fully_sharded,
)


def main() -> None:
    for number, case in enumerate(CASES):
        child = os.fork()
        if child == 0:
            sys.argv = [case.__name__]
            os.environ["RANK"] = str(number)
            try:
                case()
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
