"""Costs of lookups, gathers and scatters: bytes of the rows touched, not of the whole table."""

from collections.abc import Callable
from math import prod

from perfkit.roofline.cost import OpCost, Unit, UnknownCost
from perfkit.roofline.inputs import Inputs, Tensor


def _rows(table: Tensor) -> int:
    """Elements of one row."""
    return prod(table.dims[1:])


def _lookup(table: Tensor, index: Tensor) -> OpCost:
    moved = index.elements * _rows(table) * table.kind.item_bytes
    return OpCost(
        family="embedding",
        flop=0,
        unit=Unit.NONE,
        read_bytes=index.bytes + moved,
        written_bytes=moved,
        precision=table.precision,
    )


def _embedding(call: Inputs) -> OpCost:
    return _lookup(call.tensor(0), call.tensor(1))


def _index_select(call: Inputs) -> OpCost:
    source, index, axis = call.tensor(0), call.tensor(2), call.integer(1)
    if not source.dims:
        raise UnknownCost("index_select on a scalar")
    picked = source.elements // max(source.dims[axis], 1) * index.elements
    moved = picked * source.kind.item_bytes
    return OpCost(
        family="embedding",
        flop=0,
        unit=Unit.NONE,
        read_bytes=index.bytes + moved,
        written_bytes=moved,
        precision=source.precision,
    )


def _gather(call: Inputs) -> OpCost:
    """gather(source, axis, index): one element per index."""
    source, index = call.tensor(0), call.tensor(2)
    moved = index.elements * source.kind.item_bytes
    return OpCost(
        family="embedding",
        flop=0,
        unit=Unit.NONE,
        read_bytes=index.bytes + moved,
        written_bytes=moved,
        precision=source.precision,
    )


def _embedding_backward(call: Inputs) -> OpCost:
    """Zero a gradient of V rows, then add n rows into it: n D adds."""
    grad, index = call.tensor(0), call.tensor(1)
    width = grad.elements // max(index.elements, 1)
    table = call.integer(2) * width * grad.kind.item_bytes
    return OpCost(
        family="embedding",
        flop=grad.elements,
        read_bytes=grad.bytes + index.bytes,
        written_bytes=table,
        precision=grad.precision,
    )


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    "aten::embedding": _embedding,
    "aten::index_select": _index_select,
    "aten::gather": _gather,
    "aten::embedding_dense_backward": _embedding_backward,
}
