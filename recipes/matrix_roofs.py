"""What matrix products would take in fewer bits, by ceilings that were measured on the machine."""

from dataclasses import dataclass

from perfkit import units
from perfkit.recipes.formulas import predicted, step_ms
from perfkit.recipes.recipe import Prediction, Situation
from perfkit.roofline.place import Point

WIDE = ("fp32", "tf32")
CAST_BYTES = 1.5
"""Traffic of a cast for each byte of 32-bit numbers: read 4 bytes, write 2, for every 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Measured ceilings: what the products run at, what they would run at, and memory's copy."""

    flop_per_s: dict[str, float]  # by today's precision
    then_flop_per_s: float
    copy_bytes_per_s: float


def by_measured_roofs(situation: Situation, precision: str) -> Prediction | None:
    """Each product keeps its share of its roof; None where ceilings or shapes are missing.

    t' = min(t, max(t peak / peak', bytes / 2 / copy)) + casts (models.md 5.5), all per step. Its
    operands and its result are each cast once, unless the products themselves do so (tf32).
    """
    peaks, roofline = _peaks(situation, precision), situation.analysis.roofline
    if peaks is None or roofline is None:
        return None
    products = [
        p for p in roofline.points if p.unit == "tensor" and p.precision in peaks.flop_per_s
    ]
    if not products:
        return None
    casts_s = 0.0 if precision == "tf32" else _casts_s(products, peaks)
    took_s = sum(p.time_s for p in products)
    takes_s = sum(_then_s(p, peaks) for p in products)
    now = step_ms(situation.analysis)
    then = now - 1e3 * (took_s - takes_s - casts_s)
    why = (
        f"by measured ceilings {units.milliseconds(took_s * 1e3)} of matrix products take "
        f"{units.milliseconds(takes_s * 1e3)} in {precision}, casts "
        f"{units.milliseconds(casts_s * 1e3)}"
    )
    return predicted(now, then, min(took_s * 1e3 / now, 0.99), why)


def _peaks(situation: Situation, precision: str) -> Peaks | None:
    held = situation.ceilings
    if held is None:
        return None
    then, copy = held.get("matrix", precision), held.get("copy")
    today = {p: held.get("matrix", p) for p in WIDE if p != precision}
    known = {p: ceiling.value for p, ceiling in today.items() if ceiling is not None}
    if then is None or copy is None or not known:
        return None
    return Peaks(flop_per_s=known, then_flop_per_s=then.value, copy_bytes_per_s=copy.value)


def _then_s(product: Point, peaks: Peaks) -> float:
    arithmetic = product.time_s * peaks.flop_per_s[product.precision] / peaks.then_flop_per_s
    memory = product.bytes / 2 / peaks.copy_bytes_per_s
    return min(product.time_s, max(arithmetic, memory))


def _casts_s(products: list[Point], peaks: Peaks) -> float:
    return CAST_BYTES * sum(p.bytes for p in products) / peaks.copy_bytes_per_s
