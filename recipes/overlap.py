"""All-reduce each gradient by hand after backward: start it during backward instead, in buckets."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import (
    after_blame,
    calls,
    exposed_ms,
    no_steps,
    predicted,
    sharded,
    step_ms,
)
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation

BUCKET_MB = 2.0
BACKWARD = 2 / 3
"""Share of compute that is backward: it computes two products for each one of forward."""


def by_hand(situation: Situation) -> Refusal | None:
    """Refuse where gradients are not exchanged by the script's own all-reduces."""
    if situation.fact("ddp") is not None:
        return Refusal(reason="DistributedDataParallel exchanges the gradients already")
    tensors = situation.seen.get("parameter_tensors")
    if calls(situation.analysis, "all_reduce") < 2:
        return Refusal(reason="the script makes no all-reduce for each gradient")
    if isinstance(tensors, int) and calls(situation.analysis, "all_reduce") < tensors:
        return Refusal(reason="there are fewer all-reduces in a step than gradients")
    return sharded(situation)


def predict(situation: Situation) -> Prediction | Refusal:
    """Step' = step - T + max(tail, T + lead - B): transfers hide behind what is left of backward.

    T exposed all-reduce time, B backward, lead the part of B until the first bucket is full, tail
    the last bucket's transfer.
    """
    if refusal := no_steps(situation) or by_hand(situation):
        return refusal
    if situation.micro_batches > 1:
        return Refusal(reason="a step has several backward passes: gradients are not final in each")
    analysis = situation.analysis
    now, exposed = step_ms(analysis), exposed_ms(analysis, "all_reduce")
    gradients = situation.number("model", "gradient_bytes") or 1.0
    bucket = min(BUCKET_MB * 2**20 / gradients, 1.0)
    backward = BACKWARD * after_blame(analysis, "compute") * now
    then = now - exposed + max(exposed * bucket, exposed + backward * bucket / 2 - backward)
    why = (
        f"{exposed:.0f} ms of all-reduce can hide behind about {backward:.0f} ms of backward; "
        f"the last of {1 / bucket:.0f} buckets stays exposed"
    )
    return predicted(now, then, min(exposed / now, 0.99), why)


OVERLAP = Recipe(
    id="overlap",
    title="Overlap hand-made gradient all-reduces with backward",
    addresses="communication",
    findings=("no_overlap",),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=predict,
    in_rank="manual_gradients",
    parameters=(
        Parameter(
            name="mb",
            default=BUCKET_MB,
            help="MiB of gradients in a bucket",
            choices=(2.0, 4.0),
            least=0.001,
        ),
    ),
    refuses=(
        "a gradient is reduced more than once, not by a blocking SUM, or changed before it is",
        "several backward passes in a step",
        "parameters are DTensors or FSDP's",
        "ranks do not agree on all of this over two steps",
    ),
    for_good="""\
# wrap the model once, and delete the loop that all-reduces and divides each gradient
from torch.nn.parallel import DistributedDataParallel
model = DistributedDataParallel(model, bucket_cap_mb={mb})""",
    caveat="bit-equal for two ranks; rings of more ranks may add in another order",
)
