"""The roofline as files of their own: SVG that needs nothing else, PNG without a browser."""

import struct
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from perfkit.report import roofline_plot
from perfkit.report.figure_svg import figure
from perfkit.report.model import Axis, Bound, BoundChart, Dot, Dots, Line, PlotChart
from perfkit.roofline.of_run import roofline_of
from perfkit.roofline.summary import RunRoofline
from perfkit.trace import run as run_folder
from tests.roofline.test_commands import perfkit

SVG = "{http://www.w3.org/2000/svg}"


def load(path: Path) -> RunRoofline:
    opened = run_folder.open_run([path])
    return roofline_of(opened, partial(run_folder.load_rank, cache=None), None)


@pytest.fixture
def resnet(shared_traces: Path) -> Path:
    return shared_traces / "tracelens" / "mi300_ddp_resnet.json.gz"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_figure_holds_every_panel_and_mark(resnet: Path) -> None:
    found = load(resnet)
    svg = roofline_plot.svg(found)
    shown = texts(svg)
    for caption in (
        "Operators under the roofs, one mark per operator and shape",
        "Operators: bound against measured, per step",
        "Steps: bound against measured",
        "The step under the network's roof, one mark per rank and level",
        "The step between the ridges",
        "Replicated (DDP): work per rank and step that the network needs",
    ):
        assert caption in shown
    titles = [title.text or "" for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    computing = [p for p in found.points if p.executed_flop]
    assert sum(title.startswith("aten::") for title in titles) == len(computing)
    assert "memory 5.30 TB/s" in titles


def test_the_figure_loads_and_runs_nothing(resnet: Path) -> None:
    svg = roofline_plot.svg(load(resnet))
    for element in ElementTree.fromstring(svg).iter():
        assert element.tag.removeprefix(SVG) in {
            "svg", "g", "rect", "text", "title", "path", "circle", "polygon",
        }  # fmt: skip
        assert not any("href" in name or name.startswith("on") for name in element.attrib)


def test_marks_stand_where_their_values_lie() -> None:
    axis = Axis(title="x", low=1, high=100, ticks=(), log=True)
    dot = Dot(x=10, y=100, radius=3, hover="<b>&")
    chart = PlotChart(
        id="c",
        caption="]]> & <script>",
        x=axis,
        y=axis,
        dots=(Dots(name="d", key="limit-tensor", shape="circle", dots=(dot,)),),
        lines=(Line(name="l", points=((1, 1), (100, 100)), dashed=True),),
    )
    root = ElementTree.fromstring(figure("t", [chart]))
    marks = [c for c in root.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]
    (mark,) = marks
    assert float(mark.attrib["cx"]) == pytest.approx(820 / 2)  # the frame is 820 wide
    assert float(mark.attrib["cy"]) == pytest.approx(0)
    assert mark.findtext(f"{SVG}title") == "<b>&"
    (line,) = [p for p in root.iter(f"{SVG}path") if "stroke-dasharray" in p.attrib]
    assert line.attrib["d"] == "M0.0 380.0L820.0 0.0"


def test_bars_are_as_long_as_their_times() -> None:
    rows = (
        Bound(name="a", key="limit-memory", measured=100.0, least=25.0, text="4 ms", hover="a"),
        Bound(name="b", key="limit-memory", measured=50.0, least=None, text="2 ms", hover="b"),
    )
    chart = BoundChart(id="b", caption="c", rows=rows, legend=(), longest=4.0, unit=" ms")
    root = ElementTree.fromstring(figure("t", [chart]))
    widths = [float(r.attrib["width"]) for r in root.iter(f"{SVG}rect") if "x" in r.attrib]
    longest = max(widths)
    assert sorted(width / longest for width in widths) == pytest.approx([0.25, 0.5, 1.0])


def test_the_command_writes_all_three(resnet: Path, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    files = [tmp_path / f"plot{ending}" for ending in (".html", ".svg", ".png")]
    asked = [word for file in files for word in ("--plot", file)]
    done = perfkit("roofline", resnet, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    html, svg, png = files
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Operators under the roofs" in svg.read_text(encoding="utf-8")
    picture = png.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert width == 1920 and height > 4000
    assert all(file.name in done.stdout for file in files)


@pytest.mark.parametrize(
    ("plot", "message"),
    [("x.pdf", "end it in .html, .svg, .png"), ("x", "no format"), ("no/x.svg", "no folder no")],
)
def test_a_plot_that_cannot_be_is_one_line(
    resnet: Path, plot: str, message: str, tmp_path: Path
) -> None:
    done = perfkit("roofline", resnet, "--plot", plot, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_the_renderer_a_picture_names_the_extra(resnet: Path, tmp_path: Path) -> None:
    """A module that is None in sys.modules is one that is not installed."""
    code = (
        "import sys; sys.modules['resvg_py'] = None\n"
        "from perfkit.cli import main; sys.argv[0] = 'perfkit'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "roofline", str(resnet), "--plot", "x.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 2, done.stderr
    assert "perfkit[png]" in done.stderr and "svg" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_figure_without_bounds_says_why(shared_traces: Path) -> None:
    found = load(shared_traces / "kineto" / "torchrec_resnet18_2ranks")
    words = " ".join(texts(roofline_plot.svg(found)))
    assert "The capture records no operator shapes." in words
    nothing = replace(found, uncosted=())
    (title, *_) = texts(roofline_plot.svg(nothing))
    assert "nothing to draw" in title and "the capture records no operator shapes" in title
