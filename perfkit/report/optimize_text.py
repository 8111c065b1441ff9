"""A search for the terminal: what was tried, what it gained, why it was kept or reverted."""

from collections.abc import Iterator

from perfkit import units
from perfkit.recipes.ledger import Attempt, Forecast, Optimization, Pairs
from perfkit.report.names import name


def render(found: Optimization, *, report_path: str) -> str:
    """Return the whole summary."""
    lines = [
        *_baseline(found),
        *_table(found),
        *_rest(found),
        *_stack(found),
        "",
        found.sentence,
    ]
    return "\n".join([*lines, "", f"Report: {report_path}"])


def sentence(found: Optimization) -> str:
    """Return the result in a sentence."""
    if not found.stack:
        return (
            f"Nothing was kept: no recipe that may be tried ({found.allow}) makes this training "
            f"faster for certain. {stopped(found)}"
        )
    recipes = " + ".join(found.stack)
    if not found.confirmed or found.confirmation is None:
        shown = "" if found.confirmation is None else f"{measured(found.confirmation)}, "
        return (
            f"Not confirmed: {recipes} gained when tried one by one, but fresh runs of all "
            f"together say {shown}{found.not_confirmed or 'nothing'}. Do not rely on it."
        )
    return f"{recipes}: {measured(found.confirmation)}, confirmed on fresh runs. {stopped(found)}"


def so_far(found: Optimization) -> str:
    """Say what an unfinished search has found."""
    tried = sum(a.measured is not None or a.decision == "reverted" for a in found.attempts)
    kept = " + ".join(found.stack)
    said = f"kept and not yet confirmed: {kept}" if kept else "nothing was kept"
    return f"so far {tried} recipe{'s were' if tried != 1 else ' was'} tried; {said}"


def stopped(found: Optimization) -> str:
    """Say why the search went no further."""
    return f"It ended because {found.stopped}." if found.stopped else ""


def announced(label: str, forecast: Forecast) -> str:
    """Say what is about to be tried and what it should bring."""
    text = f"trying {label}: {predicted(forecast)} predicted ({name(forecast.why, 200)})"
    return f"{text}{known(forecast)}"


def known(forecast: Forecast) -> str:
    """Say how far off earlier predictions of this recipe were, "" where too few are known."""
    if forecast.past_error is None:
        return ""
    return (
        f"; expect {units.percent(forecast.past_error)} either way, from {forecast.past} "
        "measured predictions of it"
    )


def decided(attempt: Attempt) -> str:
    """Say how an attempt ended."""
    numbers = "" if attempt.measured is None else f": {measured(attempt.measured)}"
    reason = f" ({name(attempt.reason, 200)})" if attempt.reason else ""
    return f"{attempt.label} {attempt.decision}{numbers}{reason}"


def predicted(forecast: Forecast) -> str:
    """Return a prediction with its range, or what there is of it."""
    if forecast.expected is None:
        most = units.ratio(forecast.ceiling) if forecast.ceiling is not None else "nothing"
        return f"at most {most}"
    text = units.ratio(forecast.expected)
    if forecast.low is not None and forecast.high is not None and forecast.high > forecast.low:
        text += f" [{forecast.low:.2f}, {forecast.high:.2f}]"
    return text


def measured(pairs: Pairs) -> str:
    """Return a measured ratio with its interval and the number of pairs."""
    count = len(pairs.base_ms)
    if pairs.ratio is None:
        return f"not judged, {count} pair{'s' * (count != 1)}"
    text = f"{units.ratio(pairs.ratio)} [{pairs.low:.2f}, {pairs.high:.2f}] over {count} pairs"
    if pairs.disturbed:
        text += f", {len(pairs.disturbed)} left out because the load by others changed"
    return text


def searched(attempt: Attempt) -> str:
    """Say what each parameter that was searched took."""
    return "; ".join(
        f"{one.label.partition(':')[2]} {' and '.join(f'{ms:.1f}' for ms in one.step_ms)} ms"
        if one.step_ms
        else f"{one.label.partition(':')[2]} failed"
        for one in attempt.searched
    )


def numbers(attempt: Attempt) -> str:
    """Say what became of the losses."""
    found = attempt.numbers
    if found is None:
        return ""
    if not found.ok:
        return "differ"
    if found.trajectory is None:
        return "not seen"
    if attempt.numerics == "algorithm":
        return f"not judged ({found.trajectory:.1g})"
    return "equal" if found.trajectory == 0 else f"within {found.trajectory:.1g}"


def _baseline(found: Optimization) -> Iterator[str]:
    yield (
        f"Baseline: {units.milliseconds(found.baseline_ms)} a step of the slowest rank; pairs of "
        f"equal runs differ by {units.percent(found.noise_log_sd)} (sd)"
    )
    if found.pairs is not None and found.resolves is not None:
        yield (
            f"Each recipe: at most {found.pairs} pairs of runs of {found.steps} steps, which show "
            f"gains from {units.percent(found.resolves - 1)}"
        )
        if found.resolves > 1.10:
            yield (
                "This machine is too noisy to see less than "
                f"{units.percent(found.resolves - 1)}: what is inconclusive may still help"
            )


def _table(found: Optimization) -> Iterator[str]:
    tried = [a for a in found.attempts if a.measured is not None or a.decision == "reverted"]
    if not tried:
        return
    yield ""
    wide = max(len(a.label) for a in tried)
    yield f"{'recipe':<{wide}}  {'predicted':>22}  {'measured, 95 % interval':>34}  losses"
    for attempt in tried:
        shown = "" if attempt.measured is None else measured(attempt.measured)
        reason = f": {name(attempt.reason, 160)}" if attempt.reason else ""
        yield (
            f"{attempt.label:<{wide}}  {predicted(attempt.forecast):>22}  {shown:>34}  "
            f"{numbers(attempt)}"
        ).rstrip()
        yield f"{'':<{wide}}  {attempt.decision}{reason}"
        if attempt.searched:
            yield f"{'':<{wide}}  searched: {searched(attempt)}"


def _rest(found: Optimization) -> Iterator[str]:
    left = [a for a in found.attempts if a.decision in ("refused", "not_tried")]
    if left:
        yield ""
        yield "Not tried:"
        for attempt in left:
            yield f"  {attempt.label}: {name(attempt.reason, 160)}"


def _stack(found: Optimization) -> Iterator[str]:
    for ablation in found.ablations:
        if ablation.measured is None:
            yield f"Without {ablation.label}: {ablation.reason or 'not measured'}"
        else:
            yield f"With {ablation.label} against without it: {measured(ablation.measured)}"
    for change in found.changes:
        yield ""
        patch = " (git apply, from the .patch file beside the report)" if change.is_diff else ""
        yield f"To make {change.label} permanent{patch}:"
        yield from (f"  {name(line, 200)}" for line in change.text.splitlines())
