"""Costs of matrix products: 2 M N K FLOP each, every matrix moved once (models.md 2.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from perfkit.roofline.cost import OpCost, Unit, UnknownCost
from perfkit.roofline.inputs import Inputs, Tensor


@dataclass(frozen=True, slots=True)
class Product:
    """A batch of (m, k) x (k, n) products."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        """A multiplication and an addition for each of the products."""
        return 2 * self.batch * self.m * self.n * self.k

    def cost(self, read_bytes: int, out_item_bytes: int, precision: str) -> OpCost:
        """Its cost, given what is read and how wide the result's elements are."""
        return OpCost(
            family="gemm",
            flop=self.flop,
            read_bytes=read_bytes,
            written_bytes=self.batch * self.m * self.n * out_item_bytes,
            precision=precision,
            unit=Unit.TENSOR,
        )


def matmul(product: Product, item_bytes: int, precision: str) -> OpCost:
    """A product all of whose matrices hold elements of one size."""
    read = product.batch * item_bytes * product.k * (product.m + product.n)
    return product.cost(read, item_bytes, precision)


def _two_matrices(left: Tensor, right: Tensor, *, extra_read: int = 0) -> OpCost:
    if len(left.dims) != 2 or len(right.dims) != 2 or left.dims[1] != right.dims[0]:
        raise UnknownCost("not a product of two matrices")
    m, k = left.dims
    n = right.dims[1]
    # fp8 and int8 products accumulate and come out wider; two bytes is the usual output (bf16).
    out_item = max(left.kind.item_bytes, 2)
    read = left.bytes + right.bytes + extra_read
    return Product(1, m, n, k).cost(read, out_item, left.precision)


def _batched(left: Tensor, right: Tensor, *, extra_read: int = 0) -> OpCost:
    if len(left.dims) != 3 or len(right.dims) != 3 or left.dims[2] != right.dims[1]:
        raise UnknownCost("not a batch of matrix products")
    batch, m, k = left.dims
    read = left.bytes + right.bytes + extra_read
    return Product(batch, m, right.dims[2], k).cost(read, left.kind.item_bytes, left.precision)


def _mm(call: Inputs) -> OpCost:
    return _two_matrices(call.tensor(0), call.tensor(1))


def _addmm(call: Inputs) -> OpCost:
    return _two_matrices(call.tensor(1), call.tensor(2), extra_read=call.tensor(0).bytes)


def _bmm(call: Inputs) -> OpCost:
    return _batched(call.tensor(0), call.tensor(1))


def _baddbmm(call: Inputs) -> OpCost:
    return _batched(call.tensor(1), call.tensor(2), extra_read=call.tensor(0).bytes)


def _addbmm(call: Inputs) -> OpCost:
    left, right = call.tensor(1), call.tensor(2)
    whole = _batched(left, right)
    out = left.dims[1] * right.dims[2] * left.kind.item_bytes
    read = whole.read_bytes + call.tensor(0).bytes
    return OpCost(
        family="gemm",
        flop=whole.flop,
        read_bytes=read,
        written_bytes=out,
        precision=left.precision,
        unit=Unit.TENSOR,
    )


def _matrix_vector(matrix: Tensor, vector: Tensor, extra_read: int = 0) -> OpCost:
    if len(matrix.dims) != 2 or len(vector.dims) != 1:
        raise UnknownCost("not a matrix-vector product")
    column = Tensor((vector.dims[0], 1), vector.kind)
    return _two_matrices(matrix, column, extra_read=extra_read)


def _mv(call: Inputs) -> OpCost:
    return _matrix_vector(call.tensor(0), call.tensor(1))


def _addmv(call: Inputs) -> OpCost:
    return _matrix_vector(call.tensor(1), call.tensor(2), call.tensor(0).bytes)


def _dot(call: Inputs) -> OpCost:
    left, right = call.tensor(0), call.tensor(1)
    row = Tensor((1, left.elements), left.kind)
    return _two_matrices(row, Tensor((right.elements, 1), right.kind))


def _rows_times_transposed(x: Tensor, weight: Tensor, bias: Tensor | None) -> OpCost:
    if len(weight.dims) != 2 or not x.dims or x.dims[-1] != weight.dims[1]:
        raise UnknownCost("not a linear layer")
    rows = Tensor((prod(x.dims[:-1]), x.dims[-1]), x.kind)
    flipped = Tensor((weight.dims[1], weight.dims[0]), weight.kind)
    return _two_matrices(rows, flipped, extra_read=bias.bytes if bias else 0)


def _linear(call: Inputs) -> OpCost:
    """Rows (..., K) times a weight (N, K)."""
    return _rows_times_transposed(call.tensor(0), call.tensor(1), call.optional(2))


def _mkl_linear(call: Inputs) -> OpCost:
    """The packed weight stands at 1, its original (N, K) at 2, the bias at 3."""
    return _rows_times_transposed(call.tensor(0), call.tensor(2), call.optional(3))


def _grouped(call: Inputs) -> OpCost:
    """A grouped product (ragged rows, K) x (G, K, N): each row meets one of the G matrices."""
    left, right = call.tensor(0), call.tensor(1)
    if len(left.dims) != 2 or len(right.dims) != 3 or left.dims[1] != right.dims[1]:
        raise UnknownCost("only rows grouped along the first matrix are known")
    n = right.dims[2]
    out_item = max(left.kind.item_bytes, 2)
    product = Product(1, left.dims[0], n, left.dims[1])
    return product.cost(left.bytes + right.bytes, out_item, left.precision)


COSTS: dict[str, Callable[[Inputs], OpCost]] = {
    "aten::mm": _mm,
    "aten::_scaled_mm": _mm,
    "aten::_int_mm": _mm,
    "aten::addmm": _addmm,
    "aten::addmm_": _addmm,
    "aten::_addmm_activation": _addmm,
    "aten::bmm": _bmm,
    "aten::baddbmm": _baddbmm,
    "aten::baddbmm_": _baddbmm,
    "aten::addbmm": _addbmm,
    "aten::addbmm_": _addbmm,
    "aten::mv": _mv,
    "aten::addmv": _addmv,
    "aten::addmv_": _addmv,
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::mkldnn_linear": _linear,
    "mkldnn::_linear_pointwise": _linear,
    "mkl::_mkl_linear": _mkl_linear,
    "aten::_grouped_mm": _grouped,
    "aten::_scaled_grouped_mm": _grouped,
}
"""aten::linear and aten::matmul are absent on purpose: they call one of these, which is counted."""
