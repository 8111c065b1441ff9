"""Costs of fused attention, forward and backward: model FLOP against executed FLOP.

Forward: QK^T and PV, 2 B H S_q S_k (d_qk + d_v). Backward, model: twice that; executed: QK^T is
computed again, 2 B H S_q S_k (3 d_qk + 2 d_v), ten to the forward's four where d_qk = d_v. Causal
attention over equal lengths needs half, and flash kernels skip the other half (models.md 2.2).
"""

from collections.abc import Callable
from dataclasses import dataclass

from perfkit.roofline.cost import OpCost, Unit, UnknownCost
from perfkit.roofline.inputs import Inputs, Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """The sizes of one attention call."""

    batch: int
    heads: int
    query_length: int
    key_length: int
    d_qk: int
    d_v: int
    causal: bool

    @property
    def score_pairs(self) -> int:
        """Query-key pairs over batch and heads, the causal half only where lengths are equal."""
        pairs = self.batch * self.heads * self.query_length * self.key_length
        halved = self.causal and self.query_length == self.key_length
        return pairs // 2 if halved else pairs

    @property
    def forward_flop(self) -> int:
        """QK^T and PV."""
        return 2 * self.score_pairs * (self.d_qk + self.d_v)

    @property
    def backward_flop(self) -> int:
        """dQ, dK, dV and dP: what the mathematics of the backward pass needs."""
        return 2 * self.forward_flop

    @property
    def recomputed_flop(self) -> int:
        """QK^T once more in the backward, instead of having stored it."""
        return 2 * self.score_pairs * self.d_qk


@dataclass(frozen=True, slots=True)
class Signature:
    """Where an operator keeps its arguments."""

    query: int  # key and value follow
    causal: int | None  # position of is_causal; None: custom_mask_type instead
    heads_first: bool  # (B, H, S, D) rather than (B, S, H, D)
    backward: bool = False
    mask_type: int | None = None  # position of custom_mask_type, 1 and 2 are causal
    ragged: int | None = None  # position of cu_seqlens: given for batches of unequal lengths
    window: int | None = None  # position of window_size_left: not -1 or absent, local attention


def _problem(q: Tensor, k: Tensor, v: Tensor, *, heads_first: bool, causal: bool) -> Problem:
    if not len(q.dims) == len(k.dims) == len(v.dims) == 4:
        raise UnknownCost("attention over ragged batches: lengths are not recorded")
    seq, head = (2, 1) if heads_first else (1, 2)
    return Problem(
        batch=q.dims[0],
        heads=q.dims[head],
        query_length=q.dims[seq],
        key_length=k.dims[seq],
        d_qk=q.dims[3],
        d_v=v.dims[3],
        causal=causal,
    )


def _is_causal(call: Inputs, where: Signature) -> bool:
    if where.causal is not None:
        return call.flag(where.causal)
    assert where.mask_type is not None
    return call.integer(where.mask_type) in (1, 2)


def _output_bytes(q: Tensor, v: Tensor) -> int:
    return q.elements // q.dims[3] * v.dims[3] * q.kind.item_bytes


def _cost(call: Inputs, where: Signature) -> OpCost:
    q, k, v = (call.tensor(where.query + i) for i in range(3))
    if where.ragged is not None and call.has_tensor(where.ragged):
        raise UnknownCost("attention over ragged batches: lengths are not recorded")
    if where.window is not None and call.text(where.window) not in ("", "-1"):
        raise UnknownCost("local attention: the pairs it skips depend on the kernel")
    size = _problem(q, k, v, heads_first=where.heads_first, causal=_is_causal(call, where))
    inputs = q.bytes + k.bytes + v.bytes
    out = _output_bytes(q, v)
    if where.backward:
        return OpCost(
            family="attention",
            flop=size.backward_flop,
            recomputed_flop=size.recomputed_flop,
            read_bytes=inputs + 2 * out,  # out and grad_out
            written_bytes=inputs,
            precision=q.precision,
            unit=Unit.TENSOR,
        )
    return OpCost(
        family="attention",
        flop=size.forward_flop,
        read_bytes=inputs,
        written_bytes=out,
        precision=q.precision,
        unit=Unit.TENSOR,
    )


SIGNATURES: dict[str, Signature] = {
    "aten::_scaled_dot_product_flash_attention": Signature(0, 4, True),
    "aten::_scaled_dot_product_efficient_attention": Signature(0, 6, True),
    "aten::_scaled_dot_product_cudnn_attention": Signature(0, 6, True),
    "aten::_scaled_dot_product_fused_attention_overrideable": Signature(0, 5, True),
    "aten::_scaled_dot_product_flash_attention_for_cpu": Signature(0, 4, True),
    "aten::_flash_attention_forward": Signature(0, 8, False, ragged=3, window=11),
    "aten::_cudnn_attention_forward": Signature(0, 10, True, ragged=4),
    "aten::_efficient_attention_forward": Signature(0, None, False, mask_type=9, ragged=4),
    "flash_attn::_flash_attn_forward": Signature(0, 5, False, window=6),
    "flash_attn_3::fwd": Signature(0, 24, False, ragged=7, window=25),
    "aten::_scaled_dot_product_flash_attention_backward": Signature(1, 11, True, True),
    "aten::_scaled_dot_product_efficient_attention_backward": Signature(1, 11, True, True),
    "aten::_scaled_dot_product_cudnn_attention_backward": Signature(1, 14, True, True),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": Signature(1, 7, True, True),
    "aten::_flash_attention_backward": Signature(1, 11, False, True, ragged=6, window=15),
    "aten::_cudnn_attention_backward": Signature(1, 14, True, True, ragged=9),
    "aten::_efficient_attention_backward": Signature(1, None, False, True, mask_type=14, ragged=6),
    "flash_attn::_flash_attn_backward": Signature(1, 11, False, True, window=12),
    "flash_attn_3::bwd": Signature(1, 16, False, True, ragged=9, window=17),
}


def _bound(where: Signature) -> Callable[[Inputs], OpCost]:
    return lambda call: _cost(call, where)


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    name: _bound(where) for name, where in SIGNATURES.items()
}
