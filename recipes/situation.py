"""Collect what recipes ask of a run: its analysis, its facts, what its ranks observed."""

import os
from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.result import Analysis
from perfkit.recipes.recipe import Situation
from perfkit.roofline.ceilings import Ceilings
from perfkit.roofline.threads import ceilings_of, threads_of
from perfkit.trace.model import Run
from perfkit.trace.recipe_log import read_log


def situation_of(
    analysis: Analysis,
    run: Run,
    environ: Mapping[str, str] = os.environ,
    measured: Ceilings | None = None,
) -> Situation:
    """Return the situation of an analysed run. measured: ceilings that the analysis may have used.

    Those that it left out, as of another machine, do not count here either.
    """
    first = run.ranks[0] if run.ranks else None
    passes = first.lines.micro_batches if first is not None else np.zeros(0, np.int32)
    return Situation(
        analysis=analysis,
        facts=first.facts if first is not None else {},
        seen=read_log(run).seen,
        environ=environ,
        micro_batches=max(int(np.median(passes)), 1) if len(passes) else 1,
        ceilings=_held(analysis, run, measured),
    )


def _held(analysis: Analysis, run: Run, measured: Ceilings | None) -> Ceilings | None:
    """Return the ceilings that the first rank's operators were held against."""
    used = analysis.roofline.ceilings if analysis.roofline is not None else ()
    if not run.ranks or not any(ceiling.is_measured for ceiling in used):
        return None
    return ceilings_of(measured, threads_of(run), run.ranks[0].rank)
