"""DDP's buckets: small enough that transfers begin early, large enough that latency stays small."""

import math
from dataclasses import replace

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import (
    after_blame,
    exposed_ms,
    no_steps,
    predicted,
    sharded,
    step_ms,
    transfer_ms,
)
from perfkit.recipes.overlap import BACKWARD
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation

MIB = 2**20
SIZES_MB = (1.0, 2.0, 4.0, 10.0, 25.0, 50.0, 100.0)
SEARCHED = 4
"""So many sizes are measured by a search, those that the formula ranks first."""
FIRST_MB = 1.0
"""DDP's first bucket unless a size is given (torch.distributed._DEFAULT_FIRST_BUCKET_BYTES)."""
DEFAULT_MB = 25.0
ALPHA_MS = 0.25
"""Latency of one all-reduce where this run allows no fit: gloo's, measured."""


def needs_ddp(situation: Situation) -> Refusal | None:
    """Refuse without a DistributedDataParallel."""
    if situation.fact("ddp") is None:
        return Refusal(reason="the script uses no DistributedDataParallel")
    return sharded(situation)


def exposed_with(size_mb: float, total_mb: float, wire_ms: float, backward_ms: float) -> float:
    """Return the exposed transfer of gradients in buckets: max(tail, T + lead - B).

    T = K alpha + wire, lead = B * bucket / G until the first bucket is full, tail = T / K.
    """
    number = max(math.ceil(total_mb / size_mb), 1)
    transfer = number * ALPHA_MS + wire_ms
    lead = backward_ms / number
    return max(transfer / number, transfer + lead - backward_ms)


def predict(situation: Situation) -> Prediction | Refusal:
    """Rank the sizes by the formula; the measured exposed time stands for the present size.

    Of sizes with the same number of buckets the largest stands for all. The best ones are worth
    measuring: near the optimum the formula is flatter than it is exact.
    """
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    analysis = situation.analysis
    gradients = situation.number("model", "gradient_bytes") / MIB
    exposed, wire = exposed_ms(analysis, "all_reduce"), transfer_ms(analysis, "all_reduce")
    if not gradients or not exposed:
        return Refusal(reason="no exposed all-reduce of gradients was seen")
    now = step_ms(analysis)
    backward = BACKWARD * after_blame(analysis, "compute") * now
    present = (situation.number("ddp", "bucket_cap_bytes") or DEFAULT_MB * MIB) / MIB
    if present != DEFAULT_MB:
        return Refusal(reason=f"the script chose bucket_cap_mb={present:g} itself")
    wire = max(wire, exposed)
    sizes = {math.ceil(gradients / size): size for size in SIZES_MB if size <= present}.values()
    costs = {size: exposed_with(size, gradients, wire, backward) for size in sizes}
    ranked = sorted(costs, key=lambda size: (round(costs[size], 1), -size))[:SEARCHED]
    best, *others = (_with_size(now, exposed, gradients, size, costs[size]) for size in ranked)
    return replace(best, others=tuple(others))


def _with_size(
    now_ms: float, exposed_now_ms: float, gradients_mb: float, size_mb: float, exposed: float
) -> Prediction:
    then = now_ms - exposed_now_ms + min(exposed, exposed_now_ms)
    why = (
        f"{gradients_mb:.0f} MiB of gradients in buckets of {size_mb:g} MiB leave "
        f"{exposed:.0f} of {exposed_now_ms:.0f} ms exposed"
    )
    return predicted(now_ms, then, min(exposed_now_ms / now_ms, 0.99), why, {"mb": size_mb})


RECIPE = Recipe(
    id="ddp-buckets",
    title="Choose DDP's bucket size, the first bucket's included",
    addresses="communication",
    findings=("latency_bound_transfers", "tiny_messages", "huge_bucket", "no_overlap"),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=predict,
    in_rank="ddp_arguments",
    parameters=(
        Parameter(
            name="mb",
            default=4.0,
            help="bucket_cap_mb",
            choices=(4.0, 1.0, 10.0, 25.0, 50.0),
            least=0.001,
        ),
    ),
    refuses=("the script gives bucket_cap_mb itself", "parameters are DTensors or FSDP's"),
    for_good="model = DistributedDataParallel(model, bucket_cap_mb={mb})",
    caveat="for more than two ranks sums may be formed in another order",
)
