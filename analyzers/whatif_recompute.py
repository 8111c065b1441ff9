"""Gradient checkpointing of the whole model: the forward pass again, within the backward pass."""

from dataclasses import replace

import numpy as np

from perfkit.analyzers.graph_pieces import PYTHON
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, I64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.whatif import Change, Setting

_WORK = ("compute", "host_launch", PYTHON)


def recomputation() -> Change:
    """Every activation is recomputed once, on the host and on the device."""

    def edit(setting: Setting) -> Setting | Refusal:
        graph = setting.plan.graph
        tasks = of_kinds(graph, _WORK)
        tasks = tasks[setting.graph.step_of_task[tasks] >= 0]
        if not setting.graph.backward[tasks].any():
            return Refusal(reason="the captured steps hold no work of a backward pass")
        duration = setting.work.duration_ns.copy()
        steps = len(setting.graph.steps)
        lanes = graph.resource[tasks] * steps + setting.graph.step_of_task[tasks]
        for lane in np.unique(lanes):
            _repeat_forward(setting, tasks[lanes == lane], duration)
        return replace(setting, work=replace(setting.work, duration_ns=duration))

    return Change(
        name="gradient checkpointing",
        option="--recompute",
        assumptions=(
            "all of a step's work before its backward pass is the forward pass, and is done again, "
            "spread over the backward pass (torch leaves out what no gradient needs: then it costs "
            "less); the memory that this frees is not predicted",
        ),
        apply=edit,
        recipe="activation-checkpointing",
    )


def _repeat_forward(setting: Setting, tasks: I64, duration: F64) -> None:
    """Lengthen the backward work of one thread or stream in one step by its forward work."""
    backward = setting.graph.backward[tasks]
    spent = float(setting.work.duration_ns[tasks[backward]].sum())
    if not spent:
        return
    starts = setting.graph.base.start_ns[tasks]
    forward = tasks[starts < starts[backward].min()]
    again = float(setting.work.duration_ns[forward].sum())
    duration[tasks[backward]] *= 1 + again / spent
