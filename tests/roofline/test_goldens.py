"""Every golden value of the sections roofline, flops, mfu and busbw, to a relative 1e-4."""

from typing import Any

import pytest

from perfkit.roofline import mfu
from perfkit.roofline.collective_cost import bus_factor
from perfkit.roofline.gemm import Product, matmul
from perfkit.roofline.model import Limits, ridge, time_bound
from perfkit.roofline.network import (
    Sharding,
    critical_tokens,
    intensity,
    step_flop,
    tensor_parallel_intensity,
    two_chip_matmul_critical_dimension,
    volume_bytes,
)
from perfkit.roofline.optimizer import adamw_bytes
from tests.roofline.shapes import convolution, convolution_backward, of, same

Golden = dict[str, dict[str, Any]]


def close(expected: float) -> Any:
    return pytest.approx(expected, rel=1e-4)


def test_every_ridge(golden: Golden) -> None:
    rows = [e for n, e in golden["roofline"].items() if "ridge" in n and "2-chip" not in n]
    assert len(rows) == 15
    for row in rows:
        assert ridge(row["input"]["P"], row["input"]["B"]) == close(row["expected"]), row["name"]


def test_intensity_of_matrix_products(golden: Golden) -> None:
    rows = [e for n, e in golden["roofline"].items() if n.startswith("mm AI")]
    assert len(rows) == 4
    for row in rows:
        m, n, k = row["input"]["shape"]
        got = matmul(Product(1, m, n, k), 2, "bf16").intensity
        assert got == close(row["expected"])
        assert same("aten::mm", "c10::BFloat16", (m, k), (k, n)).intensity == close(row["expected"])


@pytest.mark.parametrize(
    ("name", "sharding"),
    [
        ("I_net ddp bf16 grads 8192 tok n=16", Sharding.DDP),
        ("I_net ddp fp32 grads", Sharding.DDP),
        ("I_net fsdp bf16", Sharding.FSDP),
    ],
)
def test_network_intensity(golden: Golden, name: str, sharding: Sharding) -> None:
    row = golden["roofline"][name]
    tokens, ranks, item_bytes = row["input"]
    assert intensity(sharding, tokens, ranks, item_bytes) == close(row["expected"])


def test_tensor_parallel_intensity(golden: Golden) -> None:
    row = golden["roofline"]["I_net tp h=8192 t=8"]
    hidden, ways = row["input"]
    assert tensor_parallel_intensity(hidden, ways, 2) == close(row["expected"])


@pytest.mark.parametrize("bandwidth", ["5e+10", "4.5e+11"])
def test_critical_tokens_per_gpu(golden: Golden, bandwidth: str) -> None:
    row = golden["roofline"][f"critical tokens/GPU n=16 B={bandwidth}"]
    point = ridge(row["input"]["P"], row["input"]["B"])
    assert critical_tokens(Sharding.DDP, point, 16, 2) == close(row["expected"]["ddp_bf16"])
    assert critical_tokens(Sharding.FSDP, point, 16, 2) == close(row["expected"]["fsdp_bf16"])


def test_scaling_book_two_chip_matmul(golden: Golden) -> None:
    row = golden["roofline"]["scaling-book 2-chip matmul: ridge and D*"]
    point = ridge(row["input"]["P"], row["input"]["B"])
    assert point == close(row["expected"]["ridge"])
    assert two_chip_matmul_critical_dimension(point) == close(row["expected"]["D"])


def test_time_roofline_of_a_7b_step(golden: Golden) -> None:
    row = golden["roofline"]["time roofline 7B,8192 tok,n=16,bf16 grads"]
    given, expected = row["input"], row["expected"]
    flop = step_flop(given["N"], given["tok"])
    sent = volume_bytes(Sharding.DDP, given["N"], given["n"], 2)
    assert flop == close(expected["F"])
    assert sent == close(expected["V"])
    assert flop / given["P"] == close(expected["T_comp_peak"])
    assert sent / given["Bnet"] == close(expected["T_net"])


def test_roofline_section_is_covered(golden: Golden) -> None:
    assert len(golden["roofline"]) == 15 + 4 + 3 + 1 + 2 + 1 + 1


def test_linear(golden: Golden) -> None:
    expected = golden["flops"]["linear 64x1024->2048"]["expected"]
    forward = same("aten::mm", "float", (64, 1024), (1024, 2048)).flop
    by_input = same("aten::mm", "float", (64, 2048), (2048, 1024)).flop
    by_weight = same("aten::mm", "float", (2048, 64), (64, 1024)).flop
    assert forward == expected["fwd"]
    assert forward + by_input + by_weight == expected["fwd_bwd"]


def test_convolution(golden: Golden) -> None:
    expected = golden["flops"]["conv2d x(8,3,224,224) w(64,3,7,7) s2 p3"]["expected"]
    x, w, y = (8, 3, 224, 224), (64, 3, 7, 7), (8, 64, 112, 112)
    forward = convolution(x, w, stride=2, padding=3).flop
    backward = convolution_backward(y, x, w, stride=2, padding=3).flop
    assert forward == expected["fwd"]
    assert forward + backward == expected["fwd_bwd"]


def test_grouped_convolution_backward_is_not_overcounted(golden: Golden) -> None:
    expected = golden["flops"]["grouped conv x(2,32,16,16) w(64,8,3,3) g4 p1"]["expected"]
    x, w, y = (2, 32, 16, 16), (64, 8, 3, 3), (2, 64, 16, 16)
    assert convolution(x, w, padding=1, groups=4).flop == expected["fwd"]
    backward = convolution_backward(y, x, w, padding=1, groups=4).flop
    assert backward == expected["bwd_correct"] != expected["bwd_torch_overcount"]


@pytest.mark.parametrize("suffix", ["", "_for_cpu"])
def test_attention(golden: Golden, suffix: str) -> None:
    expected = golden["flops"]["sdpa B2 H16 S512 D64 non-causal"]["expected"]
    name, qkv = f"aten::_scaled_dot_product_flash_attention{suffix}", [(2, 16, 512, 64)] * 3
    tail = [()] * 4
    values = ["", "", "", "0.", "False", "", ""]
    forward = of(name, [*qkv, *tail], ["float"] * 3 + ["Scalar"] * 4, values)
    assert forward.flop == forward.executed_flop == expected["fwd"]

    given = [*qkv, *qkv[:2], (2, 16, 512)]
    gap = 0 if suffix else 4  # the device version has cum_seq and max lengths before dropout
    dims = [*given, *[()] * (gap + 4)]
    kinds = ["float"] * 6 + [""] * gap + ["Scalar", "Scalar", "", ""]
    values = [""] * (6 + gap) + ["0.", "False", "", ""]
    backward = of(f"{name}_backward", dims, kinds, values)
    assert backward.executed_flop == expected["bwd_executed"]
    assert backward.flop == expected["bwd_model"]


def test_adamw_traffic(golden: Golden) -> None:
    expected = golden["flops"]["AdamW fused bytes 7e9 params"]["expected"]
    moved = adamw_bytes(7_000_000_000)
    assert moved == close(expected["bytes"])
    bound = time_bound(Limits(bandwidth_bytes_per_s=3350e9), moved_bytes=moved)
    assert bound.least_s * 1e3 == close(expected["ms_at_3350GBs"])
    assert bound.limit == "memory"


def test_flops_section_is_covered(golden: Golden) -> None:
    assert len(golden["flops"]) == 5


def test_palm(golden: Golden) -> None:
    row = golden["mfu"]["PaLM 540B"]
    given = row["input"]
    sizes = {"layers": given["L"], "heads": given["H"], "head_size": given["Q"]}
    per_token = mfu.palm_flop_per_token(given["N"], sequence=given["T"], **sizes)
    bare = mfu.palm_flop_per_token(given["N"], sequence=0, **sizes)

    def share(flop_per_token: float) -> float:
        return mfu.utilization(
            tokens_per_s=given["tps"],
            flop_per_token=flop_per_token,
            devices=given["chips"],
            peak_flop_per_s=given["peak"],
        )

    assert share(per_token) == close(row["expected"]["mfu"])
    assert share(bare) == close(row["expected"]["mfu_noattn"])


def test_megatron_2021(golden: Golden) -> None:
    one_trillion = golden["mfu"]["Megatron 1T: 502 PFLOP/s on 3072 A100"]["expected"]
    per_gpu = 502e15 / 3072
    assert per_gpu == close(one_trillion["per_gpu"])
    share = mfu.utilization(
        tokens_per_s=1, flop_per_token=502e15, devices=3072, peak_flop_per_s=312e12
    )
    assert share == close(one_trillion["frac"])

    row = golden["mfu"]["Megatron training time 8TP/(nX) GPT-3"]
    given = row["input"]
    days = mfu.training_days(
        tokens=given["T"], parameters=given["P"], gpus=given["n"], flop_per_s_and_gpu=given["X"]
    )
    assert days == close(row["expected"])

    name = (
        "Megatron F per iteration GPT-3 175B: B=1536 s=2048 l=96 h=12288 V=51200 (with recompute)"
    )
    gpt3 = mfu.Transformer(
        layers=96,
        hidden=12288,
        heads=96,
        kv_heads=96,
        feed_forward=4 * 12288,
        vocabulary=51200,
        sequence=2048,
        gated=False,
    )
    flop = mfu.megatron_flop_per_iteration(gpt3, batch=1536)
    assert flop == close(golden["mfu"][name]["expected"])


def test_gpt2_and_llama_conventions(golden: Golden) -> None:
    gpt2 = mfu.palm_flop_per_token(123_653_376, layers=12, heads=12, head_size=64, sequence=1024)
    assert gpt2 == golden["mfu"]["GPT-2 small FLOP/token N=123653376 L12 H12 Q64 T1024"]["expected"]

    name = "Llama-3-8B shape s=8192 (l32 h4096 heads32 kv8 ffn14336 V128256)"
    expected = golden["mfu"][name]["expected"]
    llama = mfu.Transformer(
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        feed_forward=14336,
        vocabulary=128256,
        sequence=8192,
    )
    assert mfu.megatron_core_flop_per_token(llama) == close(expected["megatron_core_x3"])
    palm = mfu.palm_flop_per_token(expected["N"], layers=32, heads=32, head_size=128, sequence=8192)
    assert palm == close(expected["palm_6N_12lhs"])
    short = mfu.causal_flop_per_token(
        expected["N"] - 128256 * 4096, layers=32, hidden=4096, sequence=8192
    )
    assert short == close(expected["six_N_minus_emb_6lhs"])
    assert palm / mfu.megatron_core_flop_per_token(llama) == pytest.approx(1.186, abs=1e-3)


def test_mfu_section_is_covered(golden: Golden) -> None:
    assert len(golden["mfu"]) == 6


def test_bus_factors(golden: Golden) -> None:
    assert len(golden["busbw"]) == 6
    for row in golden["busbw"].values():
        ranks, expected = row["input"], row["expected"]
        assert bus_factor("all_reduce", ranks) == close(expected["all_reduce"])
        for name in ("reduce_scatter", "all_gather", "all_to_all"):
            assert bus_factor(name, ranks) == close(expected["rs_ag_a2a"])
        in_network = bus_factor("all_reduce", ranks, in_network=True)
        assert in_network == close(expected["allreduce_in_network"])
        for name in ("broadcast", "reduce", "sendrecv"):
            assert bus_factor(name, ranks) == close(expected[name])


def test_an_unknown_collective_is_no_number() -> None:
    with pytest.raises(ValueError, match="no bus factor"):
        bus_factor("all_reduce_scatter_gather", 4)
    with pytest.raises(ValueError, match="at least one rank"):
        bus_factor("all_reduce", 0)
