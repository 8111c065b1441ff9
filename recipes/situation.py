"""Collect what recipes ask of a run: its analysis, its facts, what its ranks observed."""

import os
from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.result import Analysis
from perfkit.recipes.recipe import Situation
from perfkit.trace.model import Run
from perfkit.trace.recipe_log import read_log


def situation_of(
    analysis: Analysis, run: Run, environ: Mapping[str, str] = os.environ
) -> Situation:
    """Return the situation of an analysed run."""
    first = run.ranks[0] if run.ranks else None
    passes = first.lines.micro_batches if first is not None else np.zeros(0, np.int32)
    return Situation(
        analysis=analysis,
        facts=first.facts if first is not None else {},
        seen=read_log(run).seen,
        environ=environ,
        micro_batches=max(int(np.median(passes)), 1) if len(passes) else 1,
    )
