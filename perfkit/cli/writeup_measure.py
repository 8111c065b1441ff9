"""`perfkit writeup --measure`: runs the evidence that a write-up lacks, and resumes."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfkit.analyzers.refusal import Refusal
from perfkit.cli import console, results
from perfkit.cli.writeup_arms import PREDICTIONS, Loaded, read_guesses
from perfkit.errors import InputError, UsageError
from perfkit.recipes import guard
from perfkit.recipes.activation import Choice, activate, parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.recipe import Numerics, Prediction, Situation
from perfkit.recipes.situation import situation_of
from perfkit.report.writeup.evidence import ALL, BASE, SILENT, Guess
from perfkit.trace import run as run_folder
from perfkit.trace.recipe_log import read_log
from perfkit.trace.runner import Trial, interleaved

if TYPE_CHECKING:
    from perfkit.profiler.experiment import Experiment

SEED = "0"
LAB04 = {"amp": ("amp-bf16", "amp-fp16"), "accum": ("gradient-accumulation",)}
LAB04 |= {"loader": ("loader", "pin-memory")}
"""Roles of lab 04, each with the recipes that can play it, the first that applies."""
TERMS = ("compute", "communication", "io", "host")
NOTHING_LEFT = 0.05
"""Predictions that together leave less of a step than this cannot all be of parts of their own."""
LITTLE, MUCH = 1.02, 1.05
"""A trap is predicted to gain at most the first; a fix at least the second."""
SMALL_PART = 0.1
"""Or to save at most this part of what the fix is predicted to save."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is to be run beside the baseline, and what cannot be."""

    choices: dict[str, tuple[Choice, ...]] = field(default_factory=dict)
    guesses: dict[str, Guess] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)  # ROLE=RUN of what ended well and took effect

    def applied(self) -> dict[str, tuple[str, guard.Tolerance]]:
        """Return what each role changes, in words, and how far it may move the numbers."""
        return {role: _told(role, choices) for role, choices in self.choices.items()}


def recorded(loaded: Sequence[Loaded]) -> dict[str, tuple[str, guard.Tolerance]]:
    """Return the same of runs that exist, from the recipes that they wrote down."""
    found = {}
    for one in loaded:
        facts = one.run.nodes[0].facts if one.run.nodes else {}
        labels = facts.get("recipes")
        if one.role in found or not isinstance(labels, list) or not labels:
            continue
        with suppress(UsageError):  # of another version, whose recipes had other names
            found[one.role] = _told(one.role, parse(",".join(map(str, labels)), BY_ID))
    return found


def _told(role: str, choices: Sequence[Choice]) -> tuple[str, guard.Tolerance]:
    told = "; ".join(f"{c.recipe.title} ({c.label})" for c in choices)
    if role == SILENT:
        told = "DDP's no_sync for the whole run"
    return told, tolerance_of(choices)


def tolerance_of(choices: Sequence[Choice]) -> guard.Tolerance:
    """Return the tolerance of recipes together: that of the one that may move numbers most."""
    if not choices:
        return guard.UNJUDGED
    order = list(Numerics)
    loosest = max(choices, key=lambda c: order.index(c.recipe.numerics))
    return guard.tolerance_of(loosest.recipe.id, loosest.recipe.numerics)


def measure(
    lab: str, experiment: "Experiment", words: Sequence[str], repeats: int, have: frozenset[str]
) -> Plan:
    """Run the baseline, write predictions down, then run the rest interleaved; resumable.

    have: roles whose runs were given. Raises InputError where the baseline fails.
    """
    first = _trial(BASE, 1, words, {})
    (ended,) = experiment.run([first])
    if not ended.ok:
        raise InputError(
            f"the baseline failed: {ended.reason}",
            hint=f"see {console.shown(ended.log) if ended.log else 'its log'}",
        )
    if not (ended.run / results.ANALYSIS_FILE).is_file():
        results.produce([ended.run], None)
    situation = _situation(ended.run)
    plan = lab04(situation) if lab == "lab04" else lab09(situation)
    plan.choices = {role: own for role, own in plan.choices.items() if role not in have}
    write_down(experiment.folder / PREDICTIONS, plan)
    points = [[_trial(BASE, k + 1, words, {}) for k in range(repeats)]]
    for role, choices in plan.choices.items():
        changes = _environment(role, choices)
        points.append([_trial(role, k + 1, words, changes) for k in range(repeats)])
    failed: dict[str, str] = {}
    for one in experiment.run(interleaved(points)):
        role = one.trial.name.rpartition("-run")[0]
        if not one.ok:
            console.say(f"{one.trial.name} failed: {one.reason}")
            failed[role] = f"every run failed: {one.reason}"
        elif reason := _left_alone(one.run, plan.choices.get(role, ())):
            plan.refused[role] = reason
        else:
            plan.runs.append(f"{role}={one.run}")
    measured = {run.partition("=")[0] for run in plan.runs}
    plan.refused |= {role: reason for role, reason in failed.items() if role not in measured}
    plan.runs = [run for run in plan.runs if run.partition("=")[0] not in plan.refused]
    return plan


def _trial(role: str, number: int, words: Sequence[str], changes: Mapping[str, str]) -> Trial:
    environment = {**activate((), os.environ).environment, **changes, "PERFKIT_NUMERICS": SEED}
    return Trial(name=f"{role}-run{number}", command=tuple(words), environment=environment)


def _environment(role: str, choices: Sequence[Choice]) -> Mapping[str, str]:
    if role == SILENT:
        return {"PERFKIT_NO_SYNC": "1"}
    return activate(choices, os.environ).environment


def _situation(folder: Path) -> Situation:
    run = run_folder.open_run([folder])
    measured = results.measured_ceilings(run)
    return situation_of(results.recall(folder), run, os.environ, measured)


def _left_alone(folder: Path, choices: Sequence[Choice]) -> str:
    """Return why a recipe left a run as it was; "" where each took effect."""
    log = read_log(run_folder.open_run([folder]))
    for choice in choices:
        reasons = log.reasons(choice.recipe.id)
        if reasons:
            return f"{choice.recipe.title}: {'; '.join(reasons)}"
        if choice.recipe.in_rank and not log.took_effect(choice.recipe.id):
            return f"{choice.recipe.title}: it was asked for and changed nothing"
    return ""


def lab04(situation: Situation) -> Plan:
    """Communication off, each optimization of the lab, and all of them."""
    plan = Plan(choices={SILENT: ()})
    if situation.analysis.world.size < 2:
        plan = Plan(refused={SILENT: "one rank has no gradient communication"})
    together: list[Choice] = []
    for role, candidates in LAB04.items():
        known = [BY_ID[name] for name in candidates if name in BY_ID]
        reasons = []
        for recipe in known:
            found = recipe.applicable(situation)
            if isinstance(found, Refusal) or not recipe.can_apply:
                reasons.append(found.reason if isinstance(found, Refusal) else "by hand only")
                continue
            choice = Choice(recipe=recipe, given=found.values)
            plan.choices[role], plan.guesses[role] = (choice,), _guess(found)
            together.append(choice)
            break
        else:
            plan.refused[role] = "; ".join(reasons) or "there is no such recipe"
    if len(together) > 1:
        plan.choices[ALL] = tuple(together)
        if sum_of := added_up([plan.guesses[role] for role in LAB04 if role in plan.guesses]):
            plan.guesses[ALL] = sum_of
    elif together:
        plan.refused[ALL] = "only one of the three changes applies to this training"
    return plan


def added_up(guesses: Sequence[Guess]) -> Guess | None:
    """Return what changes gain together if each saves its own part of a step; None: cannot tell.

    1 / (1 - sum of 1 - 1/s), since each speed-up s saves that share of the baseline's step. Where
    two save the same part it is less, down to the best of them alone, which is the lower limit.
    """
    points = [g.speed_up for g in guesses]
    known = [s for s in points if s]
    if len(known) < len(points) or not known:
        return None
    expected = _added(known)
    if expected is None:
        return None
    return Guess(
        speed_up=expected,
        low=min(expected, max(g.low or g.speed_up or 1.0 for g in guesses)),
        high=_added([g.high or g.speed_up or 1.0 for g in guesses]),
        why="the times that the changes are predicted to save, added up, as if each worked on a "
        "part of the step of its own; the least is the best of them alone",
    )


def _added(speed_ups: Sequence[float]) -> float | None:
    left = 1 - sum(1 - 1 / s for s in speed_ups)
    return 1 / left if left > NOTHING_LEFT else None


def lab09(situation: Situation) -> Plan:
    """The change of the binding term that is predicted to gain most, and one that gains nothing."""
    verdict = situation.analysis.verdict
    plan = Plan()
    known = []
    for recipe in BY_ID.values():
        mild = recipe.can_apply and recipe.keeps and recipe.numerics.within(Numerics.NUMERICS)
        found = recipe.applicable(situation) if mild else None
        if isinstance(found, Prediction):
            known.append((recipe, found))
    promising = [(r, p) for r, p in known if (p.expected or 1.0) >= MUCH]
    fixes = [(r, p) for r, p in promising if r.addresses == verdict.dominant]
    fixes = fixes or [(r, p) for r, p in promising if r.addresses == verdict.limiter]
    most = max((_saved(p) for _, p in fixes), default=0.0)
    addressed = {r.addresses for r, _ in fixes} | {verdict.dominant}
    traps = [
        (r, p)
        for r, p in known
        if r.addresses in TERMS
        and r.addresses not in addressed
        and _most(p) is not None
        and _saved(p) <= max(1 - 1 / LITTLE, most * SMALL_PART)
    ]
    for role, options in (("fix", fixes), ("trap", traps)):
        if not options:
            plan.refused[role] = (
                f"no recipe that perfkit can apply is predicted to gain "
                f"{'enough on' if role == 'fix' else 'almost nothing off'} the binding term"
            )
            continue
        recipe, found = max(options, key=lambda o: (_most(o[1]) or 1.0, o[0].id))
        plan.choices[role] = (Choice(recipe=recipe, given=found.values),)
        plan.guesses[role] = _guess(found)
    return plan


def _most(found: Prediction) -> float | None:
    return found.expected if found.expected is not None else found.ceiling


def _saved(found: Prediction) -> float:
    """Return the share of the step that a change is predicted to save."""
    return 1 - 1 / (_most(found) or 1.0)


def _guess(found: Prediction) -> Guess:
    return Guess(
        speed_up=_most(found),
        low=found.low,
        high=found.high,
        why=found.why if found.expected is not None else f"{found.why} (at most)",
    )


def write_down(file: Path, plan: Plan) -> None:
    """Keep the predictions as they were before anything was measured: the first ones count.

    A role that has none yet was not measured either, and is added.
    """
    first = read_guesses(file) if file.exists() else {}
    added = {role: g for role, g in plan.guesses.items() if role not in first}
    plan.guesses = {**first, **added}
    if file.exists() and not added:
        return
    document = {
        "schema_version": 1,
        "written_utc": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "predictions": {
            role: {"speed_up": g.speed_up, "low": g.low, "high": g.high, "why": g.why}
            for role, g in plan.guesses.items()
        },
    }
    results.write(file, json.dumps(document, indent=1).encode() + b"\n")
