"""What a recipe can gain: ceilings from the budget after blame, expectations from formulas.

Sources: models.md 5.5 (replay), recipes.md section 2 (formulas), Patarasuk & Yuan for the ring.
A speed-up is base step / new step.
"""

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result import Analysis, Finding
from perfkit.recipes.recipe import Prediction, Situation, Values

FORMULA_ERROR = 0.15
"""Relative error of a formula's step: predicted/measured within [0.87, 1.15] in the prototypes."""


def step_ms(analysis: Analysis) -> float:
    """Return the step that a gain is measured on: unprofiled if there are any; 0 unknown."""
    steps = analysis.steps
    return steps.median_ms or steps.profiled_median_ms or 0.0


def share(analysis: Analysis, *classes: str) -> float:
    """Return the share of these classes before blame; 0 where the capture has no recorder."""
    found = (analysis.budget.classes.get(name) for name in classes)
    return sum(c.share for c in found if c is not None)


def after_blame(analysis: Analysis, family: str) -> float:
    """Return the share of compute, communication, io or host after blame."""
    return analysis.verdict.rollup_after_blame.get(family, 0.0)


def finding(analysis: Analysis, ids: tuple[str, ...]) -> Finding | None:
    """Return the first finding of these ids."""
    return next((f for f in analysis.findings if f.id in ids), None)


def ceiling_of(removed: float) -> float:
    """Return the speed-up if a share of the step vanished."""
    return 1 / (1 - min(max(removed, 0.0), 0.99))


def exposed_ms(analysis: Analysis, *names: str) -> float:
    """Return exposed time per step in collectives of these operations, mean over ranks."""
    return sum(c.exposed_ms * c.mean_count for c in analysis.collectives if c.name in names)


def transfer_ms(analysis: Analysis, *names: str) -> float:
    """Return transfer time per step in these collectives, hidden or not; 0 where not split."""
    rows = (c for c in analysis.collectives if c.name in names)
    return sum((c.transfer_ms or 0.0) * c.mean_count for c in rows)


def calls(analysis: Analysis, *names: str) -> float:
    """Return calls per step of these collectives."""
    return sum(c.mean_count for c in analysis.collectives if c.name in names)


def predicted(
    now_ms: float, then_ms: float, removed: float, why: str, values: Values | None = None
) -> Prediction:
    """Return a formula's prediction; it never exceeds the ceiling of the share it works on."""
    most = ceiling_of(removed)
    speed_up = min(now_ms / then_ms, most) if then_ms > 0 else most
    low, high = speed_up / (1 + FORMULA_ERROR), min(speed_up * (1 + FORMULA_ERROR), most)
    return Prediction(
        ceiling=most,
        expected=speed_up,
        low=low,
        high=max(high, speed_up),
        basis="formula",
        why=why,
        values=values or {},
    )


def only_ceiling(removed: float, why: str) -> Prediction:
    """Return a prediction that knows the most it could be, and no more."""
    most = ceiling_of(removed)
    return Prediction(ceiling=most, expected=None, low=None, high=None, basis="none", why=why)


def replayed(situation: Situation, recipe: str) -> Prediction | None:
    """Return what the replay of the captured steps said of a recipe; None if it was not asked."""
    search = situation.analysis.what_if
    if search is None or not search.step_ms:
        return None
    for prospect in (*search.worth_trying, *search.no_gain):
        if prospect.recipes == (recipe,):
            most = max(search.step_ms / max(prospect.low_ms, 1e-9), prospect.speed_up)
            return Prediction(
                ceiling=most,
                expected=prospect.speed_up,
                low=search.step_ms / max(prospect.high_ms, 1e-9),
                high=most,
                basis="replay",
                why=f"the captured steps, replayed with {prospect.options[0]}",
            )
    return None


def no_steps(situation: Situation) -> Refusal | None:
    """Refuse where no step was timed."""
    if step_ms(situation.analysis) > 0:
        return None
    return Refusal(reason="the run has no timed steps", remedy="run it longer")


def is_cpu(situation: Situation) -> bool:
    """Whether the run computes on CPUs."""
    return situation.analysis.world.device_kind == "cpu"


def sharded(situation: Situation) -> Refusal | None:
    """Refuse where parameters are DTensors or FSDP's own."""
    if situation.seen.get("sharded_parameters"):
        return Refusal(reason="parameters are sharded (DTensor or FSDP): nothing of DDP applies")
    return None
