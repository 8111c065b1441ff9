"""Costs of convolutions, forward and backward, with groups, transposed, and by output mask.

A weight is (C_out, C_in/g, K...), transposed (C_in, C_out/g, K...). Each element of the side that
the weight's first axis belongs to (the output; transposed: the input) takes prod(weight[1:])
products: groups are already in the shapes (torch's own counter multiplies by them once too often).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from perfkit.roofline.cost import OpCost, Unit, UnknownCost
from perfkit.roofline.inputs import Inputs, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The settings of a convolution; a single value stands for every spatial axis."""

    stride: tuple[int, ...] = (1,)
    padding: tuple[int, ...] = (0,)
    dilation: tuple[int, ...] = (1,)
    transposed: bool = False
    output_padding: tuple[int, ...] = (0,)
    groups: int = 1


def output_dims(
    image: tuple[int, ...], weight: tuple[int, ...], geometry: Geometry
) -> tuple[int, ...]:
    """Shape (N, C_out, spatial...) of the result, by torch's formulas for Conv, ConvTranspose."""
    axes = range(len(image) - 2)
    settings = (geometry.stride, geometry.padding, geometry.dilation, geometry.output_padding)
    stride, padding, dilation, extra = (_spread(values, len(axes)) for values in settings)
    reach = [dilation[i] * (weight[2 + i] - 1) for i in axes]
    if geometry.transposed:
        spatial = tuple(
            (image[2 + i] - 1) * stride[i] - 2 * padding[i] + reach[i] + extra[i] + 1 for i in axes
        )
        return (image[0], weight[1] * geometry.groups, *spatial)
    spatial = tuple((image[2 + i] + 2 * padding[i] - reach[i] - 1) // stride[i] + 1 for i in axes)
    return (image[0], weight[0], *spatial)


def _spread(values: tuple[int, ...], rank: int) -> tuple[int, ...]:
    if len(values) == rank:
        return values
    if len(values) != 1:
        raise UnknownCost("the settings of this convolution do not fit its shape")
    return values * rank


def products(weight: tuple[int, ...], counted: int) -> int:
    """FLOP of one pass: two per product; `counted` elements of the output (transposed: input)."""
    return 2 * counted * prod(weight[1:])


def _forward(call: Inputs) -> OpCost:
    """The arguments are input, weight, bias and then the geometry's six."""
    x, w, bias = call.tensor(0), call.tensor(1), call.optional(2)
    geometry = Geometry(
        stride=call.integers(3),
        padding=call.integers(4),
        dilation=call.integers(5),
        transposed=call.flag(6),
        output_padding=call.integers(7) or (0,),
        groups=call.integer(8),
    )
    out = Tensor(output_dims(x.dims, w.dims, geometry), x.kind)
    return OpCost(
        family="convolution",
        flop=products(w.dims, x.elements if geometry.transposed else out.elements),
        read_bytes=x.bytes + w.bytes + (bias.bytes if bias else 0),
        written_bytes=out.bytes,
        precision=x.precision,
        unit=Unit.TENSOR,
    )


def _backward(call: Inputs) -> OpCost:
    """The arguments are grad_output, input, weight, bias sizes, geometry, output mask."""
    dy, x, w = call.tensor(0), call.tensor(1), call.tensor(2)
    data, weight, bias = _mask(call)
    one_pass = products(w.dims, x.elements if call.flag(7) else dy.elements)
    flop = read = written = 0
    if data:
        flop, read, written = flop + one_pass, read + dy.bytes + w.bytes, written + x.bytes
    if weight:
        flop, read, written = flop + one_pass, read + dy.bytes + x.bytes, written + w.bytes
    if bias:
        channels = dy.dims[1] * dy.kind.item_bytes
        flop, read, written = flop + dy.elements, read + dy.bytes, written + channels
    return OpCost(
        family="convolution",
        flop=flop,
        read_bytes=read,
        written_bytes=written,
        precision=x.precision,
        unit=Unit.TENSOR if data or weight else Unit.VECTOR,
    )


def _mask(call: Inputs) -> tuple[bool, bool, bool]:
    mask = call.flags(10)
    if len(mask) != 3:
        raise UnknownCost("the output mask was not recorded")
    return mask[0], mask[1], mask[2]


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    "aten::convolution": _forward,
    "aten::_convolution": _forward,
    "aten::convolution_overrideable": _forward,
    "aten::convolution_backward": _backward,
    "aten::convolution_backward_overrideable": _backward,
}
