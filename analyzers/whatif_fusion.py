"""Fusion of elementwise kernels: a chain of them in one, as a compiler makes it.

A chain is two or more elementwise kernels (by name) one after the other on a stream, in one step.
Fused, it is held to take as long as its longest member: it still reads and writes the largest
arrays once, and its intermediate results stay in registers. Launches stay, so a run that waits for
its host gains nothing here (there the question is --no-launch).
"""

import re
from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import I64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.whatif import Change, Setting

ELEMENTWISE = re.compile(r"elementwise_kernel|elementwise_with_index|pointwise_kernel", re.I)


def fused_elementwise() -> Change:
    """Every chain of elementwise kernels becomes one kernel."""

    def edit(setting: Setting) -> Setting | Refusal:
        if not setting.graph.on_device:
            return Refusal(reason="a CPU run holds no kernels to fuse")
        hidden = _fused_away(setting)
        if not len(hidden):
            return Refusal(reason="no two elementwise kernels follow each other on a stream")
        duration = setting.work.duration_ns.copy()
        duration[hidden] = 0.0
        return replace(setting, work=replace(setting.work, duration_ns=duration))

    return Change(
        name="fused elementwise",
        option="--fuse",
        assumptions=(
            "elementwise kernels (by name) that follow each other on a stream work on each other's "
            "results; fused, a chain takes as long as its longest member",
            "launches stay as they are",
        ),
        apply=edit,
        recipe="compile",
    )


def _fused_away(setting: Setting) -> I64:
    """Return the members of each chain but its longest."""
    graph, names = setting.plan.graph, (*setting.graph.names, "")
    simple = np.array([bool(ELEMENTWISE.search(name)) for name in names], np.bool_)
    on_device = np.zeros(len(graph), np.bool_)
    on_device[of_kinds(graph, ("compute",))] = True
    chosen = simple[setting.graph.name] & on_device
    order = np.argsort(graph.resource, kind="stable")  # tasks of a resource run in this order
    sets, since = np.zeros(len(graph), np.int64), 0
    last = None
    for task in order.tolist():
        place = (int(graph.resource[task]), int(setting.graph.step_of_task[task]))
        since += not (chosen[task] and place == last)
        sets[task] = since
        last = place if chosen[task] else None
    members = np.flatnonzero(chosen)
    longest = np.zeros(since + 1)
    np.maximum.at(longest, sets[members], setting.work.duration_ns[members])
    keeps = np.full(since + 1, -1)
    for task in members.tolist():
        chain = sets[task]
        if keeps[chain] < 0 and setting.work.duration_ns[task] == longest[chain]:
            keeps[chain] = task
    return np.asarray(members[keeps[sets[members]] != members])
