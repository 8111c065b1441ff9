"""Fusion of elementwise kernels: a chain of them in one, as a compiler makes it.

A chain is two or more elementwise kernels one after the other on a stream, in one step. Where the
operators' shapes are recorded, a fused chain moves the bytes of its members but for what one writes
and the next reads, at the rate at which they moved them (models.md 5.5: bytes of the union, without
intermediates). Where they are not, kernels are told by their names, and a chain is held to take as
long as its longest member. Launches stay, so a run that waits for its host gains nothing here
(there the question is --no-launch).
"""

import re
from dataclasses import replace

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, I64
from perfkit.analyzers.replay_edit import of_kinds
from perfkit.analyzers.whatif import Change, Setting

ELEMENTWISE = re.compile(r"elementwise_kernel|elementwise_with_index|pointwise_kernel", re.I)


def fused_elementwise() -> Change:
    """Every chain of elementwise kernels becomes one kernel."""

    def edit(setting: Setting) -> Setting | Refusal:
        if not setting.graph.on_device:
            return Refusal(reason="a CPU run holds no kernels to fuse")
        chains = _chains(setting)
        if not chains:
            return Refusal(reason="no two elementwise kernels follow each other on a stream")
        duration = setting.work.duration_ns.copy()
        by_name = 0
        for chain in chains:
            moved, made = setting.graph.work.simple[chain], setting.graph.work.made[chain]
            if np.isfinite(moved).all() and moved.sum() > 0:
                duration[chain] *= _left(moved, made)
            else:
                by_name += 1
                longest = chain[np.argmax(duration[chain])]
                duration[chain[chain != longest]] = 0.0
        note = f"of {len(chains)} chains, {by_name} without recorded shapes"
        work = replace(setting.work, duration_ns=duration)
        return replace(setting, work=work, notes=(*setting.notes, note))

    return Change(
        name="fused elementwise",
        option="--fuse",
        assumptions=(
            "elementwise kernels that follow each other on a stream work on each other's results; "
            "what one writes and the next reads stays in registers, and the rest moves as fast as "
            "before",
            "chains without recorded shapes (kernels told by their names) take as long as their "
            "longest member",
            "launches stay as they are; not held against a measurement",
        ),
        apply=edit,
        recipe="compile",
    )


def _left(moved: F64, made: F64) -> float:
    """Return the share of a chain's bytes that is left without its intermediate results.

    A member reads what the one before it wrote if it reads as many bytes at least.
    """
    handed = (moved - made)[1:] >= made[:-1]
    saved = 2 * made[:-1][handed].sum()
    return float(1 - saved / moved.sum())


def _chains(setting: Setting) -> list[I64]:
    """Return the tasks of each chain of two or more, in order."""
    graph, names = setting.plan.graph, (*setting.graph.names, "")
    simple = np.array([bool(ELEMENTWISE.search(name)) for name in names], np.bool_)
    computes = np.zeros(len(graph), np.bool_)
    computes[of_kinds(graph, ("compute",))] = True
    chosen = computes & (simple[setting.graph.name] | np.isfinite(setting.graph.work.simple))
    order = np.argsort(graph.resource, kind="stable")  # tasks of a resource run in this order
    lane = (
        graph.resource[order] * (len(setting.graph.steps) + 1) + setting.graph.step_of_task[order]
    )
    inside = chosen[order]
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | (lane[1:] != lane[:-1])
    members, number = order[inside], np.cumsum(begins)[inside]
    parts = np.split(members, np.flatnonzero(np.diff(number)) + 1) if len(members) else []
    return [part for part in parts if len(part) > 1]
