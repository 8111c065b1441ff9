"""MFU by its conventions, with the sizes read off a real GPT's step whose truth is known."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.roofline.architecture import read_architecture
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.roofline.utilization import NOTHING_GIVEN, GivenSizes, Utilization
from perfkit.trace import run as run_folder
from perfkit.trace.model import RankRecord, RankTrace, Run
from tests.builders import op, rank_trace, step, step_lines
from tests.roofline.machines import ceilings
from tests.roofline.shapes import shape

CHILD = Path(__file__).with_name("profiled_gpt.py")
LAYERS, HEADS, HEAD_SIZE, LENGTH, WIDTH, WORDS = 3, 4, 16, 32, 64, 50
SAMPLES, MICRO_BATCHES = 2, 2
TOKENS = SAMPLES * LENGTH * MICRO_BATCHES
LINEAR = LAYERS * 12 * WIDTH**2 + WIDTH * WORDS  # weights of the linear layers
PARAMETERS = (
    LINEAR  # and embeddings of words and positions, biases, norms
    + (WORDS + LENGTH) * WIDTH
    + LAYERS * (3 + 1 + 4 + 1) * WIDTH
    + (2 * LAYERS + 1) * 2 * WIDTH
)
ATTENTION = 12 * LAYERS * HEADS * HEAD_SIZE * LENGTH  # FLOP per token, the full square


@pytest.fixture(scope="module", params=[0.1, 0.0], ids=["written-out", "fused"])
def captured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps of two micro-batches; dropout makes attention run as separate products."""
    folder = tmp_path_factory.mktemp("gpt")
    sizes = (WORDS, LENGTH, LAYERS, HEADS, WIDTH, request.param, SAMPLES, MICRO_BATCHES)
    command = [sys.executable, str(CHILD), str(folder / "trace.json"), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    assert int(done.stdout) == PARAMETERS
    opened = run_folder.open_run([folder / "trace.json"])
    (record,) = opened.ranks
    lines = replace(
        step_lines(ms=[100.0] * 4), micro_batches=np.full(4, MICRO_BATCHES, dtype=np.int32)
    )
    facts: dict[str, object] = {"model": {"parameters": PARAMETERS}}
    return replace(opened, ranks=(replace(record, lines=lines, facts=facts),))


def load(record: RankRecord) -> RankTrace:
    return run_folder.load_rank(record, cache=None)


def of(run: Run, given: GivenSizes = NOTHING_GIVEN, peak: float = 1e12) -> RunRoofline:
    return roofline_of(run, load, ceilings(matrix={"fp32": peak}), given)


def by_convention(found: RunRoofline) -> dict[str, Utilization]:
    return {entry.convention: entry for entry in found.utilization}


def test_the_architecture_is_read_off_the_step(captured: Run) -> None:
    trace = load(captured.ranks[0])
    steps = [int(index) for index in trace.steps.index[trace.steps.complete]]
    found = read_architecture(trace, steps)
    assert found.trains
    assert found.attention is not None
    sizes = found.attention
    assert (sizes.samples, sizes.heads, sizes.head_size, sizes.sequence) == (
        SAMPLES,
        HEADS,
        HEAD_SIZE,
        LENGTH,
    )
    assert found.attention_calls == LAYERS * MICRO_BATCHES
    assert found.linear_products == LINEAR * TOKENS


def test_palm_and_megatron_count_what_their_formulas_say(captured: Run) -> None:
    found = of(captured)
    rows = by_convention(found)
    assert found.transformer is not None and found.transformer.layers == LAYERS
    palm = (6 * PARAMETERS + ATTENTION) * TOKENS
    causal = (6 * LINEAR + ATTENTION / 2) * TOKENS
    assert rows["palm"].flop_per_step == pytest.approx(palm)
    assert rows["megatron-causal"].flop_per_step == pytest.approx(causal)
    assert rows["palm"].share == pytest.approx(palm / 0.1 / 1e12)  # steps of 100 ms at 1 TFLOP/s
    assert "L 3, H 4, Q 16, T 32" in rows["palm"].counts
    executed = rows["executed"].flop_per_step
    assert causal <= executed <= (6 * LINEAR + ATTENTION) * TOKENS
    assert not found.findings or all("transformer" not in text for text in found.findings)


def test_without_micro_batches_layers_have_to_be_given(captured: Run) -> None:
    bare = replace(captured.ranks[0], lines=step_lines(ms=[]))
    run = replace(captured, ranks=(bare,))
    told = {entry.claim: entry for entry in of(run).cannot_tell}
    missing = told["utilization by palm"]
    assert "micro-batches" in missing.why and missing.remedy.endswith("--layers N")
    assert "palm" not in by_convention(of(run))


def test_given_sizes_stand_before_those_that_were_read(captured: Run) -> None:
    given = GivenSizes(layers=6, heads=8, head_size=32, sequence=64, parameters=1000)
    rows = by_convention(of(captured, given))
    flop = (6 * 1000 + 12 * 6 * 8 * 32 * 64) * TOKENS
    assert rows["palm"].flop_per_step == pytest.approx(flop)
    assert "given: layers, heads, head_size, sequence, parameters" in rows["palm"].counts


def test_sizes_that_do_not_fit_the_captured_work_are_a_finding(captured: Run) -> None:
    (text,) = of(captured, GivenSizes(layers=1000)).findings[-1:]
    assert "times the matrix FLOP that were captured" in text


def test_above_one_names_the_side_that_is_wrong(captured: Run) -> None:
    executed = by_convention(of(captured))["executed"].flop_per_step
    doubled = of(captured, GivenSizes(parameters=10 * PARAMETERS), peak=1.5 * executed / 0.1)
    assert any("counted too high" in text and "palm" in text for text in doubled.findings)
    assert by_convention(doubled)["executed"].share < 1 < by_convention(doubled)["palm"].share
    low = of(captured, peak=0.5 * executed / 0.1)
    assert any("(executed) cannot be: the peak" in text for text in low.findings)


def attends(name: str, *shapes: tuple[int, ...], at_ms: float = 1) -> Any:
    return op(name, at_ms=at_ms, ms=1, shape=shape(shapes, ["float"] * len(shapes)))


def architecture(*operators: Any) -> Any:
    """The forward pass of these operators, and one operator of a backward pass at the end."""
    last = op("aten::mul", at_ms=50, ms=1, shape=shape([(1,), (1,)], ["float", "float"]))
    trace = rank_trace(step(0, at_ms=0, ms=60), *operators, last, device_kind="cpu")
    names = [trace.events.names[i] for i in trace.events.name]
    backward = np.array([name == "aten::mul" for name in names])
    return read_architecture(replace(trace, events=replace(trace.events, backward=backward)), [0])


SDPA = "aten::scaled_dot_product_attention"
Q = (2, 8, 128, 64)


def test_a_rank_of_a_tensor_group_shows_its_own_heads() -> None:
    found = architecture(
        attends(SDPA, Q, Q, Q), attends("aten::linear", (2, 128, 512), (256, 512), at_ms=5)
    )
    assert found.attention.heads == 8
    assert found.linear_products == 2 * 128 * 512 * 256


@pytest.mark.parametrize(
    ("operators", "why"),
    [
        ([attends(SDPA, Q, Q, Q), attends(SDPA, (2, 8, 64, 64), (2, 8, 64, 64), at_ms=5)], "2 dif"),
        ([attends(SDPA, Q, (2, 8, 77, 64), (2, 8, 77, 64))], "other keys than queries"),
        ([attends(SDPA, (256, 8, 64), (256, 8, 64))], "ragged"),
        ([attends("aten::bmm", (2, 768, 768), (2, 768, 3072))], "no attention operator"),
        ([], "no attention operator"),
    ],
)
def test_what_is_not_plain_is_not_guessed(operators: list[Any], why: str) -> None:
    found = architecture(*operators)
    assert found.attention is None and why in found.why_not


def test_inference_has_no_training_flop(shared_traces: Path) -> None:
    opened = run_folder.open_run([shared_traces / "tracelens" / "mi300_qwen.json.gz"])
    found = roofline_of(opened, load, None)
    told = {entry.claim: entry for entry in found.cannot_tell}
    assert "no backward pass" in told["utilization by palm"].why
    assert found.transformer is not None and found.transformer.heads == 16
