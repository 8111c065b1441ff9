"""Faster kernels for the same work: memory format, compilation, fused optimizers, ZeRO-1."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import (
    finding,
    no_steps,
    only_ceiling,
    predicted,
    sharded,
    share,
    step_ms,
)
from perfkit.recipes.recipe import Application, Numerics, Prediction, Recipe, Situation

FUSABLE = ("Adam", "AdamW", "SGD", "Adagrad")
FUSED = 2.9
"""AdamW of 160 tensors, loop over fused, on CPU (recipes.md section 2)."""
CONVOLUTION = ("conv",)


def format_of_images(situation: Situation) -> Prediction | Refusal:
    """Convolutions alone can gain: 1.12x measured on a CPU, 8 to 35 % on GPUs with AMP."""
    if refusal := no_steps(situation) or sharded(situation):
        return refusal
    if not situation.seen.get("convolutions"):
        return Refusal(reason="no parameter has four dimensions: there is no 2-D convolution")
    rows = situation.analysis.operators
    part = min(sum(r.share for r in rows if any(c in r.name for c in CONVOLUTION)), 0.99)
    if part < 0.05:
        return Refusal(reason=f"convolutions take {part:.0%} of the step")
    now = step_ms(situation.analysis)
    why = f"convolutions take {part:.0%} of the step; 1.12x measured on such work"
    return predicted(now, now * (1 - part * (1 - 1 / 1.12)), part, why)


def compiled(situation: Situation) -> Prediction | Refusal:
    """Fusion gains on what is neither matrix work nor waiting; how much, only a trial says."""
    if refusal := no_steps(situation) or sharded(situation):
        return refusal
    if situation.seen.get("compiled"):
        return Refusal(reason="the script compiles its model itself")
    classes = ("compute", "host_launch", "launch_latency")
    part = min(share(situation.analysis, *classes), 0.99)
    return only_ceiling(part, "kernels are fused and launched together; only a trial says")


def fused(situation: Situation) -> Prediction | Refusal:
    """Step' = step - o (1 - 1/2.9), o the time in the optimizer's kernels."""
    if refusal := no_steps(situation) or sharded(situation):
        return refusal
    if situation.fact("optimizer", "class") not in FUSABLE:
        return Refusal(reason=f"only {', '.join(FUSABLE)} have a fused form")
    if situation.fact("optimizer", "fused") or situation.fact("optimizer", "foreach") is not None:
        return Refusal(reason="the script chose fused or foreach itself")
    found = finding(situation.analysis, ("unfused_optimizer",))
    if found is None or found.gain_ceiling is None:
        return Refusal(reason="the optimizer's step takes too little to be worth it")
    part, now = 1 - 1 / found.gain_ceiling, step_ms(situation.analysis)
    why = f"the optimizer takes {part:.0%} of the step; fused {FUSED:g} times as fast"
    return predicted(now, now * (1 - part * (1 - 1 / FUSED)), part, why)


def split_state(situation: Situation) -> Prediction | Refusal:
    """The optimizer's work divides by the ranks, a broadcast of the parameters is added."""
    if refusal := no_steps(situation) or sharded(situation):
        return refusal
    if situation.analysis.world.size < 2:
        return Refusal(reason="one rank has nobody to share with")
    if situation.fact("optimizer", "class") not in FUSABLE:
        return Refusal(reason=f"tried with {', '.join(FUSABLE)} only")
    if situation.seen.get("optimizer_state_saved"):
        return Refusal(reason="the script saves the optimizer's state, which would be in parts")
    found = finding(situation.analysis, ("unfused_optimizer",))
    part = 1 - 1 / found.gain_ceiling if found and found.gain_ceiling else 0.0
    return only_ceiling(part, "memory for the optimizer's state divides by the ranks")


CHANNELS_LAST = Recipe(
    id="channels-last",
    title="Keep images channels last",
    addresses="compute",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=format_of_images,
    in_rank="channels_last",
    refuses=(
        "there is no 2-D convolution",
        "a dry forward of a copy fails, as .view() on its outputs does",
    ),
    for_good="""\
model = model.to(memory_format=torch.channels_last)  # before DDP
images = images.to(memory_format=torch.channels_last)""",
    caveat="the same products, summed in another order",
)
COMPILE = Recipe(
    id="compile",
    title="Compile the model (torch.compile)",
    addresses="compute",
    findings=("launch_bound",),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=compiled,
    in_rank="compiling",
    refuses=(
        "the model is compiled already",
        "there is no C++ compiler (CPU) or no triton (CUDA)",
        "more than 10 graph breaks or recompilations that go on",
    ),
    for_good="model.compile()  # in place, before DDP: state_dict keeps its keys",
    caveat="the first steps compile: count how long until that is earned back",
)
FUSED_OPTIMIZER = Recipe(
    id="fused-optimizer",
    title="One fused kernel for the optimizer's step",
    addresses="host",
    findings=("unfused_optimizer",),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=fused,
    in_rank="fused_optimizer",
    refuses=(
        "the script gives fused, foreach, differentiable or capturable itself",
        "parameters are not all floating point on one device, or DTensors",
        "a subclass of the optimizer, which may override its parts",
    ),
    for_good="optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)",
    caveat="rounding differs by about 1e-9",
)
ZERO1 = Recipe(
    id="zero1",
    title="Divide the optimizer's state among the ranks (ZeRO-1)",
    addresses="memory",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=split_state,
    in_rank="zero1",
    refuses=(
        "the script saves the optimizer's state",
        "one rank, parameter groups, or an optimizer other than Adam, AdamW, SGD, Adagrad",
        "parameters are DTensors or FSDP's",
    ),
    for_good="""\
from torch.distributed.optim import ZeroRedundancyOptimizer
optimizer = ZeroRedundancyOptimizer(
    model.parameters(), optimizer_class=torch.optim.AdamW, lr=lr)
# before saving its state, on every rank: optimizer.consolidate_state_dict(0)""",
    caveat="isinstance(optimizer, AdamW) is False then",
)
