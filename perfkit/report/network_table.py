"""What the network gave this run: latency and bandwidth fitted to its own collectives."""

from perfkit import units
from perfkit.analyzers.result_network import NetworkFit
from perfkit.report import show
from perfkit.report.model import Cell, Column, Table
from perfkit.report.names import name


def network_table(fits: tuple[NetworkFit, ...]) -> Table:
    """Return one row a placement: intervals, the sizes they hold for, or why there is none."""
    return Table(
        id="networks",
        caption="The network as this run's collectives found it",
        columns=(
            Column(title="Placement"),
            Column(title="Ranks", numeric=True),
            Column(title="Calls", meaning="fit_calls", numeric=True),
            Column(title="Latency", meaning="fit_alpha", numeric=True),
            Column(title="Bus bandwidth", meaning="fit_bandwidth", numeric=True),
            Column(title="Valid for"),
            Column(title="Median error", meaning="fit_residual", numeric=True),
            Column(title="Latency part", meaning="fit_parts", numeric=True),
            Column(title="Bytes part", meaning="fit_parts", numeric=True),
            Column(title="Remarks"),
        ),
        rows=tuple(_row(fit) for fit in fits),
        note="In brackets: 95% intervals.",
    )


def _row(fit: NetworkFit) -> tuple[Cell, ...]:
    return (
        Cell(text=name(fit.placement, 40)),
        Cell(text=f"{fit.ranks}", value=fit.ranks),
        Cell(text=units.count(fit.calls), value=fit.calls),
        _with_interval(fit.alpha_us, fit.alpha_interval_us, units.microseconds),
        _with_interval(
            fit.bandwidth_gbyte_per_s, fit.bandwidth_interval_gbyte_per_s, units.bandwidth
        ),
        Cell(text=_sizes(fit)),
        _known(fit.median_residual, units.percent),
        _known(fit.latency_ms, units.milliseconds),
        _known(fit.wire_ms, units.milliseconds),
        Cell(text=_remarks(fit)),
    )


def _known(value: float | None, formatter: show.Formatter) -> Cell:
    return Cell(text="cannot tell" if value is None else formatter(value), value=value)


def _with_interval(
    value: float | None, interval: tuple[float, float] | None, formatter: show.Formatter
) -> Cell:
    if value is None:
        return Cell(text="cannot tell")
    around = f" ({formatter(interval[0])} to {formatter(interval[1])})" if interval else ""
    return Cell(text=formatter(value) + around, value=value)


def _sizes(fit: NetworkFit) -> str:
    if fit.valid_from_bytes is None or fit.valid_to_bytes is None:
        return "cannot tell"
    return f"{units.size(fit.valid_from_bytes)} to {units.size(fit.valid_to_bytes)}"


def _remarks(fit: NetworkFit) -> str:
    remarks = [name(fit.refused, 300)] if fit.refused else []
    if fit.overlapped:
        remarks.append("the calls run beside compute: the network itself may be faster")
    if fit.saturation_bytes is not None:
        remarks.append(f"all-reduce saturates at about {units.size(fit.saturation_bytes)}")
    return show.sentence("; ".join(remarks))
