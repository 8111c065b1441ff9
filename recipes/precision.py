"""Matrix products in fewer bits: autocast to bf16 or fp16, TF32, bf16 inside fp32 products."""

import re

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import no_steps, predicted, replayed, step_ms
from perfkit.recipes.matrix_roofs import by_measured_roofs
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation

MATRIX = re.compile(r"mm\b|matmul|linear|conv|gemm|attention|bmm", re.IGNORECASE)
CAUTIOUS = 2.0
"""Assumed speed-up of matrix work, as in `whatif --amp`; never the ratio of peaks."""


def matrix_share(situation: Situation) -> float:
    """Return the share of the windows in matrix operators or kernels, by name."""
    rows = situation.analysis.operators
    return min(sum(r.share for r in rows if MATRIX.search(r.name)), 0.99)


def own_precision(situation: Situation) -> Refusal | None:
    """Refuse where the script chose a precision."""
    if refusal := no_steps(situation):
        return refusal
    if situation.seen.get("autocast") or situation.fact("autocast"):
        return Refusal(reason="the script uses autocast itself")
    if situation.seen.get("grad_scaler"):
        return Refusal(reason="the script uses a GradScaler itself")
    if situation.fact("model", "dtypes") not in (None, ["float32"]):
        return Refusal(reason="the parameters are not all fp32")
    return None


def matrix_work(situation: Situation, precision: str) -> Prediction | Refusal:
    """By measured roofs; else step' = step - s step (1 - 1/2), s the share of matrix work."""
    share = matrix_share(situation)
    if share < 0.05:
        return Refusal(reason=f"only {share:.0%} of the step is matrix work by its operators")
    if found := by_measured_roofs(situation, precision):
        return found
    now = step_ms(situation.analysis)
    why = f"{share:.0%} of the step is matrix work, taken as {CAUTIOUS:g} times as fast"
    return predicted(now, now * (1 - share * (1 - 1 / CAUTIOUS)), share, why)


def amp(situation: Situation) -> Prediction | Refusal:
    """The replay where kernels are known, else measured roofs, else the formula."""
    if refusal := own_precision(situation):
        return refusal
    return replayed(situation, "amp-bf16") or matrix_work(situation, "bf16")


def amp_fp16(situation: Situation) -> Prediction | Refusal:
    """As bf16, with a scaler; for devices that have no bf16."""
    if refusal := own_precision(situation):
        return refusal
    if situation.seen.get("sharded_parameters"):
        return Refusal(reason="ranks would have to agree on overflows of sharded gradients")
    return matrix_work(situation, "fp16")


def products(situation: Situation) -> Prediction | Refusal:
    """fp32 products with shorter mantissas: TF32 on a device, bf16 on CPU."""
    return own_precision(situation) or matrix_work(situation, "tf32")


AMP_BF16 = Recipe(
    id="amp-bf16",
    title="Compute in bf16 where it is safe (autocast)",
    addresses="compute",
    findings=("fp32_matmul",),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=amp,
    in_rank="amp",
    refuses=(
        "the script uses autocast or a GradScaler, or parameters that are not fp32",
        "the hardware has no bf16 (sm_80, AMX or AVX512-BF16)",
        "a torch.autograd.Function of the script's without custom_fwd",
    ),
    for_good="""\
with torch.autocast(device_type, dtype=torch.bfloat16):
    output = model(inputs)
output = output.float()  # the loss in fp32""",
    caveat="about three significant digits in activations",
)
AMP_FP16 = Recipe(
    id="amp-fp16",
    title="Compute in fp16 with a loss scaler that the script does not see",
    addresses="compute",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=amp_fp16,
    in_rank="amp",
    parameters=(
        Parameter(name="scale", default=65536.0, help="the first scale, a power of 2", least=1),
    ),
    refuses=(
        *AMP_BF16.refuses[:1],
        "gradients by torch.autograd.grad, create_graph, or a step with a closure",
        "parameters are DTensors or FSDP's",
    ),
    for_good="""\
scaler = torch.amp.GradScaler(device_type)
with torch.autocast(device_type, dtype=torch.float16):
    output = model(inputs)
scaler.scale(loss).backward()
scaler.unscale_(optimizer)  # before gradients are clipped or logged
scaler.step(optimizer)
scaler.update()""",
    caveat="steps with an overflow are skipped, as with GradScaler",
)
TF32 = Recipe(
    id="tf32",
    title="fp32 matrix products with shorter mantissas (TF32; bf16 on CPU)",
    addresses="compute",
    findings=("fp32_matmul",),
    application=Application.PATCH,
    numerics=Numerics.NUMERICS,
    applicable=products,
    in_rank="matmul",
    parameters=(
        Parameter(
            name="precision",
            default="auto",
            help="high, medium; auto: high on a device, medium on CPU",
            choices=("auto",),
            pattern="auto|high|medium",
        ),
    ),
    refuses=(
        "the script sets a precision of its own, by whichever interface",
        "autocast: its products are short already",
    ),
    for_good='torch.set_float32_matmul_precision("{precision}")  # once, before training',
    caveat="10 bits of mantissa (high), 7 on CPU (medium)",
)
