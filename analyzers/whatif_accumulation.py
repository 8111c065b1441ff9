"""Gradient accumulation: N micro-steps of the captured work, gradients exchanged in the last.

DDP's no_sync() and its kin. The N - 1 quiet micro-steps are a replay of their own: without the
gradients' all-reduces nobody waits for another rank, so that ranks drift apart.
"""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import I64, NONE, Plan
from perfkit.analyzers.whatif import Change, Setting
from perfkit.analyzers.whatif_transfers import transfer_tasks


def accumulation(micro_steps: int) -> Change:
    """One exchange of gradients for `micro_steps` passes over batches of the captured size."""

    def edit(setting: Setting) -> Setting | Refusal:
        tasks = transfer_tasks(setting)
        if isinstance(tasks, Refusal):
            return tasks
        exchanges = _gradient_exchanges(setting, tasks)
        if isinstance(exchanges, Refusal):
            return exchanges
        return replace(setting, quiet_micro_steps=(micro_steps - 1, _quiet_ns(setting, exchanges)))

    notes = (
        f"the step is the time of one of {micro_steps} micro-steps, each of the captured batch: "
        f"speed-up in samples a second, at {micro_steps} times the batch an optimizer step",
        "all-reduces carry gradients and run in the last micro-step only (no_sync)",
        "the optimizer counts in every micro-step, though it runs once: the gain is a lower bound",
    )
    return Change(
        name=f"accumulation of {micro_steps}",
        option=f"--accumulate {micro_steps}",
        assumptions=notes,
        apply=edit,
        last=True,
        recipe="gradient-accumulation",
    )


def _gradient_exchanges(setting: Setting, tasks: I64) -> I64 | Refusal:
    """Return the all-reduces; refused where some of them may carry activations."""
    numbers = setting.plan.graph.collective[tasks]
    moves = [setting.graph.transfers[number] for number in numbers.tolist()]
    reduces = np.array([move.op == "all_reduce" for move in moves], np.bool_)
    if not reduces.any():
        return Refusal(reason="the captured steps hold no all-reduce that could be left out")
    if len({m.ranks for m in moves if m.op == "all_reduce"}) > 1:
        return Refusal(
            reason="all-reduces run in groups of several sizes: which of them carry gradients "
            "cannot be told"
        )
    return tasks[reduces]


def _quiet_ns(setting: Setting, exchanges: I64) -> float:
    """Return the period of steps without these transfers, and without anybody waiting in them."""
    alone = setting.plan.graph.collective.copy()
    alone[exchanges] = NONE
    duration = setting.work.duration_ns.copy()
    duration[exchanges] = 0.0
    plan = Plan(replace(setting.plan.graph, collective=alone))
    return setting.graph.period_ns(plan.run(replace(setting.work, duration_ns=duration)))
