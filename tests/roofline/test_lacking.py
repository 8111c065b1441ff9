"""What the roofline lacks on odd runs: it names it, says how to record it, draws the rest."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from perfkit.errors import InputError
from perfkit.report import roofline_plot, roofline_text
from perfkit.report.model import BoundChart, Table
from perfkit.report.roofline_charts import roofline_chart
from perfkit.report.roofline_section import roofline_section
from perfkit.roofline.cost import OpCost, UnknownCost
from perfkit.roofline.inputs import Inputs
from perfkit.roofline.of_run import host_misfit, roofline_of
from perfkit.roofline.summary import IN_CACHE, RunRoofline
from perfkit.roofline.table import COSTS
from perfkit.trace import run as run_folder
from perfkit.trace.model import DeviceFacts, NodeRecord, RankRecord, RankTrace, Run
from tests.builders import kernel, op, rank_trace, run_of, step
from tests.roofline.machines import ceilings
from tests.roofline.shapes import shape

CUBE = shape([(1000, 1000), (1000, 1000)], ["float", "float"])


def told(found: RunRoofline) -> dict[str, str]:
    return {entry.claim: f"{entry.why}. {entry.remedy}" for entry in found.cannot_tell}


def on_gpu(rank: int, name: str) -> RankTrace:
    """A rank whose one product runs as one kernel."""
    trace = rank_trace(
        step(0, at_ms=0, ms=20),
        op("aten::mm", at_ms=0, ms=1, shape=CUBE),
        kernel("gemm", at_ms=5, ms=10, launched_at_ms=0.5),
        rank=rank,
        world_size=2,
    )
    events = trace.events
    issuer = next(i for i in range(len(events)) if events.names[events.name[i]] == "aten::mm")
    column = events.op.copy()
    column[[events.names[n] == "gemm" for n in events.name]] = issuer
    return replace(
        trace,
        events=replace(events, op=column),
        devices=(DeviceFacts(index=0, name=name),),
        has_shapes=True,
    )


def of(*names: str) -> RunRoofline:
    run, load = run_of(*(on_gpu(rank, name) for rank, name in enumerate(names)))
    return roofline_of(run, load, None)


def test_a_device_that_no_table_knows() -> None:
    found = of("Quantum Abacus 9000", "Quantum Abacus 9000")
    why = told(found)["shares of measured ceilings"]
    assert "no published peaks are known for 'Quantum Abacus 9000'" in why
    assert "perfkit ceilings" in why
    (point,) = found.points
    assert point.achieved_flop_per_s == pytest.approx(2e9 / 10e-3) and point.bound_s is None
    assert roofline_chart(found) is not None
    assert "mm 1000x1000, 1000x1000" in roofline_text.run(found, width=120)


def test_ranks_on_different_devices() -> None:
    found = of("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB")
    assert (
        "NVIDIA A100-SXM4-80GB and NVIDIA H100 80GB HBM3" in told(found)["one roof for all ranks"]
    )
    assert found.device_name == "NVIDIA A100-SXM4-80GB and NVIDIA H100 80GB HBM3"
    assert "NVIDIA H100 SXM" in found.ceilings[0].source  # those of the first rank, as it says
    assert "<svg" in roofline_plot.svg(found)


def test_a_gpu_run_whose_properties_were_not_recorded() -> None:
    traces = [replace(on_gpu(rank, ""), devices=()) for rank in range(2)]
    run, load = run_of(*traces)
    found = roofline_of(run, load, None)
    why = told(found)["shares of measured ceilings"]
    assert why.startswith("the capture records no device properties")
    assert roofline_chart(found) is not None


def on_cpu() -> tuple[Run, partial[RankTrace]]:
    trace = rank_trace(
        step(0, at_ms=0, ms=20),
        op("aten::mm", at_ms=0, ms=10, shape=CUBE),
        device_kind="cpu",
    )
    run, load = run_of(replace(trace, has_shapes=True))
    return run, partial(load)


def with_cpu(run: Run, model: str) -> Run:
    return replace(run, nodes=(NodeRecord(node="node-a", facts={"cpu_model": model}),))


def test_the_cache_has_a_roof_of_its_own_where_an_operator_is_held_against_it() -> None:
    half = shape([(100, 100)] * 2, ["float"] * 2)  # 80 kB in 160 ns: main memory takes 800 ns
    quick = rank_trace(
        step(0, at_ms=0, ms=20),
        op("aten::add_", at_ms=0, ms=0.00016, shape=half),
        op("aten::mm", at_ms=1, ms=10, shape=CUBE),
        device_kind="cpu",
    )
    run, load = run_of(replace(quick, has_shapes=True))
    found = roofline_of(run, load, ceilings(cached={1 << 17: 1e12, 1 << 20: 5e11}))
    (roof,) = [entry for entry in found.ceilings if entry.quantity == IN_CACHE]
    assert (roof.value, roof.source) == (1e12, "measured: copy over a working set of 128 KiB")
    chart = roofline_chart(found)
    assert chart is not None
    assert "memory in cache 1.00 TB/s" in [line.name for line in chart.lines]
    assert "1 above main memory's roof found their data in the cache." in chart.note
    run, load = on_cpu()
    found = roofline_of(run, load, ceilings(cached={1 << 17: 1e12}))
    assert IN_CACHE not in [entry.quantity for entry in found.ceilings]


def test_ceilings_of_another_cpu_are_refused_by_name() -> None:
    run, load = on_cpu()
    other = with_cpu(run, "Slide Rule")
    text = "the ceilings are of another CPU (Abacus): node node-a has Slide Rule"
    assert host_misfit(ceilings(), other) == text
    with pytest.raises(InputError, match="of another CPU"):
        roofline_of(other, load, ceilings())
    assert host_misfit(ceilings(device_kind="cuda"), other) == ""
    assert host_misfit(None, other) == ""


def test_ceilings_of_the_same_cpu_are_used_without_a_word() -> None:
    run, load = on_cpu()
    found = roofline_of(with_cpu(run, "Abacus"), load, ceilings())
    assert found.points[0].attained == pytest.approx(0.2)
    assert not any("machine" in claim for claim in told(found))


def test_a_cpu_that_is_not_recorded_cannot_be_checked_and_says_so() -> None:
    run, load = on_cpu()
    found = roofline_of(run, load, ceilings())
    why = told(found)["whether the ceilings are of the machine that ran this"]
    assert "no CPU model" in why
    assert found.points[0].attained == pytest.approx(0.2)


def test_ranks_that_share_a_cpu_share_its_peak() -> None:
    """Two ranks of 1 GFLOP a ms on one machine of 1 TFLOP/s: the machine is half used."""
    traces = [
        rank_trace(
            step(0, at_ms=0, ms=8),
            op("aten::mm", at_ms=0, ms=8, shape=CUBE),
            rank=rank,
            world_size=2,
            device_kind="cpu",
        )
        for rank in range(2)
    ]
    run, load = run_of(*traces)
    found = roofline_of(run, load, ceilings())
    shares = {entry.convention: entry.share for entry in found.utilization}
    assert shares["executed"] == pytest.approx(2 * 2e9 / 8e-3 / 1e12)
    apart = [replace(trace, clock_domain=f"boot-{trace.rank}") for trace in traces]
    run, load = run_of(*apart)
    shares = {e.convention: e.share for e in roofline_of(run, load, ceilings()).utilization}
    assert shares["executed"] == pytest.approx(2e9 / 8e-3 / 1e12)


def test_a_capture_without_shapes_still_shows_where_time_goes(shared_traces: Path) -> None:
    opened = run_folder.open_run([shared_traces / "kineto" / "hta_nccl_metadata.json.gz"])

    def load(record: RankRecord) -> RankTrace:
        return run_folder.load_rank(record, cache=None)

    found = roofline_of(opened, load, None)
    assert "record_shapes=True" in told(found)["points, FLOP, utilization"]
    assert found.uncosted and found.ranks[0].levels  # the network's bytes are known all the same
    assert "No cost known" in roofline_text.run(found, width=100)
    section = roofline_section(found)
    assert section is not None
    shown = {block.id: block for block in section.blocks if isinstance(block, BoundChart | Table)}
    chart = shown["uncosted-chart"]
    assert isinstance(chart, BoundChart) and all(row.least is None for row in chart.rows)
    assert chart.rows[0].measured == 100 and chart.longest <= 100  # per cent of all time
    assert "above-roof" not in shown and "uncosted" in shown
    figure = roofline_plot.svg(found)
    assert chart.rows[0].text in figure and "least that the ceilings" not in figure


@pytest.mark.parametrize(
    ("name", "at"), [("flash_attn_3::fwd", (0, 7, 24, 25)), ("flash_attn_3::bwd", (1, 9, 16, 17))]
)
def test_flash_attention_3_is_counted_where_its_lengths_are_known(
    name: str, at: tuple[int, int, int, int]
) -> None:
    """Arguments as eight H100 recorded them; ragged batches and windows stay unknown."""
    query, ragged, causal, window = at
    dims: list[tuple[int, ...]] = [()] * 26
    kinds, said = [""] * 26, [""] * 26
    for place in range(query + 3):
        dims[place], kinds[place] = (2, 512, 16, 64), "c10::BFloat16"
    said[causal], said[window] = "False", "-1"

    def counted() -> OpCost:
        return COSTS[name](Inputs(shape(dims, kinds, said), None))

    forward = 4 * 2 * 16 * 512 * 512 * 64
    assert counted().flop == (2 if query else 1) * forward
    said[window] = "384"
    with pytest.raises(UnknownCost, match="local attention"):
        counted()
    dims[ragged], kinds[ragged] = (3,), "int"
    with pytest.raises(UnknownCost, match="ragged batches"):
        counted()
