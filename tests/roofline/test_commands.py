"""`perfkit roofline` and `perfkit ceilings` as a user runs them."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from perfkit.report import axes, roofline_plot, roofline_text
from perfkit.report.roofline_charts import roofline_chart
from perfkit.report.step_charts import network_chart, ridge_chart
from perfkit.roofline.ceilings import encode
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.trace import run as run_folder
from tests.roofline.machines import ceilings


def perfkit(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "perfkit", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=250, check=False
    )


@pytest.fixture
def qwen(shared_traces: Path) -> Path:
    return shared_traces / "tracelens" / "h100_qwen.json.gz"


def load(path: Path) -> RunRoofline:
    opened = run_folder.open_run([path])
    return roofline_of(opened, partial(run_folder.load_rank, cache=None), None)


def test_a_foreign_trace_gets_points_plots_and_the_next_command(qwen: Path, tmp_path: Path) -> None:
    done = perfkit("roofline", qwen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Roofline of 1 of 1 ranks on NVIDIA H100 80GB HBM3: 99.9%" in done.stdout
    assert "published: NVIDIA H100 SXM" in done.stdout
    assert "perfkit ceilings" in done.stderr
    (page,) = tmp_path.glob("perfkit-runs/*/roofline.html")
    assert str(page.relative_to(tmp_path)) in done.stdout


def test_json_alone_on_stdout(qwen: Path, tmp_path: Path) -> None:
    done = perfkit("roofline", qwen, "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    assert found["points"][0]["name"] == "aten::_scaled_dot_product_flash_attention"
    assert found["points"][0]["limit"] == "memory"
    assert found["costed_share"] == pytest.approx(0.99995, abs=1e-4)
    shares = {entry["convention"]: entry["share"] for entry in found["utilization"]}
    assert shares["executed"] == pytest.approx(5.7650e12 / 47.151e-3 / 989.4e12, rel=2e-3)


def test_ceilings_of_another_device_are_refused(qwen: Path, tmp_path: Path) -> None:
    file = tmp_path / "ceilings.json"
    file.write_bytes(encode(ceilings()))
    done = perfkit("roofline", qwen, "--ceilings", file, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "the ceilings are of Abacus (cpu)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("roofline", "nothing"), 3, "nothing"),
        (("roofline",), 2, "RUN"),
        (("ceilings", "--ranks", "1"), 2, "--ranks"),
        (("ceilings", "--ranks", "100000"), 2, "too many processes for this machine"),
        (("ceilings", "--out", "no/such/folder/c.json"), 2, "cannot write"),
        (("ceilings", "--out", "."), 2, "it is a folder"),
        (("roofline", "nothing", "--plot", "x.jpg"), 2, "no format is known"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...], status: int, message: str, tmp_path: Path
) -> None:
    done = perfkit(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_capture_without_shapes_says_what_it_lacks(shared_traces: Path) -> None:
    found = load(shared_traces / "kineto" / "torchrec_resnet18_2ranks")
    assert found.points == ()
    told = {entry.claim: entry for entry in found.cannot_tell}
    assert "record_shapes=True" in told["points, FLOP, utilization"].remedy
    text = roofline_text.run(found, width=120)
    assert "no shapes recorded" in text and "Cannot tell" in text
    assert found.analysed_ranks == (0, 1)


def test_a_device_without_a_name_still_shows_what_is_known(shared_traces: Path) -> None:
    found = load(shared_traces / "tracelens" / "vllm_decode_graph.json.gz")
    assert found.ceilings == ()
    assert all(point.bound_s is None for point in found.points) and found.points
    why = {entry.claim: entry.why for entry in found.cannot_tell}
    assert why["shares of measured ceilings"] == "the capture records no device name"
    assert "<svg" in roofline_plot.page(found)


def test_a_cpu_run_without_ceilings_says_what_it_lacks(shared_traces: Path) -> None:
    found = load(shared_traces / "own" / "gloo_ddp4")
    assert found.device_kind == "cpu" and len(found.ranks) == 4
    assert all(step.ceilings.lowest_s == 0 for step in found.ranks)
    claims = {entry.claim for entry in found.cannot_tell}
    assert "shares of measured ceilings" in claims
    assert found.costed_share is not None and found.costed_share > 0.7


def test_the_page_holds_every_operator_that_computes(qwen: Path) -> None:
    found = load(qwen)
    page = roofline_plot.page(found)
    chart = roofline_chart(found)
    assert chart is not None
    drawn = sum(len(group.dots) for group in chart.dots)
    assert drawn == sum(1 for point in found.points if point.executed_flop)
    assert page.count('<i class="dot ') == drawn
    for name in ("matrix bf16 989 TFLOP/s", "memory 3.35 TB/s", "copies, fills"):
        assert name in page


def test_every_mark_lies_inside_its_frame(shared_traces: Path) -> None:
    found = load(shared_traces / "tracelens" / "mi300_ddp_resnet.json.gz")
    for chart in (roofline_chart(found), network_chart(found), ridge_chart(found)):
        if chart is None:
            continue
        for dot in (dot for group in chart.dots for dot in group.dots):
            assert 0 <= axes.place(chart.x, dot.x) <= 100
            assert 0 <= axes.place(chart.y, dot.y) <= 100
