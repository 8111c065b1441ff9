"""The sizes of a transformer, read off the shapes of its attention and linear operators.

Only what is unambiguous: every attention of the forward pass has the same heads, head size and
length. Recomputation runs inside the backward pass and is left out. Sizes are those of one rank:
under tensor parallelism its part of the heads.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from perfkit.roofline.attention import SIGNATURES
from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, Events, RankTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One shape of self-attention, of one call."""

    samples: int
    heads: int
    head_size: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the forward pass of a training step shows of a transformer. None: not told.

    attention_calls and linear_products are per step, over all micro-batches; a product is one
    multiplication and addition. why_not: what hides the attention sizes, "" if nothing does.
    """

    attention: Attention | None
    attention_calls: float
    linear_products: float  # sum over linear operators of rows x inputs x outputs
    trains: bool  # the captured steps hold a backward pass
    why_not: str = ""
    source: str = ""  # which operators told


def read_architecture(trace: RankTrace, steps: Sequence[int]) -> Architecture:
    """Read the sizes from these steps' forward passes; needs recorded shapes."""
    events = trace.events
    rows, trains = _forward(trace, steps)
    count = max(len(steps), 1)
    named = _outermost(events, rows)
    attention, calls, told = _attention(events, rows, named)
    return Architecture(
        attention=attention,
        attention_calls=calls / count,
        linear_products=sum(_products(events, row) for row in named) / count,
        trains=trains,
        why_not="" if attention else told,
        source=told if attention else "",
    )


def _forward(trace: RankTrace, steps: Sequence[int]) -> tuple[list[int], bool]:
    """Rows of operators before the last backward operator of their step, in time order."""
    events = trace.events
    chosen = np.isin(events.step, list(steps)) & (events.kind == Kind.OP)
    chosen &= events.shape != NONE
    backward = np.flatnonzero(np.isin(events.step, list(steps)) & events.backward)
    last: dict[int, int] = {}
    for row in backward.tolist():
        last[int(events.step[row])] = int(events.start_ns[row])  # rows are sorted by start
    candidates = np.flatnonzero(chosen & ~events.backward)
    if not last:
        return candidates.tolist(), False
    ends = np.array([last.get(int(step), 0) for step in events.step[candidates]], np.int64)
    return candidates[events.start_ns[candidates] < ends].tolist(), True


def _outermost(events: Events, rows: Iterable[int]) -> list[int]:
    """Rows of attention and linear operators that lie in no other such row."""
    names = {i for i, name in enumerate(events.names) if name in _READERS or name in _LINEAR}
    found: list[int] = []
    open_until: dict[int, int] = {}
    for row in rows:
        if int(events.name[row]) not in names:
            continue
        thread = int(events.thread[row])
        if events.start_ns[row] >= open_until.get(thread, 0):
            found.append(row)
            open_until[thread] = int(events.end_ns[row])
    return found


def _dims(events: Events, row: int, position: int) -> tuple[int, ...]:
    dims = events.shapes[int(events.shape[row])].dims
    entry = dims[position] if position < len(dims) else ()
    if isinstance(entry, tuple | list) and all(isinstance(size, int) for size in entry):
        return tuple(size for size in entry if isinstance(size, int))
    return ()


Read = Callable[[Events, int], Attention | None]


def _reader(query: int, *, heads_first: bool) -> Read:
    head, length = (1, 2) if heads_first else (2, 1)

    def read(events: Events, row: int) -> Attention | None:
        q, k = _dims(events, row, query), _dims(events, row, query + 1)
        if len(q) != 4 or len(k) != 4 or q[length] != k[length]:
            return None
        return Attention(samples=q[0], heads=q[head], head_size=q[3], sequence=q[length])

    return read


_READERS: Mapping[str, Read] = {
    "aten::scaled_dot_product_attention": _reader(0, heads_first=True),
    **{
        name: _reader(where.query, heads_first=where.heads_first)
        for name, where in SIGNATURES.items()
        if not where.backward
    },
}


def _attention(
    events: Events, rows: Sequence[int], named: Iterable[int]
) -> tuple[Attention | None, int, str]:
    """The one shape, the number of calls and the operator's name; else None, 0 and why."""
    found: Counter[tuple[str, Attention | None]] = Counter()
    for row in named:
        name = events.names[int(events.name[row])]
        if name in _READERS:
            found[name, _READERS[name](events, row)] += 1
    if not found:
        return _written_out(events, rows)
    shapes = {shape for _, shape in found}
    if None in shapes:
        return None, 0, "an attention is over ragged batches, or over other keys than queries"
    if len(shapes) > 1:
        return None, 0, f"attention operators have {len(shapes)} different shapes"
    ((name, shape),) = list(found)[:1]
    return shape, sum(found.values()), name


def _written_out(events: Events, rows: Sequence[int]) -> tuple[Attention | None, int, str]:
    """Attention as two batched products around a softmax: (bh, s, d)(bh, d, s), (bh, s, s)(...).

    Batch and heads are one dimension there; the softmax over (b, h, s, s) parts them.
    """
    products, softmaxes = _counted(events, rows)
    scores = {
        (batch, length, size): calls
        for ((batch, length, size), right), calls in products.items()
        if right == (batch, size, length)
    }
    found = [
        (Attention(samples=samples, heads=heads, head_size=size, sequence=length), calls)
        for (batch, length, size), calls in scores.items()
        for (samples, heads, queries, keys), normalised in softmaxes.items()
        if samples * heads == batch and queries == keys == length and calls == normalised
        if products[(batch, length, length), (batch, length, size)] >= calls
    ]
    if len(found) == 1:
        return found[0][0], found[0][1], "aten::bmm around aten::softmax"
    return None, 0, "no attention operator was recorded, and no products that are plainly one"


Dims = tuple[int, ...]


def _counted(
    events: Events, rows: Iterable[int]
) -> tuple[Counter[tuple[tuple[int, int, int], Dims]], Counter[tuple[int, int, int, int]]]:
    """Batched products by their operands' shapes, and softmaxes over four dimensions."""
    products: Counter[tuple[tuple[int, int, int], Dims]] = Counter()
    softmaxes: Counter[tuple[int, int, int, int]] = Counter()
    first = {"aten::bmm": 0, "aten::baddbmm": 1}
    for row in rows:
        name = events.names[int(events.name[row])]
        if name in first:
            left = _dims(events, row, first[name])
            right = _dims(events, row, first[name] + 1)
            if len(left) == 3:
                products[(left[0], left[1], left[2]), right] += 1
        elif name == "aten::_softmax":
            dims = _dims(events, row, 0)
            if len(dims) == 4:
                softmaxes[dims[0], dims[1], dims[2], dims[3]] += 1
    return products, softmaxes


def _linear(rows: Dims, weight: Dims) -> int:
    return prod(rows) * weight[0] if len(weight) == 2 else 0


def _product(left: Dims, right: Dims) -> int:
    return left[0] * left[1] * right[1] if len(left) == len(right) == 2 else 0


_LINEAR: Mapping[str, tuple[int, Callable[[Dims, Dims], int]]] = {
    "aten::linear": (0, _linear),
    "aten::addmm": (1, _product),
    "aten::mm": (0, _product),
}


def _products(events: Events, row: int) -> int:
    """Multiplications of one linear operator's call; 0 for attention."""
    entry = _LINEAR.get(events.names[int(events.name[row])])
    if entry is None:
        return 0
    first, count = entry
    return count(_dims(events, row, first), _dims(events, row, first + 1))
