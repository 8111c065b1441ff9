"""Costs of reductions, losses and pooling: one FLOP per element read, all of it read once."""

from collections.abc import Callable
from functools import partial
from math import prod

from perfkit.roofline.cost import OpCost, UnknownCost
from perfkit.roofline.dtypes import ELEMENT_TYPES
from perfkit.roofline.inputs import Inputs, Tensor

Formula = Callable[[Inputs], OpCost]


def _reduced(x: Tensor, axes: tuple[int, ...]) -> int:
    """Elements left when these axes are summed away; () means all of them."""
    if not axes or not x.dims:
        return 1
    gone = {axis % len(x.dims) for axis in axes}
    return prod(size for axis, size in enumerate(x.dims) if axis not in gone)


def _reduce(
    call: Inputs, *, axes: int | None = None, flop: int = 1, into: str = "", results: int = 1
) -> OpCost:
    """Reduce argument 0 over the axes listed at `axes` (absent or empty: over everything)."""
    x = call.tensor(0)
    given = axes is not None and axes < len(call.shape.dtypes)
    left = _reduced(x, call.integers(axes) if given and axes is not None else ())
    item = ELEMENT_TYPES[into].item_bytes if into else x.kind.item_bytes
    return OpCost(
        family="reduction",
        flop=flop * x.elements,
        read_bytes=x.bytes,
        written_bytes=results * left * item,
        precision=x.precision,
    )


def _foreach_norm(call: Inputs) -> OpCost:
    tensors = call.tensor_list(0)
    return OpCost(
        family="reduction",
        flop=2 * sum(t.elements for t in tensors),
        read_bytes=sum(t.bytes for t in tensors),
        written_bytes=sum(t.kind.item_bytes for t in tensors),
        precision=tensors[0].precision,
        assumed=f"tensor lists record no dtype: {tensors[0].precision} assumed",
    )


def _nll_loss(call: Inputs) -> OpCost:
    """One log-probability is gathered per target."""
    scores, target = call.tensor(0), call.tensor(1)
    picked = target.elements * scores.kind.item_bytes
    return OpCost(
        family="reduction",
        flop=target.elements,
        read_bytes=picked + target.bytes,
        written_bytes=2 * scores.kind.item_bytes,
        precision=scores.precision,
    )


def _nll_loss_backward(call: Inputs) -> OpCost:
    """A whole gradient is written, one element per target is not zero."""
    scores, target = call.tensor(1), call.tensor(2)
    return OpCost(
        family="reduction",
        flop=target.elements,
        read_bytes=target.bytes,
        written_bytes=scores.bytes,
        precision=scores.precision,
    )


def _pooled(x: Tensor, call: Inputs, *, kernel: int, ceil_mode: int, dilation: int | None) -> int:
    """Elements of a pooling's output, by torch's formula for MaxPool2d."""
    size = call.integers(kernel)
    rank = len(size)
    stride = call.integers(kernel + 1) or size
    padding = call.integers(kernel + 2)
    spread = call.integers(dilation) if dilation is not None else (1,) * rank
    if call.flag(ceil_mode) or not len(stride) == len(padding) == len(spread) == rank:
        raise UnknownCost("pooling with ceil_mode or uneven settings")
    spatial = (
        (x.dims[i - rank] + 2 * padding[i] - spread[i] * (size[i] - 1) - 1) // stride[i] + 1
        for i in range(rank)
    )
    return prod(x.dims[:-rank]) * prod(spatial)


def _max_pool(call: Inputs) -> OpCost:
    x = call.tensor(0)
    out = _pooled(x, call, kernel=1, ceil_mode=5, dilation=4)
    written = out * (x.kind.item_bytes + 8)  # values and their int64 indices
    return OpCost(
        family="pooling",
        flop=out * prod(call.integers(1)),
        read_bytes=x.bytes,
        written_bytes=written,
        precision=x.precision,
    )


def _avg_pool(call: Inputs) -> OpCost:
    x = call.tensor(0)
    out = _pooled(x, call, kernel=1, ceil_mode=4, dilation=None)
    return OpCost(
        family="pooling",
        flop=out * prod(call.integers(1)),
        read_bytes=x.bytes,
        written_bytes=out * x.kind.item_bytes,
        precision=x.precision,
    )


def _pool_backward(call: Inputs) -> OpCost:
    """Gradient in, gradient like the forward's input out; max pooling reads indices too."""
    dy, x = call.tensor(0), call.tensor(1)
    indices = sum(t.bytes for t in call.tensors() if t.precision == "int64")
    return OpCost(
        family="pooling",
        flop=dy.elements,
        read_bytes=dy.bytes + indices,
        written_bytes=x.bytes,
        precision=x.precision,
    )


COSTS: dict[str, Formula] = {
    "aten::sum": partial(_reduce, axes=1),
    "aten::nansum": partial(_reduce, axes=1),
    "aten::mean": partial(_reduce, axes=1),
    "aten::amax": partial(_reduce, axes=1),
    "aten::amin": partial(_reduce, axes=1),
    "aten::logsumexp": partial(_reduce, axes=1, flop=3),
    "aten::argmax": partial(_reduce, axes=1, into="long"),
    "aten::argmin": partial(_reduce, axes=1, into="long"),
    "aten::std": partial(_reduce, axes=1, flop=3),
    "aten::var": partial(_reduce, axes=1, flop=3),
    "aten::var_mean": partial(_reduce, axes=1, flop=3, results=2),
    "aten::all": partial(_reduce, axes=1, into="bool"),
    "aten::any": partial(_reduce, axes=1, into="bool"),
    "aten::prod": partial(_reduce, axes=1),
    "aten::linalg_vector_norm": partial(_reduce, axes=2, flop=2),
    "aten::norm": partial(_reduce, axes=2, flop=2),
    "aten::_foreach_norm": _foreach_norm,
    "aten::nll_loss_forward": _nll_loss,
    "aten::nll_loss_backward": _nll_loss_backward,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::max_pool2d_with_indices_backward": _pool_backward,
    "aten::avg_pool2d": _avg_pool,
    "aten::avg_pool2d_backward": _pool_backward,
    "aten::_adaptive_avg_pool2d_backward": _pool_backward,
}
