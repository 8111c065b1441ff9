"""Fixes that only the script's author can make: what, why, what it can gain at most."""

from collections.abc import Callable

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import (
    after_blame,
    is_cpu,
    no_steps,
    only_ceiling,
    replayed,
    share,
)
from perfkit.recipes.recipe import Application, Numerics, Prediction, Recipe, Situation

Applicable = Callable[[Situation], Prediction | Refusal]


def _of_classes(recipe: str, least: float, nothing: str, *classes: str) -> Applicable:
    def predict(situation: Situation) -> Prediction | Refusal:
        if refusal := no_steps(situation):
            return refusal
        part = share(situation.analysis, *classes)
        if part < least or (recipe == "cuda-graph" and is_cpu(situation)):
            return Refusal(reason=nothing)
        why = f"{part:.1%} of the step is {' and '.join(classes)}"
        return replayed(situation, recipe) or only_ceiling(part, why)

    return predict


def _compute_of_device(nothing: str) -> Applicable:
    def predict(situation: Situation) -> Prediction | Refusal:
        if refusal := no_steps(situation):
            return refusal
        if is_cpu(situation):
            return Refusal(reason=nothing)
        part = min(after_blame(situation.analysis, "compute"), 0.99)
        return only_ceiling(part, f"compute is {part:.0%} of the step")

    return predict


def _memory(situation: Situation) -> Prediction | Refusal:
    if refusal := no_steps(situation):
        return refusal
    if is_cpu(situation):
        return Refusal(reason="device memory limits nothing in a CPU run")
    return only_ceiling(0.0, "it saves memory, which a larger batch can use")


def _batch(situation: Situation) -> Prediction | Refusal:
    if refusal := no_steps(situation):
        return refusal
    busy = after_blame(situation.analysis, "compute")
    if busy > 0.5:
        return Refusal(reason=f"compute is {busy:.0%} of the step: it is not starved of work")
    return only_ceiling(1 - busy, f"compute is only {busy:.0%}; the rest is paid once a batch")


def _suggestion(
    name: str, title: str, addresses: str, applicable: Applicable, for_good: str, caveat: str
) -> Recipe:
    algorithm = name == "batch-size"
    return Recipe(
        id=name,
        title=title,
        addresses=addresses,
        findings=FINDINGS.get(name, ()),
        application=Application.SUGGESTION,
        numerics=Numerics.ALGORITHM if algorithm else Numerics.EXACT,
        applicable=applicable,
        refuses=("only the script's author can make it",),
        for_good=for_good,
        caveat=caveat,
    )


FINDINGS = {
    "no-item": ("host_syncs",),
    "async-checkpoint": ("checkpoint_stall",),
    "cuda-graph": ("launch_bound",),
    "non-blocking": ("exposed_copies", "pageable_copies"),
}
SUGGESTIONS = (
    _suggestion(
        "no-item",
        "Read values from the device rarely",
        "host",
        _of_classes("no-item", 0.01, "the host does not wait for the device", "host_sync"),
        """\
running += loss.detach()          # stays on the device
if step % 50 == 0:
    print((running / 50).item())  # one wait for 50 steps
    running.zero_()""",
        "not where the value decides what runs next",
    ),
    _suggestion(
        "non-blocking",
        "Copy batches without waiting",
        "io",
        _of_classes("non-blocking", 0.01, "no exposed copy was seen", "memcpy"),
        "batch = batch.to(device, non_blocking=True)  # from pinned memory",
        "never from the device to the host: the values may not be there yet",
    ),
    _suggestion(
        "async-checkpoint",
        "Write checkpoints beside the training",
        "io",
        _of_classes("async-checkpoint", 0.01, "no step stood still to save", "checkpoint"),
        """\
import torch.distributed.checkpoint as dcp
future = dcp.async_save({{"model": model.state_dict()}}, checkpoint_id=path)
...
future.result()  # before the next one""",
        "needs memory for one more copy; the file is complete only after result()",
    ),
    _suggestion(
        "fsdp2",
        "Shard parameters, gradients and optimizer (FSDP2)",
        "memory",
        _memory,
        """\
from torch.distributed.fsdp import fully_shard
for block in model.blocks:
    fully_shard(block)
fully_shard(model)  # before the optimizer is made""",
        "1.5 times DDP's communication; checkpoints change their format",
    ),
    _suggestion(
        "activation-checkpointing",
        "Compute activations again in backward instead of keeping them",
        "memory",
        _memory,
        """\
from torch.utils.checkpoint import checkpoint
x = checkpoint(block, x, use_reentrant=False)""",
        "about a third more compute; worth it for a larger batch only",
    ),
    _suggestion(
        "batch-size",
        "A larger batch",
        "host",
        _batch,
        "--batch-size 2x, learning rate by the linear rule (SGD) or its root (Adam)",
        "changes the optimisation: compare final evaluations",
    ),
    _suggestion(
        "cuda-graph",
        "Launch the step as one CUDA graph",
        "host",
        _of_classes(
            "cuda-graph",
            0.02,
            "launches do not hold the device up",
            "host_launch",
            "launch_latency",
        ),
        'model.compile(mode="reduce-overhead")',
        "shapes must not change and nothing may wait for the device",
    ),
    _suggestion(
        "sdpa",
        "Attention in one kernel",
        "compute",
        _compute_of_device("attention in one kernel gains on devices"),
        "F.scaled_dot_product_attention(q, k, v, is_causal=True)  # for softmax(q k^T) v",
        "look at the mask's meaning and at dropout",
    ),
)
