"""Model FLOP utilization: FLOP per token by three conventions, and their ratio to a peak.

The conventions differ by up to 20 % on the same run, so every figure names its own (models.md 2.3).
"""

from dataclasses import dataclass
from enum import StrEnum


class Convention(StrEnum):
    """Which FLOP an MFU counts."""

    PALM = "palm"  # 6N + 12 L H Q T: every parameter, full (not causal) attention
    MEGATRON = "megatron-causal"  # matrix products only, causal attention at half
    SIX_N = "6N"  # every parameter, attention left out: where the architecture is not recorded
    OPERATORS = "operators"  # the model's matrix products as captured, recomputation left out
    EXECUTED = "executed"  # matrix products as captured, recomputation included (HFU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """The sizes of a decoder-only transformer that FLOP formulas need."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    sequence: int
    gated: bool = True  # SwiGLU: three feed-forward matrices instead of two


def palm_flop_per_token(
    parameters: float, *, layers: int, heads: int, head_size: int, sequence: int
) -> float:
    """6N + 12 L H Q T: forward and backward, attention over the full square (PaLM, appendix B)."""
    return 6 * parameters + 12 * layers * heads * head_size * sequence


def hardware_flop_per_token(
    parameters: float, *, layers: int, heads: int, head_size: int, sequence: int
) -> float:
    """8N + 16 L H Q T: the same with full activation recomputation (HFU)."""
    return 8 * parameters + 16 * layers * heads * head_size * sequence


def causal_flop_per_token(
    parameters_without_embedding: float, *, layers: int, hidden: int, sequence: int
) -> float:
    """6 (N - embeddings) + 6 l h s: the short form of the Megatron-core convention."""
    return 6 * parameters_without_embedding + 6 * layers * hidden * sequence


def megatron_core_flop_per_token(model: Transformer) -> float:
    """Megatron-core's count: attention, feed-forward and logits, causal half, times three.

    Per token and layer 4 h (h + h g/heads + s/2) for attention and 4 f h (x 1.5 gated), plus 2 h V.
    """
    h = model.hidden
    grouped = h * model.kv_heads / model.heads
    attention = 4 * h * (h + grouped + model.sequence / 2)
    feed_forward = 4 * model.feed_forward * h * (1.5 if model.gated else 1.0)
    logits = 2 * h * model.vocabulary
    return 3 * (model.layers * (attention + feed_forward) + logits)


def megatron_flop_per_iteration(model: Transformer, *, batch: int, recompute: bool = True) -> float:
    """96 B s l h^2 (1 + s/6h + V/16lh), 72 without recomputation (Narayanan et al. 2021)."""
    s, layers, h = model.sequence, model.layers, model.hidden
    share = 1 + s / (6 * h) + model.vocabulary / (16 * layers * h)
    return (96 if recompute else 72) * batch * s * layers * h**2 * share


def training_days(
    *, tokens: float, parameters: float, gpus: int, flop_per_s_and_gpu: float
) -> float:
    """8 T P / (n X) in days: full recomputation (Narayanan et al. 2021)."""
    return 8 * tokens * parameters / (gpus * flop_per_s_and_gpu) / 86400


def utilization(
    *, tokens_per_s: float, flop_per_token: float, devices: int, peak_flop_per_s: float
) -> float:
    """Achieved share of the peak of all devices; above 1 something is wrong with an input."""
    return tokens_per_s * flop_per_token / (devices * peak_flop_per_s)
