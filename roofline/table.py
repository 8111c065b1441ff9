"""From an operator's name and recorded inputs to its cost; unknown is None, never zero."""

from collections.abc import Callable

from perfkit.roofline import (
    attention,
    convolution,
    elementwise,
    embedding,
    gemm,
    normalization,
    optimizer,
    reduction,
)
from perfkit.roofline.cost import OpCost, UnknownCost
from perfkit.roofline.dtypes import ElementType
from perfkit.roofline.inputs import Inputs
from perfkit.trace.model import OpShape

COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    **elementwise.COSTS,
    **reduction.COSTS,
    **normalization.COSTS,
    **embedding.COSTS,
    **optimizer.COSTS,
    **attention.COSTS,
    **convolution.COSTS,
    **gemm.COSTS,
}


def known(name: str) -> bool:
    """Whether there is a formula for this operator, given its inputs."""
    return name in COSTS


def why_not(name: str, shape: OpShape) -> str:
    """Return what a formula misses in these inputs, in words; "" if it does not say."""
    try:
        COSTS[name](Inputs(shape, None))
    except UnknownCost as missing:
        return str(missing)
    except (LookupError, ArithmeticError, ValueError):
        return ""
    return ""


def cost(name: str, shape: OpShape, *, list_type: ElementType | None = None) -> OpCost | None:
    """The cost of one call, or None where there is no formula or the inputs do not tell.

    list_type: what tensor lists are taken to hold, because the profiler records no dtype for them;
    None leaves operators on lists without a cost.
    """
    formula = COSTS.get(name)
    if formula is None:
        return None
    try:
        return formula(Inputs(shape, list_type))
    except UnknownCost:
        return None
    except (LookupError, ArithmeticError, ValueError):
        return None  # a foreign trace may record inputs that this operator cannot have
