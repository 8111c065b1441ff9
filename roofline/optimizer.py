"""Costs of fused optimizer steps: bytes per parameter decide; FLOP counted by the update rule."""

from collections.abc import Callable
from functools import partial

from perfkit.roofline.cost import OpCost
from perfkit.roofline.inputs import Inputs

# m = b1 m + (1-b1) g: 3; v = b2 v + (1-b2) g g: 4; sqrt, divide, add eps, divide, scale,
# subtract: 6; decay: 2. Bias corrections are once per call.
ADAMW_FLOP_PER_PARAMETER = 15


def adamw_bytes(parameters: int, item_bytes: int = 4) -> int:
    """Traffic of one fused AdamW step: read p, g, m, v; write p, m, v (28 bytes each in fp32)."""
    return 7 * item_bytes * parameters


def _fused(call: Inputs, *, flop: int, states: int) -> OpCost:
    """(parameters, gradients, state lists...): read all of them, write all but the gradients."""
    parameters = call.tensor_list(0)
    elements = sum(t.elements for t in parameters)
    size = sum(t.bytes for t in parameters)
    precision = parameters[0].precision
    return OpCost(
        family="optimizer",
        flop=flop * elements,
        read_bytes=size * (2 + states),
        written_bytes=size * (1 + states),
        precision=precision,
        assumed=f"tensor lists record no dtype: {precision} assumed",
    )


def _fused_sgd(call: Inputs) -> OpCost:
    """The momentum buffers at 2 are recorded without shapes when momentum is off."""
    entry = call.shape.dims[2] if len(call.shape.dims) > 2 else ()
    momentum = isinstance(entry, list | tuple) and any(entry)
    return _fused(call, flop=4 if momentum else 2, states=1 if momentum else 0)


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    "aten::_fused_adamw_": partial(_fused, flop=ADAMW_FLOP_PER_PARAMETER, states=2),
    "aten::_fused_adam_": partial(_fused, flop=ADAMW_FLOP_PER_PARAMETER, states=2),
    "aten::_fused_adagrad_": partial(_fused, flop=7, states=1),
    "aten::_fused_sgd_": _fused_sgd,
}
