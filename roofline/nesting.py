"""Which operator call stands for which work: parents, owners and recomputation of host rows.

The owner of a row is the outermost operator around it whose cost is known: a convolution owns the
copies it makes, a linear layer (no formula of its own) leaves its matrix product to own itself. So
no FLOP is counted twice and no kernel belongs to two operators.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perfkit.trace.kinds import Kind
from perfkit.trace.model import I32, I64, NONE, Bool, Events

HasCost = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Nesting:
    """Per row of Events, shape (n,); NONE and False outside operators."""

    owner: I32  # the row whose cost covers this row
    parent: I32  # the operator row around this one
    recomputed: Bool  # ran again in a backward pass what a forward pass had thrown away
    self_ns: I64  # duration less that of operators directly inside


def nest(events: Events, has_cost: HasCost) -> Nesting:
    """Nest the operators of each thread. has_cost: whether that row's cost is known."""
    count = len(events)
    # Lists: single values of arrays cost several times as much, and this loop sees every operator.
    owner, parent = [NONE] * count, [NONE] * count
    recomputed: list[bool] = [False] * count
    operators = np.flatnonzero(events.kind == Kind.OP)
    own: list[int] = events.duration_ns.tolist()
    again: list[bool] = _starts_again(events, operators).tolist()
    start: list[int] = events.start_ns.tolist()
    end: list[int] = events.end_ns.tolist()
    for rows in _by_thread(events.thread, operators):
        open_rows: list[int] = []
        for row in rows.tolist():
            while open_rows and end[open_rows[-1]] <= start[row]:
                open_rows.pop()
            recomputed[row] = again[row]
            if open_rows:
                outer = open_rows[-1]
                parent[row] = outer
                owner[row] = owner[outer]
                recomputed[row] |= recomputed[outer]
                own[outer] -= end[row] - start[row]
            if owner[row] == NONE and has_cost(row):
                owner[row] = row
            open_rows.append(row)
    return Nesting(
        np.array(owner, np.int32),
        np.array(parent, np.int32),
        np.array(recomputed, np.bool_),
        np.maximum(np.array(own, np.int64), 0),
    )


def _by_thread(thread: I64, rows: I64) -> list[I64]:
    return [rows[thread[rows] == one] for one in np.unique(thread[rows])]


def _starts_again(events: Events, operators: I64) -> Bool:
    """Operators in a backward pass that take part in autograd themselves.

    Backward passes run without recording gradients, so their operators carry no sequence number;
    recomputation (activation checkpointing) records again. Autograd's own nodes carry the number
    of their forward; only names with a namespace of operators count.
    """
    again = np.zeros(len(events), np.bool_)
    is_operator = np.array(
        ["::" in name and not name.startswith(("autograd::", "torch::")) for name in events.names],
        np.bool_,
    )
    candidates = operators[events.backward[operators] & (events.sequence[operators] >= 0)]
    again[candidates] = is_operator[events.name[candidates]]
    return again


def busy_per_group(start: I64, end: I64, group: I64, groups: int) -> I64:
    """Time covered by the intervals of each group, counting overlap once; shape (groups,).

    start, end and group have shape (n,); group holds 0..groups-1.
    """
    covered = np.zeros(groups, np.int64)
    if not len(start):
        return covered
    order = np.lexsort((start, group))
    begin, finish, of = start[order], end[order], group[order]
    origin = int(begin.min())
    span = int(finish.max()) - origin + 1
    shift = of * span - origin  # groups lie one after the other on one axis
    begin, finish = begin + shift, finish + shift
    reach = np.concatenate(([begin[0]], np.maximum.accumulate(finish)[:-1]))
    fresh = np.maximum(finish - np.maximum(begin, reach), 0)
    np.add.at(covered, of, fresh)
    return covered
