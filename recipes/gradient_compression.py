"""Send gradients in fewer bytes: 16 bit, or PowerSGD's low-rank factors."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.ddp_buckets import needs_ddp
from perfkit.recipes.formulas import (
    calls,
    ceiling_of,
    exposed_ms,
    is_cpu,
    no_steps,
    only_ceiling,
    predicted,
    step_ms,
    transfer_ms,
)
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation

REFUSES = (
    "the script registers a communication hook itself",
    "gradients are not fp32",
    "parameters are DTensors or FSDP's",
)


def suited(situation: Situation) -> Refusal | None:
    """Refuse what the hooks cannot work on."""
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    if situation.seen.get("comm_hook"):
        return Refusal(reason="the script registers a communication hook itself")
    if situation.fact("model", "dtypes") not in (None, ["float32"]):
        return Refusal(reason="gradients are not all fp32: there is nothing to halve")
    if not exposed_ms(situation.analysis, "all_reduce"):
        return Refusal(reason="no all-reduce makes the step longer")
    return None


def halved(situation: Situation) -> Prediction | Refusal:
    """Exposed E of transfers T becomes max(E - T/2, half the last bucket's share)."""
    if refusal := suited(situation):
        return refusal
    analysis = situation.analysis
    now, exposed = step_ms(analysis), exposed_ms(analysis, "all_reduce")
    transfer = max(transfer_ms(analysis, "all_reduce"), exposed)
    last = min(exposed, transfer / max(calls(analysis, "all_reduce"), 1.0))
    then = now - exposed + max(exposed - transfer / 2, last / 2)
    why = f"{transfer:.0f} ms of transfers halve, of which {exposed:.0f} ms are exposed"
    return predicted(now, then, min(exposed / now, 0.99), why)


def low_rank(situation: Situation) -> Prediction | Refusal:
    """A matrix of m x n is sent as r (m + n) numbers; what remains depends on the shapes."""
    if refusal := suited(situation):
        return refusal
    now, exposed = step_ms(situation.analysis), exposed_ms(situation.analysis, "all_reduce")
    most = ceiling_of(exposed / now)
    return only_ceiling(exposed / now, f"at most {most:.2f}x: transfers all but vanish")


def fp16(situation: Situation) -> Prediction | Refusal:
    """As bf16, where bf16 is at no advantage: sums may overflow."""
    if is_cpu(situation) and not situation.fact("ddp"):
        return Refusal(reason="the script uses no DistributedDataParallel")
    return halved(situation)


BF16 = Recipe(
    id="bf16-gradients",
    title="Send gradients as bf16",
    addresses="communication",
    findings=("bandwidth_bound_transfers", "slow_transfers"),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=halved,
    in_rank="comm_hook",
    refuses=REFUSES,
    for_good="""\
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
def bf16_gradients(state, bucket):  # under its own name: DDP refuses the original off CUDA
    return default_hooks.bf16_compress_hook(state, bucket)
model.register_comm_hook(None, bf16_gradients)""",
    caveat="gradients are rounded to 8 bits of mantissa at each hop",
)
FP16 = Recipe(
    id="fp16-gradients",
    title="Send gradients as fp16",
    addresses="communication",
    findings=("bandwidth_bound_transfers", "slow_transfers"),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=fp16,
    in_rank="comm_hook",
    refuses=REFUSES,
    for_good="""\
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
model.register_comm_hook(None, default_hooks.fp16_compress_hook)""",
    caveat="gradients above 65504 overflow",
)
POWERSGD = Recipe(
    id="powersgd",
    title="Send low-rank factors of gradients (PowerSGD)",
    addresses="communication",
    findings=("bandwidth_bound_transfers",),
    application=Application.PATCH,
    numerics=Numerics.ALGORITHM,
    applicable=low_rank,
    in_rank="comm_hook",
    parameters=(
        Parameter(name="rank", default=2, help="rank of the factors", choices=(2, 1, 4), least=1),
        Parameter(name="start", default=10, help="steps of plain all-reduce first", least=2),
    ),
    refuses=REFUSES[:1] + REFUSES[2:],
    for_good="""\
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook
state = powerSGD_hook.PowerSGDState(
    None, matrix_approximation_rank={rank}, start_powerSGD_iter=1000)
model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)""",
    caveat="changes the trajectory: compare final evaluations; start after 1000 steps for good",
)
