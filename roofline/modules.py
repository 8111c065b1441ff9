"""Which nn.Module an operator worked for: the innermost around it, in the backward pass too."""

import numpy as np

from perfkit.trace.kinds import Kind
from perfkit.trace.linking import innermost
from perfkit.trace.model import I32, I64, NONE, Events


def module_rows(events: Events, parent: I32) -> I32:
    """Row of the module that each operator row belongs to, shape (n,); NONE where none is recorded.

    parent: the operator around each row. An operator of a backward pass belongs to the module of
    the forward operator with the same autograd sequence number, by its own or an outer row's.
    """
    found = np.full(len(events), NONE, np.int32)
    modules = np.flatnonzero(events.kind == Kind.MODULE)
    if not len(modules):
        return found
    operators = np.flatnonzero(events.kind == Kind.OP)
    for thread in np.unique(events.thread[modules]).tolist():
        around = modules[events.thread[modules] == thread]
        inside = operators[events.thread[operators] == thread]
        found[inside] = innermost(
            events.start_ns[around], events.end_ns[around], around, events.start_ns[inside]
        )
    _hand_to_backward(events, parent, operators, found)
    return found


def _hand_to_backward(events: Events, parent: I32, operators: I64, found: I32) -> None:
    """Give backward operators without a module that of the forward operator of their sequence."""
    forward: dict[int, int] = {}
    for row in operators[found[operators] != NONE].tolist():
        if not events.backward[row] and events.sequence[row] >= 0:
            forward[int(events.sequence[row])] = int(found[row])
    for row in operators[found[operators] == NONE].tolist():  # outer rows come first
        own = forward.get(int(events.sequence[row])) if events.backward[row] else None
        outer = int(parent[row])
        if own is not None:
            found[row] = own
        elif outer != NONE:
            found[row] = found[outer]
