"""Recorded operator inputs for tests, written briefly."""

from collections.abc import Sequence

from perfkit.roofline.cost import OpCost
from perfkit.roofline.dtypes import element_type
from perfkit.roofline.table import cost
from perfkit.trace.model import OpShape

Dims = Sequence[object]


def shape(dims: Dims, dtypes: Sequence[str], concrete: Sequence[str] = ()) -> OpShape:
    """An OpShape as a reader would give it."""
    return OpShape(dims=tuple(dims), dtypes=tuple(dtypes), concrete=tuple(concrete))


def of(name: str, dims: Dims, dtypes: Sequence[str], concrete: Sequence[str] = ()) -> OpCost:
    """The cost of a call that must have one; tensor lists hold fp32."""
    found = cost(name, shape(dims, dtypes, concrete), list_type=element_type("float"))
    assert found is not None, name
    return found


def same(name: str, dtype: str, *dims: Sequence[int]) -> OpCost:
    """The cost of a call whose arguments are all tensors of one type."""
    return of(name, dims, [dtype] * len(dims), [""] * len(dims))


def convolution(
    x: Sequence[int],
    w: Sequence[int],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    transposed: bool = False,
    output_padding: int = 0,
) -> OpCost:
    """aten::convolution in fp32 without a bias."""
    settings = _settings(
        len(x) - 2,
        stride,
        padding,
        transposed=transposed,
        output_padding=output_padding,
        groups=groups,
    )
    kinds = ["float", "float", "", *["ScalarList"] * 3, "Scalar", "ScalarList", "Scalar"]
    dims = [tuple(x), tuple(w), *[()] * 7]
    return of("aten::convolution", dims, kinds, ["", "", "", *settings])


def convolution_backward(
    dy: Sequence[int],
    x: Sequence[int],
    w: Sequence[int],
    *,
    mask: tuple[bool, bool, bool] = (True, True, False),
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    transposed: bool = False,
) -> OpCost:
    """aten::convolution_backward in fp32."""
    settings = _settings(
        len(x) - 2, stride, padding, transposed=transposed, output_padding=0, groups=groups
    )
    kinds = ["float"] * 3 + ["ScalarList"] * 4 + ["Scalar", "ScalarList", "Scalar", "ScalarList"]
    dims = [tuple(dy), tuple(x), tuple(w), *[()] * 8]
    values = ["", "", "", "[0]", *settings, str(list(mask))]
    return of("aten::convolution_backward", dims, kinds, values)


def _settings(
    rank: int, stride: int, padding: int, *, transposed: bool, output_padding: int, groups: int
) -> list[str]:
    lists = [str([value] * rank) for value in (stride, padding, 1)]
    return [*lists, str(transposed), str([output_padding] * rank), str(groups)]
