"""A scaling series for the terminal: what was measured, why efficiency is lost, what comes next."""

from collections.abc import Callable, Iterator, Sequence

from perfkit import units
from perfkit.analyzers.scaling_losses import CAUSES
from perfkit.analyzers.scaling_result import Fits, LinkUsed, Scaling, ScalingPoint

Label = Callable[[float | None], str]

_LOSSES_SHOWN = 3
_REST_SHOWN = 0.01  # of the time over the ideal


def render(found: Scaling, *, report_path: str) -> str:
    """Return the whole summary."""
    lines = [
        *_measured(found),
        "",
        *_why(found.points),
        "",
        *_models(found),
        *_predictions(found),
        *_costs(found),
        "",
        *found.sentences,
    ]
    lines += [f"Note: {warned.message}." for warned in found.warnings]
    return "\n".join([*lines, "", f"Report: {report_path}"])


def _measured(found: Scaling) -> Iterator[str]:
    kept = "global batch" if found.mode == "strong" else "batch of a rank"
    yield f"{found.mode.capitalize()} scaling (the {kept} was the same in all runs)"
    yield ""
    heads = ("ranks", "step", "95 % interval", "samples/s", "speed-up", "efficiency")
    yield (
        f"{heads[0]:>5}  {heads[1]:>9}  {heads[2]:>21}  {heads[3]:>10}  {heads[4]:>9}  " + heads[5]
    )
    for point in found.points:
        mark = "  oversubscribed" if point.oversubscribed else ""
        yield (
            f"{point.ranks:>5}  {units.milliseconds(point.step_ms):>9}  "
            f"{span(point.step_interval_ms, units.milliseconds):>21}  "
            f"{units.number(point.samples_per_s):>10}  {units.ratio(point.speed_up):>9}  "
            f"{units.percent(point.efficiency):>5} "
            f"{span(point.efficiency_interval, units.percent, empty=''):<14}{mark}".rstrip()
        )


def span(limits: tuple[float, float] | None, show: Label, *, empty: str = "one run") -> str:
    """Return an interval in words."""
    return empty if limits is None else f"{show(limits[0])} to {show(limits[1])}"


def _why(points: Sequence[ScalingPoint]) -> Iterator[str]:
    yield "Where the time over the ideal goes:"
    for point in points[1:]:
        over = point.step_ms - point.ideal_ms
        if over <= 0:
            yield f"  {point.ranks} ranks: {units.milliseconds(-over)} under the ideal"
            continue
        parts = [loss for loss in point.losses if loss.ms > 0][:_LOSSES_SHOWN]
        unknown = "cannot tell why, the runs have no trace"
        named = [f"{units.milliseconds(loss.ms)} {CAUSES[loss.cause]}" for loss in parts]
        rest = over - sum(loss.ms for loss in parts)
        if parts and abs(rest) >= _REST_SHOWN * over:
            named.append(f"{units.milliseconds(rest)} all other causes together")
        told = "; ".join(named)
        yield (
            f"  {point.ranks} ranks: {units.milliseconds(over)} over the ideal "
            f"{units.milliseconds(point.ideal_ms)}: {told or unknown}"
        )
    crowded = next((p for p in reversed(points) if p.contention is not None), None)
    if crowded is not None:
        yield f"Contention: {contention(crowded)}."


def contention(point: ScalingPoint) -> str:
    """Return a point's contention factor in words."""
    longer = point.contention or 0.0
    if longer <= 0:
        return f"on {point.ranks} ranks compute beside transfers is not slower than alone"
    return f"on {point.ranks} ranks compute takes {units.percent(longer)} longer beside transfers"


def _models(found: Scaling) -> Iterator[str]:
    fits = found.fits
    if fits is None:
        yield f"No model: {found.fit_refused}."
        return
    listed = ", ".join(map(str, fits.points))
    yield f"Models (fitted to {listed} ranks):"
    for model in fits.models:
        told = model.refused or f"{units.number(model.error_percent)} % leave-one-out error"
        chosen = "  <- used" if model.name == fits.chosen else ""
        yield f"  {model.name:8} {told}{chosen}"
    yield from _physics(fits)


def _physics(fits: Fits) -> Iterator[str]:
    if fits.link is not None:
        yield f"  network  {link(fits.link)}"
    if fits.physics_compute_ms is not None:
        serial = fits.physics_serial_ms
        fixed = "" if serial is None else f", {units.milliseconds(serial)} that does not shrink"
        yield f"  work     {units.milliseconds(fits.physics_compute_ms)} of compute{fixed}"
    if fits.amdahl_serial_share is not None:
        yield f"  Amdahl   {units.percent(fits.amdahl_serial_share)} serial (names no cause)"


def link(used: LinkUsed) -> str:
    """Return a network in words."""
    speed = units.bandwidth(used.bandwidth_gbyte_per_s)
    interval = span(used.bandwidth_interval_gbyte_per_s, units.bandwidth, empty="")
    latency = (
        "latency not told apart"
        if used.alpha_us is None
        else f"{units.microseconds(used.alpha_us)} a ring step"
    )
    return f"{speed}{f' ({interval})' if interval else ''} a rank, {latency}, {used.source}"


def _predictions(found: Scaling) -> Iterator[str]:
    if not found.predictions:
        return
    yield ""
    over = "" if found.predicted_link is None else f" on {link(found.predicted_link)}"
    yield f"Predicted, not measured{over}:"
    refused = {guess.refused for guess in found.predictions}
    if len(refused) == 1 and "" not in refused:
        yield f"  refused: {refused.pop()}"
        return
    for guess in found.predictions:
        if guess.refused:
            yield f"  {guess.ranks:>5} ranks  refused: {guess.refused}"
            continue
        yield (
            f"  {guess.ranks:>5} ranks  {units.milliseconds(guess.step_ms):>9} "
            f"({units.milliseconds(guess.low_ms)} to {units.milliseconds(guess.high_ms)})  "
            f"{units.rate(guess.samples_per_s, 'samples')}, "
            f"efficiency {units.percent(guess.efficiency)}"
        )


def _costs(found: Scaling) -> Iterator[str]:
    if not found.costs:
        return
    yield ""
    yield f"Time and cost of {found.work}:"
    for cost in found.costs:
        price = "" if cost.price is None else f", price {units.number(cost.price)}"
        mark = " (predicted)" if cost.predicted else ""
        yield (
            f"  {cost.ranks:>5} ranks  {units.seconds(cost.hours * 3600):>11}, "
            f"{units.number(cost.gpu_hours)} rank-hours{price}{mark}"
        )
    yield (
        f"  numbers of ranks: {found.cheapest_ranks} is cheapest, {found.fastest_ranks} is fastest"
        + (f"; knee (speed-up times efficiency): {found.knee_ranks}" if found.knee_ranks else "")
    )
