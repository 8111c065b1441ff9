"""What was decided, in a form for machines, and what each variant costs."""

from dataclasses import dataclass

from perfkit import units
from perfkit.analyzers.result import Analysis
from perfkit.report.writeup.document import Grid
from perfkit.report.writeup.evidence import Arm, Evidence, speed_up
from perfkit.report.writeup.iron import Terms

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a sample and a token cost; None where the rate is not known, or no price was given."""

    rank_seconds_per_sample: float | None
    rank_seconds_per_token: float | None
    per_sample: float | None  # in the currency of the price
    per_token: float | None


def cost_of(arm: Arm, price_per_rank_hour: float | None) -> Cost:
    """Return ranks / (samples per second), the same for tokens, and both times the price."""
    size = arm.first.world.size
    sample = size / arm.rate if arm.rate else None
    token = size / arm.token_rate if arm.token_rate else None
    price = None if price_per_rank_hour is None else price_per_rank_hour / HOUR_S
    return Cost(
        rank_seconds_per_sample=sample,
        rank_seconds_per_token=token,
        per_sample=None if sample is None or price is None else sample * price,
        per_token=None if token is None or price is None else token * price,
    )


def cost_table(found: Evidence, price_per_rank_hour: float | None) -> Grid:
    """Return what each variant costs per sample, per token where known, and in money if priced."""
    costs = [(arm, cost_of(arm, price_per_rank_hour)) for arm in (found.base, *found.others)]
    tokens = any(cost.rank_seconds_per_token for _, cost in costs)
    header = ["Variant", "Rank-seconds per 1,000 samples"]
    header += ["Rank-seconds per million tokens"] * tokens
    if price_per_rank_hour is not None:
        header += ["Price of 1,000 samples"] + ["Price of a million tokens"] * tokens
    rows = []
    for arm, cost in costs:
        row = [arm.title, _times(cost.rank_seconds_per_sample, 1e3)]
        row += [_times(cost.rank_seconds_per_token, 1e6)] * tokens
        if price_per_rank_hour is not None:
            row += [_times(cost.per_sample, 1e3)] + [_times(cost.per_token, 1e6)] * tokens
        rows.append(tuple(row))
    return Grid(header=tuple(header), rows=tuple(rows))


def _times(value: float | None, factor: float) -> str:
    return "not recorded" if value is None else units.number(value * factor)


def precision_of(run: Analysis) -> str | None:
    """Return what the matrix products were computed in, the most FLOP first; None: not known."""
    flop: dict[str, float] = {}
    for point in run.roofline.points if run.roofline is not None else ():
        if point.unit == "tensor" and point.precision:
            flop[point.precision] = flop.get(point.precision, 0.0) + point.executed_flop
    used = sorted((name for name in flop if flop[name] > 0), key=lambda name: -flop[name])
    return " and ".join(used) or run.run.facts.get("autocast")


def ledger(
    found: Evidence, terms: Terms, price_per_rank_hour: float | None = None
) -> dict[str, object]:
    """Return the decision in a form for machines; null: not measured."""
    base = found.base
    entries = []
    for arm in [base, *found.others]:
        gain = speed_up(base, arm)
        cost = cost_of(arm, price_per_rank_hour)
        guess = arm.guess
        entries.append(
            {
                "variant": arm.role,
                "changed": arm.applied or None,
                "binding_constraint": arm.first.verdict.label,
                "batch_size": arm.first.run.facts.get("loader batch size"),
                "precision": precision_of(arm.first),
                "samples_per_s": arm.rate,
                "predicted_speed_up": None if guess is None else guess.speed_up,
                "speed_up": 1.0 if arm is base else None if gain is None else gain.ratio,
                "speed_up_low": None if gain is None or arm is base else gain.low,
                "speed_up_high": None if gain is None or arm is base else gain.high,
                "tokens_per_s": arm.token_rate,
                "cost_rank_seconds_per_sample": cost.rank_seconds_per_sample,
                "cost_rank_seconds_per_token": cost.rank_seconds_per_token,
                "cost_per_sample": cost.per_sample,
                "cost_per_token": cost.per_token,
                "final_loss": arm.loss,
            }
        )
    step = base.first.roofline
    known = [s.intensity for s in step.ranks if s.intensity] if step is not None else []
    return {
        "schema_version": 1,
        "binding_constraint": terms.binding or base.first.verdict.label,
        "arithmetic_intensity_flop_per_byte": sum(known) / len(known) if known else None,
        "compute_s": terms.compute_s,
        "memory_s": terms.memory_s,
        "network_s": terms.network_s,
        "overhead_s": terms.overhead_s,
        "step_s": terms.step_s,
        "price_per_rank_hour": price_per_rank_hour,
        "variants": entries,
    }
