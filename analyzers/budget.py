"""The budget of the analysed steps: mean time and share per class, of the run and each rank."""

from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.result import Budget, ClassTime, RankBudget, StepBudget
from perfkit.trace.kinds import ROLLUP, TimeClass
from perfkit.trace.model import I64

MOST_STEP_BUDGETS = 2000


def make_budget(
    tables: Mapping[int, I64],
    steps: I64,
    unrecorded: Mapping[int, frozenset[TimeClass]],
) -> Budget:
    """Turn nanoseconds into the budget.

    tables: per rank (steps, classes) in nanoseconds, whose rows sum to the rank's windows. A class
    is None where no rank (for the run) or not this rank (for a rank) had a recorder for it, and
    where no step was traced.
    """
    ranks = sorted(tables)
    per_rank = tuple(
        RankBudget(
            rank=rank,
            window_ms=float(tables[rank].sum(axis=1).mean()) / 1e6 if len(steps) else 0.0,
            classes=_class_times([tables[rank]], unrecorded[rank]),
        )
        for rank in ranks
    )
    everywhere = frozenset.intersection(*unrecorded.values()) if unrecorded else frozenset()
    classes = _class_times([tables[rank] for rank in ranks], everywhere)
    rollup = {
        family: sum(found.share for c in members if (found := classes[c.key]) is not None)
        for family, members in ROLLUP.items()
        if len(steps)
    }
    return Budget(
        classes=classes,
        rollup=rollup,
        per_rank=per_rank,
        per_step=_per_step(tables, steps) if len(ranks) * len(steps) <= MOST_STEP_BUDGETS else (),
    )


def _class_times(
    tables: list[I64], unrecorded: frozenset[TimeClass]
) -> dict[str, ClassTime | None]:
    whole = sum(int(t.sum()) for t in tables)
    rows = sum(len(t) for t in tables)
    found: dict[str, ClassTime | None] = {}
    for time_class in TimeClass:
        ns = sum(int(t[:, time_class].sum()) for t in tables)
        if not rows or (time_class in unrecorded and ns == 0):
            found[time_class.key] = None
        else:
            found[time_class.key] = ClassTime(
                ms=ns / rows / 1e6, share=ns / whole if whole else 0.0
            )
    return found


def _per_step(tables: Mapping[int, I64], steps: I64) -> tuple[StepBudget, ...]:
    return tuple(
        StepBudget(
            rank=rank,
            step=int(steps[row]),
            window_ms=int(tables[rank][row].sum()) / 1e6,
            classes_ms={
                TimeClass(c).key: int(tables[rank][row, c]) / 1e6
                for c in np.flatnonzero(tables[rank][row]).tolist()
            },
        )
        for rank in sorted(tables)
        for row in range(len(steps))
    )
