"""Formulas against torch itself: argument positions, shapes of results, its own FLOP counter."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.roofline import gemm
from perfkit.roofline.attention import SIGNATURES
from perfkit.roofline.convolution import Geometry, output_dims
from perfkit.roofline.reduction import COSTS as REDUCTIONS
from perfkit.roofline.table import COSTS
from tests.roofline.shapes import convolution, convolution_backward, of

torch = pytest.importorskip("torch")


def arguments(name: str) -> list[str]:
    """Names of an operator's arguments by position; skips where this torch lacks it."""
    space, operator = name.split("::")
    found = getattr(getattr(torch.ops, space), operator, None)
    if found is None:
        pytest.skip(f"this torch has no {name}")
    return [argument.name for argument in found.default._schema.arguments]


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name.startswith("aten::")])
def test_arguments_of_attention_stand_where_we_read_them(name: str) -> None:
    where, given_names = SIGNATURES[name], arguments(name)
    assert given_names[where.query : where.query + 3] == ["query", "key", "value"]
    if where.causal is not None:
        assert given_names[where.causal] == "is_causal"
    if where.mask_type is not None:
        assert given_names[where.mask_type] == "custom_mask_type"
    if where.ragged is not None:
        assert given_names[where.ragged] in ("cum_seq_q", "cu_seqlens_q")
    if where.window is not None:
        assert given_names[where.window] == "window_size_left"
    assert where.backward == name.endswith("_backward")


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("aten::convolution", {"stride": 3, "transposed": 6, "output_padding": 7, "groups": 8}),
        ("aten::_convolution", {"stride": 3, "transposed": 6, "output_padding": 7, "groups": 8}),
        ("aten::convolution_backward", {"transposed": 7, "output_mask": 10}),
        ("aten::native_batch_norm", {"training": 5}),
        ("aten::cudnn_batch_norm", {"training": 5}),
        ("aten::miopen_batch_norm", {"training": 5}),
        ("aten::embedding_dense_backward", {"indices": 1, "num_weights": 2}),
        ("aten::index_select", {"dim": 1, "index": 2}),
        ("aten::gather", {"dim": 1, "index": 2}),
        ("aten::max_pool2d_with_indices", {"kernel_size": 1, "dilation": 4, "ceil_mode": 5}),
        ("aten::avg_pool2d", {"kernel_size": 1, "ceil_mode": 4}),
        ("aten::linalg_vector_norm", {"dim": 2}),
        ("aten::nll_loss_backward", {"self": 1, "target": 2}),
        ("aten::addmm", {"mat1": 1, "mat2": 2}),
        ("aten::baddbmm", {"batch1": 1, "batch2": 2}),
        ("aten::addmv", {"mat": 1, "vec": 2}),
    ],
)
def test_arguments_stand_where_we_read_them(name: str, positions: dict[str, int]) -> None:
    found = arguments(name)
    assert {argument: found.index(argument) for argument in positions} == positions
    assert name in COSTS


def test_every_operator_in_the_table_exists_in_torch() -> None:
    """A misspelt name would silently leave an operator without a cost."""
    known = {name.split(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    ours = {name for name in COSTS if name.startswith("aten::")}
    # Made by a rule, of which torch lacks some: in-place forms, and lists of operators.
    made = {name for name in ours - known if name.endswith("_") or "_foreach_" in name}
    assert sorted(ours - known - made) == []


small = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(small, st.integers(6, 12), st.integers(6, 12)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    transposed=st.booleans(),
)
def test_shapes_of_convolutions_are_torchs(
    image: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    transposed: bool,
) -> None:
    x = torch.empty(image[0], 8, *image[1:], device="meta")
    w = torch.empty(*((8, 4) if transposed else (4, 8 // groups)), *kernel, device="meta")
    spread = [[value, value] for value in (stride, padding, dilation)]
    y = torch.ops.aten.convolution(x, w, None, *spread, transposed, [0, 0], groups)
    geometry = Geometry(
        stride=(stride,),
        padding=(padding,),
        dilation=(dilation,),
        transposed=transposed,
        groups=groups,
    )
    assert output_dims(tuple(x.shape), tuple(w.shape), geometry) == tuple(y.shape)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_cost_what_torch_counts_where_it_counts_right(transposed: bool) -> None:
    """Without groups; with them FlopCounterMode counts the weight's gradient too often."""
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.randn(2, 6, 9, 9, requires_grad=True)
    w = torch.randn(*((6, 4) if transposed else (4, 6)), 3, 3, requires_grad=True)
    call = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
    with FlopCounterMode(display=False) as counter:
        y = call(x, w, stride=2, padding=1)
        forward = counter.get_total_flops()
        y.sum().backward()
    ours = convolution(x.shape, w.shape, stride=2, padding=1, transposed=transposed)
    back = convolution_backward(
        y.shape, x.shape, w.shape, stride=2, padding=1, transposed=transposed
    )
    assert ours.flop == forward
    assert ours.flop + back.flop == counter.get_total_flops()
    assert ours.written_bytes == y.numel() * 4


def test_every_matrix_product_counts_two_per_multiplication() -> None:
    f = "float"
    cases: dict[str, tuple[list[tuple[int, ...]], list[str]]] = {
        "aten::mm": ([(3, 5), (5, 7)], [f, f]),
        "aten::addmm": ([(7,), (3, 5), (5, 7)], [f] * 3),
        "aten::bmm": ([(2, 3, 5), (2, 5, 7)], [f, f]),
        "aten::baddbmm": ([(2, 3, 7), (2, 3, 5), (2, 5, 7)], [f] * 3),
        "aten::addbmm": ([(3, 7), (2, 3, 5), (2, 5, 7)], [f] * 3),
        "aten::mv": ([(3, 5), (5,)], [f, f]),
        "aten::addmv": ([(3,), (3, 5), (5,)], [f] * 3),
        "aten::dot": ([(5,), (5,)], [f, f]),
        "mkldnn::_linear_pointwise": ([(2, 3, 5), (7, 5)], [f, f]),
        "aten::_grouped_mm": ([(6, 5), (2, 5, 7)], [f, f]),
    }
    counted = {name: of(name, dims, kinds).flop for name, (dims, kinds) in cases.items()}
    once = 2 * 3 * 5 * 7
    assert counted == {
        "aten::mm": once,
        "aten::addmm": once,
        "aten::bmm": 2 * once,
        "aten::baddbmm": 2 * once,
        "aten::addbmm": 2 * once,
        "aten::mv": 30,
        "aten::addmv": 30,
        "aten::dot": 10,
        "mkldnn::_linear_pointwise": 2 * once,
        "aten::_grouped_mm": 2 * once,
    }
    assert set(cases) <= set(gemm.COSTS)


def test_reductions_write_what_torch_returns() -> None:
    x = torch.ones(3, 4, 5)
    cases = {
        "aten::sum": ("[0, -1]", x.sum((0, -1))),
        "aten::mean": ("[1]", x.mean(1)),
        "aten::amax": ("[]", x.amax()),
    }
    for name, (axes, result) in cases.items():
        found = of(name, [(3, 4, 5), ()], ["float", "ScalarList"], ["", axes])
        assert found.written_bytes == result.numel() * 4, name
        assert found.read_bytes == x.numel() * 4
        assert name in REDUCTIONS


WRAPPERS = """_batch_norm_impl_index _foreach_add_ batch_norm conv2d dropout embedding_backward
    layer_norm linear max_pool2d ones_like reshape softmax to _to_copy zeros zeros_like clone
    contiguous flatten item _local_scalar_dense"""
# Operators that only call others, which are counted: what is left to them is their own overhead.

PROFILED = """
import json, sys, torch
from torch.profiler import ProfilerActivity, profile
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(4, 8, 3, groups=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
    torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8 * 49, 16), torch.nn.LayerNorm(16),
    torch.nn.GELU(), torch.nn.Dropout(0.1), torch.nn.Softmax(1))
table = torch.nn.Embedding(10, 16)
step = torch.optim.AdamW([*model.parameters(), *table.parameters()], fused=True)
x, picked = torch.randn(2, 4, 16, 16), torch.tensor([1, 2])
with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
    y = model(x) * table(picked)
    y.square().mean().backward()
    step.step()
recorded.export_chrome_trace(sys.argv[1])
"""


def test_a_real_training_step_leaves_little_without_a_cost(tmp_path: Path) -> None:
    """Names as this torch really records them: a renamed operator shows up here."""
    from perfkit.roofline.place import place
    from perfkit.trace.kineto import read_kineto
    from tests.roofline.machines import roofs

    path = tmp_path / "trace.json"
    subprocess.run([sys.executable, "-c", PROFILED, str(path)], check=True, capture_output=True)
    placement = place(read_kineto(path), roofs())
    families = {point.family for point in placement.points}
    assert families >= {
        "convolution",
        "gemm",
        "normalization",
        "softmax",
        "pooling",
        "elementwise",
        "embedding",
        "optimizer",
        "reduction",
    }
    by_name = {point.name: point for point in placement.points}
    assert by_name["aten::convolution"].flop == 2 * (2 * 8 * 14 * 14) * (2 * 9)
    assert by_name["aten::convolution_backward"].flop == (
        by_name["aten::convolution"].flop + 2 * 8 * 14 * 14  # the weight's gradient and the bias's
    )
    parameters = 4 * 9 * 4 + 8 + 16 + 8 * 49 * 16 + 16 + 32 + 160
    assert by_name["aten::_fused_adamw_"].bytes == 28 * parameters
    left = {entry.name for entry in placement.uncosted if entry.kind == "operator"}
    assert left <= {f"aten::{name}" for name in WRAPPERS.split()}
