"""The matched transfers of a replay graph, and what of their time is latency."""

import numpy as np

from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.replay import F64, I64
from perfkit.analyzers.whatif import Setting
from perfkit.roofline.collective_cost import ring_steps


def transfer_tasks(setting: Setting) -> I64 | Refusal:
    """Return the tasks of matched collectives; refused where waits cannot be told from transfer."""
    graph = setting.plan.graph
    if setting.graph.unmatched:
        return Refusal(
            reason=f"{setting.graph.unmatched} transfers could not be matched across ranks, so "
            "their time may be waiting",
            remedy="capture all ranks, with the flight recorder on",
        )
    tasks = np.flatnonzero(graph.collective >= 0)
    if not len(tasks):
        return Refusal(reason="the captured steps hold no communication between ranks")
    return tasks


def start_up_ns(setting: Setting, tasks: I64) -> F64:
    """Return the latency part of each transfer, by this run's fit; zero where there is none."""
    alpha_s = (setting.network.alpha_s or 0.0) if setting.network else 0.0
    moves = [setting.graph.transfers[c] for c in setting.plan.graph.collective[tasks].tolist()]
    return np.array([1e9 * alpha_s * steps_of(m.op, m.ranks) for m in moves])


def steps_of(op: str, ranks: int) -> int:
    """Return how many latencies one call pays."""
    try:
        return ring_steps(op, ranks)
    except ValueError:  # an operation without a ring model, such as a barrier
        return 1
