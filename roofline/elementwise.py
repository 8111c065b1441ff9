"""Costs of operators that work element by element: one FLOP per output element and operation.

Each tensor input is read at its own size (a broadcast one is small), the output is the broadcast of
all inputs and is written once. Fills and random numbers only write. Views move nothing.
"""

from collections.abc import Callable
from functools import partial

from perfkit.roofline.cost import OpCost, Unit, UnknownCost
from perfkit.roofline.dtypes import ELEMENT_TYPES, ElementType, is_floating
from perfkit.roofline.inputs import Inputs, Tensor

Formula = Callable[[Inputs], OpCost]


def broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The shape that these shapes broadcast to, by torch's rule."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[int] = []
    for axis in range(-rank, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise UnknownCost("these shapes do not broadcast")
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def promoted(tensors: tuple[Tensor, ...]) -> ElementType:
    """The result type: the widest of the floating inputs with dimensions, else of all inputs.

    A zero-dimensional tensor (a wrapped number) does not widen one that has dimensions.
    """
    shaped = [t for t in tensors if t.dims] or list(tensors)
    floating = [t for t in shaped if is_floating(t.precision)]
    return max((t.kind for t in floating or shaped), key=lambda kind: kind.item_bytes)


def _elementwise(call: Inputs, *, arity: int, flop: int, into: str) -> OpCost:
    """At most `arity` tensors are read; one more is the target of an out= call."""
    tensors = call.tensors()[:arity]
    if not tensors:
        raise UnknownCost("no tensor argument recorded")
    elements = Tensor(broadcast(tuple(t.dims for t in tensors)), tensors[0].kind).elements
    kind = promoted(tensors)
    result = ELEMENT_TYPES[into] if into else kind
    return OpCost(
        family="elementwise",
        flop=flop * elements,
        read_bytes=sum(t.bytes for t in tensors),
        written_bytes=elements * result.item_bytes,
        precision=kind.precision,
    )


def _in_place(call: Inputs, *, flop: int) -> OpCost:
    target, tensors = call.tensor(0), call.tensors()
    return OpCost(
        family="elementwise",
        flop=flop * target.elements,
        read_bytes=sum(t.bytes for t in tensors),
        written_bytes=target.bytes,
        precision=target.precision,
    )


def _copy(call: Inputs) -> OpCost:
    """copy_(target, source): a cast where their types differ."""
    target, source = call.tensor(0), call.tensor(1)
    return OpCost(
        family="copy",
        flop=0,
        unit=Unit.NONE,
        read_bytes=source.bytes,
        written_bytes=target.bytes,
        precision=target.precision,
    )


def _write_only(call: Inputs) -> OpCost:
    target = call.tensor(0)
    return OpCost(
        family="fill",
        flop=0,
        unit=Unit.NONE,
        read_bytes=0,
        written_bytes=target.bytes,
        precision=target.precision,
    )


def _concatenate(call: Inputs) -> OpCost:
    parts = call.tensor_list(0)
    size = sum(t.bytes for t in parts)
    return OpCost(
        family="copy",
        flop=0,
        unit=Unit.NONE,
        read_bytes=size,
        written_bytes=size,
        precision=parts[0].precision,
        assumed=f"tensor lists record no dtype: {parts[0].precision} assumed",
    )


def _foreach(call: Inputs, *, flop: int) -> OpCost:
    lists = [i for i, kind in enumerate(call.shape.dtypes) if kind == "TensorList"]
    read = [call.tensor_list(i) for i in lists]
    elements = sum(t.elements for t in read[0])
    precision = read[0][0].precision
    return OpCost(
        family="foreach",
        flop=flop * elements,
        read_bytes=sum(t.bytes for tensors in read for t in tensors),
        written_bytes=sum(t.bytes for t in read[0]),
        precision=precision,
        assumed=f"tensor lists record no dtype: {precision} assumed",
    )


def _nothing(call: Inputs) -> OpCost:
    """A view or an allocation: no element is touched."""
    return OpCost(
        family="view", flop=0, unit=Unit.NONE, read_bytes=0, written_bytes=0, precision=""
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_UNARY = _names(
    """
    abs neg exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan tanh sigmoid
    relu silu gelu mish erf erfc square ceil floor round trunc sign sgn frac logit hardtanh
    hardswish hardsigmoid leaky_relu elu softplus threshold nan_to_num bitwise_not cumsum
    cumprod tril triu
    """
)
_BINARY = _names(
    """
    add sub mul div rsub divide true_divide floor_divide remainder fmod maximum minimum atan2
    pow bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__ __lshift__ __rshift__ prelu
    clamp_min clamp_max sigmoid_backward tanh_backward threshold_backward gelu_backward
    silu_backward hardtanh_backward hardswish_backward leaky_relu_backward elu_backward
    softplus_backward native_dropout_backward
    """
)
_TERNARY = _names(
    """
    where clamp masked_fill mse_loss_backward smooth_l1_loss_backward log_sigmoid_backward
    """
)
_FUSED_TERNARY = _names(
    """
    addcmul addcdiv lerp
    """
)
_COMPARISON = _names(
    """
    eq ne lt le gt ge logical_and logical_or logical_xor logical_not isnan isinf isfinite
    isposinf isneginf
    """
)
_WRITE_ONLY = _names(
    """
    fill_ zero_ normal_ uniform_ random_ bernoulli_ exponential_
    """
)
_VIEWS = _names(
    """
    view _unsafe_view as_strided as_strided_ _reshape_alias transpose transpose_ t t_ permute
    numpy_T expand expand_as slice select narrow unsqueeze unsqueeze_ squeeze squeeze_ detach
    detach_ alias unbind split split_with_sizes chunk unflatten view_as movedim swapaxes
    diagonal lift_fresh resolve_conj resolve_neg real imag empty empty_like empty_strided
    new_empty new_empty_strided resize_ set_ result_type is_pinned record_stream
    cudnn_is_acceptable
    """
)
_FOREACH = _names(
    """
    add sub mul div sqrt neg abs reciprocal pow exp log maximum minimum clamp_min clamp_max
    sigmoid
    """
)


def _with_arity(
    names: tuple[str, ...], tensors: int, flop: int, into: str = ""
) -> dict[str, Formula]:
    table: dict[str, Formula] = {}
    for name in names:
        table[f"aten::{name}"] = partial(_elementwise, arity=tensors, flop=flop, into=into)
        table[f"aten::{name}_"] = partial(_in_place, flop=flop)
    return table


def _on_lists(names: tuple[str, ...], flop: int) -> dict[str, Formula]:
    formula = partial(_foreach, flop=flop)
    return {f"aten::_foreach_{name}{end}": formula for name in names for end in ("", "_")}


def _foreach_copy(call: Inputs) -> OpCost:
    target, source = call.tensor_list(0), call.tensor_list(1)
    return OpCost(
        family="foreach",
        flop=0,
        unit=Unit.NONE,
        read_bytes=sum(t.bytes for t in source),
        written_bytes=sum(t.bytes for t in target),
        precision=target[0].precision,
        assumed=f"tensor lists record no dtype: {target[0].precision} assumed",
    )


def _foreach_zero(call: Inputs) -> OpCost:
    target = call.tensor_list(0)
    return OpCost(
        family="foreach",
        flop=0,
        unit=Unit.NONE,
        read_bytes=0,
        written_bytes=sum(t.bytes for t in target),
        precision=target[0].precision,
        assumed=f"tensor lists record no dtype: {target[0].precision} assumed",
    )


def _dropout(call: Inputs) -> OpCost:
    """native_dropout: the scaled input and a boolean mask are written."""
    x = call.tensor(0)
    return OpCost(
        family="elementwise",
        flop=2 * x.elements,
        read_bytes=x.bytes,
        written_bytes=x.bytes + x.elements,
        precision=x.precision,
    )


COSTS: dict[str, Formula] = {
    "aten::copy_": _copy,
    "aten::cat": _concatenate,
    "aten::native_dropout": _dropout,
    "aten::_foreach_copy_": _foreach_copy,
    "aten::_foreach_zero_": _foreach_zero,
    **{f"aten::{name}": _nothing for name in _VIEWS},
    **{f"aten::{name}": _write_only for name in _WRITE_ONLY},
    **_with_arity(_UNARY, 1, 1),
    **_with_arity(_BINARY, 2, 1),
    **_with_arity(_TERNARY, 3, 1),
    **_with_arity(_FUSED_TERNARY, 3, 3),
    **_with_arity(_COMPARISON, 2, 1, into="bool"),
    **_on_lists(_FOREACH, 1),
    **_on_lists(_FUSED_TERNARY, 3),
}
