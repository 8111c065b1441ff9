"""Machines on the page: who used the processors over the run, and what held the GPUs back."""

from collections.abc import Callable, Sequence

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_telemetry import GpuLoad, GpuPoint, LoadPoint, NodeLoad, RankLoad
from perfkit.report import axes, show
from perfkit.report.model import (
    Block,
    Cell,
    Column,
    Dot,
    Dots,
    Line,
    Note,
    PlotChart,
    Section,
    Table,
)
from perfkit.report.names import name

DRAWN_NODES = 4
DRAWN_GPUS = 8

Points = tuple[tuple[float, float], ...]


def machines_section(analysis: Analysis) -> Section | None:
    """Return load, clocks and power over the run; None where no machine was sampled."""
    nodes = analysis.telemetry
    counters = _counter_table(analysis)
    if not nodes:
        return (
            None
            if counters is None
            else Section(
                id="machines",
                short="Machines",
                title="What the devices did",
                lead="Hardware counters that the capture sampled while its steps ran.",
                blocks=(counters,),
            )
        )
    blocks: list[Block | None] = [_load_chart(nodes), _node_table(nodes), counters]
    gpus = [(node.node, gpu) for node in nodes for gpu in node.gpus]
    if gpus:
        blocks += [*_gpu_charts(gpus, many=len(nodes) > 1), _gpu_table(gpus)]
    else:
        why = "No GPU answered (NVML), so there are no clocks, power or temperatures here."
        blocks.append(Note(text=why))
    blocks.append(_rank_table(nodes))
    return Section(
        id="machines",
        short="Machines",
        title="Machines over the run",
        lead="Sampled once a second by perfkit's own process, from the first step to the last.",
        blocks=tuple(block for block in blocks if block is not None),
    )


def _counter_table(analysis: Analysis) -> Table | None:
    """One row a rank and counter, in the counter's own unit."""
    if not analysis.counters:
        return None
    return Table(
        id="counters-table",
        caption="Hardware counters of each rank's device, mean over its captured steps",
        columns=(
            Column(title="Rank"),
            Column(title="Counter"),
            Column(title="Mean", numeric=True),
            Column(title="Samples", numeric=True),
        ),
        rows=tuple(
            (
                Cell(text=f"rank {row.rank}", value=row.rank),
                Cell(text=name(row.name, 60), foreign=True),
                _cell(row.mean, units.number),
                _cell(row.samples, units.count),
            )
            for row in analysis.counters
        ),
    )


def _load_chart(nodes: tuple[NodeLoad, ...]) -> PlotChart | None:
    drawn = sorted(nodes, key=lambda n: -(n.other_cores or 0.0))[:DRAWN_NODES]
    lines = []
    for node in sorted(drawn, key=lambda n: n.node):
        who = f"{name(node.node, 24)}: " if len(drawn) > 1 else ""
        lines += [
            Line(
                name=f"{who}in use",
                points=_curve(node.series, lambda p: p.busy_cores),
                dashed=True,
                labelled=len(drawn) == 1,
            ),
            Line(
                name=f"{who}this run",
                points=_curve(node.series, lambda p: p.own_cores),
                key="compute",
                labelled=len(drawn) == 1,
            ),
        ]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return None
    top = max(
        float(max(n.processors for n in drawn)), *(y for line in lines for _, y in line.points)
    )
    last = max(x for line in lines for x, _ in line.points)
    least = min(
        (p.free_memory_bytes for n in nodes for p in n.series if p.free_memory_bytes is not None),
        default=None,
    )
    note = "Dashed: all programs of a machine. Solid: this run. What lies between is the others'."
    if least is not None:
        note += f" The least free memory was {units.size(least)}."
    if len(drawn) < len(nodes):
        note += f" Drawn: the {DRAWN_NODES} machines that others used most."
    return PlotChart(
        id="load-chart",
        caption="Processors in use over the run",
        x=axes.linear("time since the first step began", last, units.seconds),
        y=axes.linear("processors", top, units.number),
        lines=tuple(lines),
        note=note,
    )


def _curve(series: Sequence[LoadPoint], pick: Callable[[LoadPoint], float | None]) -> Points:
    return tuple((p.at_s, value) for p in series if (value := pick(p)) is not None)


def _gpu_charts(gpus: Sequence[tuple[str, GpuLoad]], *, many: bool) -> list[PlotChart | None]:
    worst = sorted(gpus, key=lambda g: -(g[1].slowed_share or 0.0))[:DRAWN_GPUS]
    note = f"Drawn: the {DRAWN_GPUS} GPUs that were slowed most." if len(worst) < len(gpus) else ""
    drawn = [
        (f"{name(node, 24)} GPU {gpu.index}" if many else f"GPU {gpu.index}", gpu)
        for node, gpu in sorted(worst, key=lambda g: (g[0], g[1].index))
    ]
    limits = [gpu.max_sm_mhz for _, gpu in drawn if gpu.max_sm_mhz is not None]
    caps = [gpu.power_limit_w for _, gpu in drawn if gpu.power_limit_w is not None]
    return [
        _gpu_chart(
            "clock-chart",
            "GPU clocks over the run",
            ("SM clock in MHz", lambda p: p.sm_mhz, max(limits, default=None), "highest clock"),
            drawn,
            note,
        ),
        _gpu_chart(
            "power-chart",
            "GPU power over the run",
            ("power in W", lambda p: p.power_w, max(caps, default=None), "power limit"),
            drawn,
            note,
        ),
    ]


Quantity = tuple[str, Callable[[GpuPoint], float | None], float | None, str]


def _gpu_chart(
    id: str,
    caption: str,
    quantity: Quantity,
    drawn: Sequence[tuple[str, GpuLoad]],
    note: str,
) -> PlotChart | None:
    """Draw one quantity of each GPU, its limit dashed, and mark the stretches it was slowed in."""
    title, pick, limit, limit_name = quantity
    curves = [
        (who, tuple((p.at_s, y) for p in gpu.series if (y := pick(p)) is not None))
        for who, gpu in drawn
    ]
    named = {who for who, gpu in drawn if gpu.slowed_share or len(drawn) == 1}
    lines = [
        Line(name=who, points=at, key="compute", labelled=who in named)
        for who, at in curves
        if len(at) > 1
    ]
    if not lines:
        return None
    last = max(x for line in lines for x, _ in line.points)
    top = max(limit or 0.0, *(y for line in lines for _, y in line.points))
    if limit is not None:
        lines.append(Line(name=limit_name, points=((0.0, limit), (last, limit)), dashed=True))
    slowed = tuple(
        Dot(x=p.at_s, y=y, radius=4.0, hover=f"{who} slowed at {units.seconds(p.at_s)}")
        for who, gpu in drawn
        for p in gpu.series
        if p.slowed and (y := pick(p)) is not None
    )
    marks = Dots(
        name="slowed by heat or a brake", key="comm_transfer", shape="diamond", dots=slowed
    )
    told = "Diamonds: clocks lowered by heat or by a hardware brake." if slowed else ""
    return PlotChart(
        id=id,
        caption=caption,
        x=axes.linear("time since the first step began", last, units.seconds),
        y=axes.linear(title, top, units.number),
        lines=tuple(lines),
        dots=(marks,) if slowed else (),
        note=" ".join(text for text in (told, note) if text),
    )


def _node_table(nodes: tuple[NodeLoad, ...]) -> Table:
    return Table(
        id="machines-table",
        caption="Each machine",
        columns=(
            Column(title="Machine"),
            Column(title="Processors", meaning="processors", numeric=True),
            Column(title="In use", meaning="busy_cores", numeric=True),
            Column(title="By this run", meaning="own_cores", numeric=True),
            Column(title="By others", meaning="other_cores", numeric=True),
            Column(title="Stolen", meaning="stolen_cores", numeric=True),
            Column(title="Least free", meaning="free_memory", numeric=True),
            Column(title="Disk read", meaning="disk_rate", numeric=True),
            Column(title="Disk write", meaning="disk_rate", numeric=True),
            Column(title="Net sent", meaning="network_rate", numeric=True),
            Column(title="Net received", meaning="network_rate", numeric=True),
        ),
        rows=tuple(_node_row(node) for node in nodes),
        note="Means from the first step to the last; network without the loopback interface.",
    )


def _node_row(node: NodeLoad) -> tuple[Cell, ...]:
    return (
        Cell(text=name(node.node, 60), foreign=True),
        _cell(node.processors or None, units.count),
        *(
            _cell(None if value is None else round(value, 2), units.number)
            for value in (node.busy_cores, node.own_cores, node.other_cores, node.stolen_cores)
        ),
        _cell(node.least_free_memory_bytes, units.size),
        *(
            _cell(None if value is None else value / 1e9, units.bandwidth)
            for value in (
                node.disk_read_bytes_per_s,
                node.disk_written_bytes_per_s,
                node.net_sent_bytes_per_s,
                node.net_received_bytes_per_s,
            )
        ),
    )


def _gpu_table(gpus: Sequence[tuple[str, GpuLoad]]) -> Table:
    return Table(
        id="gpus-table",
        caption="Each GPU",
        columns=(
            Column(title="Machine"),
            Column(title="GPU"),
            Column(title="Utilisation", meaning="gpu_utilisation", numeric=True),
            Column(title="Peak memory", meaning="gpu_peak_memory", numeric=True),
            Column(title="SM clock", meaning="sm_clock", numeric=True),
            Column(title="Power", meaning="gpu_power", numeric=True),
            Column(title="Hottest", meaning="gpu_hottest", numeric=True),
            Column(title="Slowed", meaning="slowed_share", numeric=True),
            Column(title="At power limit", meaning="power_capped_share", numeric=True),
            Column(title="Errors", meaning="gpu_errors"),
        ),
        rows=tuple(_gpu_row(node, gpu) for node, gpu in gpus),
    )


def _gpu_row(node: str, gpu: GpuLoad) -> tuple[Cell, ...]:
    used = None if gpu.utilisation_percent is None else gpu.utilisation_percent / 100
    return (
        Cell(text=name(node, 60), foreign=True),
        Cell(text=f"{gpu.index} {name(gpu.name, 40)}".strip(), value=gpu.index, foreign=True),
        _cell(used, units.percent),
        _cell(gpu.peak_memory_bytes, units.size),
        _of(gpu.sm_mhz, gpu.max_sm_mhz, "MHz"),
        _of(gpu.power_w, gpu.power_limit_w, "W"),
        _cell(gpu.peak_temp_c, lambda value: f"{units.count(value)} °C"),
        _cell(gpu.slowed_share, units.percent),
        _cell(gpu.power_capped_share, units.percent),
        Cell(text=_errors(gpu)),
    )


def _errors(gpu: GpuLoad) -> str:
    found = [f"XID {number}" for number in dict.fromkeys(gpu.xids)]
    if gpu.new_ecc_errors:
        found.append(f"{gpu.new_ecc_errors} ECC")
    return ", ".join(found) or "none seen"


def _of(value: float | None, most: float | None, unit: str) -> Cell:
    """Show a value with the most it can be, where that is known."""
    if value is None:
        return _cell(None, units.number)
    text = f"{units.count(value)} {unit}"
    return Cell(text=text if most is None else f"{text} of {units.count(most)}", value=value)


def _rank_table(nodes: tuple[NodeLoad, ...]) -> Table | None:
    rows = sorted(((r, n.node) for n in nodes for r in n.ranks), key=lambda row: row[0].rank)
    if not rows:
        return None
    return Table(
        id="processes-table",
        caption="Each rank's process",
        columns=(
            Column(title="Rank"),
            Column(title="Machine"),
            Column(title="Peak memory", meaning="peak_rss", numeric=True),
            Column(title="Processors", meaning="rank_cores", numeric=True),
            Column(title="Waited for a processor", meaning="queued_share", numeric=True),
        ),
        rows=tuple(_rank_row(rank, node) for rank, node in rows),
    )


def _rank_row(rank: RankLoad, node: str) -> tuple[Cell, ...]:
    return (
        Cell(text=f"rank {rank.rank}", value=rank.rank),
        Cell(text=name(node, 60), foreign=True),
        _cell(rank.peak_rss_bytes, units.size),
        _cell(rank.cpu_cores, units.number),
        _cell(rank.queued_share, units.percent),
    )


def _cell(value: float | None, formatter: Callable[[float | None], str]) -> Cell:
    return Cell(text=show.known(formatter, value), value=value)
