"""Parents and self times against a plain stack."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analyzers.nesting import parents, self_times

Tree = list[tuple[int, int]]


@st.composite
def nested(draw: st.DrawFn) -> Tree:
    """Properly nested spans, sorted as in an event table."""
    found: Tree = []

    def fill(start: int, end: int, depth: int) -> None:
        at = start
        while depth < 4 and at < end and draw(st.booleans()):
            begin = draw(st.integers(at, end - 1))
            stop = draw(st.integers(begin + 1, end))
            found.append((begin, stop))
            fill(begin, stop, depth + 1)
            at = stop

    fill(0, 40, 0)
    return sorted(set(found), key=lambda s: (s[0], -s[1]))


@given(nested())
def test_against_a_stack(spans: Tree) -> None:
    start = np.array([s for s, _ in spans], dtype=np.int64)
    end = np.array([e for _, e in spans], dtype=np.int64)
    stack: list[int] = []
    want, own = [], [e - s for s, e in spans]
    for row, (begin, stop) in enumerate(spans):
        while stack and spans[stack[-1]][1] <= begin:
            stack.pop()
        want.append(stack[-1] if stack else -1)
        if stack:
            own[stack[-1]] -= stop - begin
        stack.append(row)
    assert parents(start, end).tolist() == want
    assert self_times(start, end).tolist() == own
