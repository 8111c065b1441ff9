"""Accumulated gradients: exchange them once a step, or exchange them more rarely."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.ddp_buckets import needs_ddp
from perfkit.recipes.formulas import (
    exposed_ms,
    is_cpu,
    no_steps,
    predicted,
    replayed,
    sharded,
    step_ms,
)
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation


def once_a_step(situation: Situation) -> Prediction | Refusal:
    """Of k exchanges in a step one stays: exposed E becomes E / k."""
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    passes = situation.micro_batches
    if passes < 2:
        return Refusal(reason="a step has one backward pass: nothing is exchanged in vain")
    if situation.seen.get("no_sync"):
        return Refusal(reason="the script uses no_sync itself")
    if situation.seen.get("comm_hook"):
        return Refusal(reason="a communication hook with a state of its own may count exchanges")
    now, exposed = step_ms(situation.analysis), exposed_ms(situation.analysis, "all_reduce")
    why = f"of {passes} exchanges in a step one stays; {exposed:.0f} ms of them are exposed"
    return predicted(now, now - exposed * (1 - 1 / passes), min(exposed / now, 0.99), why)


def more_rarely(situation: Situation) -> Prediction | Refusal:
    """The gain is per sample: a step then holds `batches` of the script's."""
    if refusal := no_steps(situation) or sharded(situation):
        return refusal
    if situation.micro_batches > 1:
        return Refusal(reason="the script accumulates gradients already")
    now, exposed = step_ms(situation.analysis), exposed_ms(situation.analysis, "all_reduce")
    if not exposed and is_cpu(situation):
        return Refusal(reason="no exchange of gradients makes the step longer")
    if found := replayed(situation, "gradient-accumulation"):
        return found
    why = f"three of four exchanges ({exposed:.0f} ms exposed each) vanish, per sample"
    return predicted(now, now - exposed * 0.75, min(exposed / now, 0.99), why, {"batches": 4})


NO_SYNC = Recipe(
    id="no-sync",
    title="Exchange accumulated gradients once a step",
    addresses="communication",
    findings=("no_overlap", "bandwidth_bound_transfers", "slow_transfers"),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=once_a_step,
    in_rank="no_sync",
    refuses=(
        "the script uses no_sync, or a communication hook",
        "one backward pass in a step, or ranks that do not agree on their number",
        "parameters are DTensors or FSDP's",
    ),
    for_good="""\
from contextlib import nullcontext
for i, batch in enumerate(micro_batches):
    with model.no_sync() if i < len(micro_batches) - 1 else nullcontext():
        loss_of(model, batch).backward()""",
    caveat="sums are formed in another order (relative 1e-9)",
)
ACCUMULATE = Recipe(
    id="gradient-accumulation",
    title="Step once for several batches",
    addresses="communication",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.ALGORITHM,
    applicable=more_rarely,
    in_rank="accumulate",
    parameters=(
        Parameter(name="batches", default=4, help="batches of a step", choices=(2, 4, 8), least=2),
    ),
    refuses=("the script accumulates itself", "step takes a closure", "DTensor or FSDP parameters"),
    for_good="""\
for i, batch in enumerate(loader):
    last = (i + 1) % {batches} == 0
    with nullcontext() if last else model.no_sync():
        (loss_of(model, batch) / {batches}).backward()
    if last:
        optimizer.step()
        optimizer.zero_grad()""",
    caveat="the batch grows: the learning rate and its schedule have to follow",
)
