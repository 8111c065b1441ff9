"""Which calls of different ranks are one and the same collective.

First choice: the sequence number that c10d counts in each group. Where a capture has none, the n-th
call with the same operation and size of a group within a step, if every member has equally many;
where the counts differ because windows begin at different calls, the one shift that makes all calls
agree, if there is exactly one. What neither can match stays unmatched: never a guess.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from perfkit.analyzers.calls import POINT_TO_POINT, Calls, Group
from perfkit.trace.model import NONE

BY_SEQUENCE, BY_ORDER = "sequence", "order"

_Member = tuple[int, int]  # rank, row of that rank's calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One collective on all of its ranks: rows into each rank's calls."""

    members: tuple[_Member, ...]  # by rank
    op: str
    group: Group | None
    matched_by: str


def match_calls(calls: Mapping[int, Calls], world_size: int) -> tuple[Instance, ...]:
    """Match the calls of all captured ranks, in order of their start on their first rank.

    A collective with a member that was not captured stays unmatched: the missing rank may have been
    the late one.
    """
    complete = len(calls) >= world_size
    found: list[Instance] = []
    rest: dict[int, list[int]] = {}
    by_sequence: dict[Hashable, list[_Member]] = defaultdict(list)
    for rank, table in calls.items():
        seen: dict[Hashable, int] = defaultdict(int)
        for row in range(len(table)):
            key = _sequence_key(table, row)
            if key is not None:
                seen[key] += 1
                by_sequence[key, seen[key]].append((rank, row))
    for members in by_sequence.values():
        _accept(members, calls, complete, BY_SEQUENCE, found)
    used = {member for instance in found for member in instance.members}
    for rank, table in calls.items():
        rest[rank] = [row for row in range(len(table)) if (rank, row) not in used]
    _match_by_order(calls, rest, complete, found)
    first = {i: calls[i.members[0][0]].start_ns[i.members[0][1]] for i in found}
    found.sort(key=lambda i: (int(first[i]), i.members))
    return tuple(found)


def _sequence_key(table: Calls, row: int) -> Hashable | None:
    sequence = int(table.sequence[row])
    if sequence == NONE or table.group[row] is None:
        return None
    return table.group[row], _what(table, row, sizes=False), sequence


def _what(table: Calls, row: int, *, sizes: bool) -> Hashable:
    """Return what two ends of a collective must agree on."""
    op = table.op[row]
    if op in POINT_TO_POINT:
        return "p2p", int(table.source[row]), int(table.target[row])
    return (op, int(table.in_elements[row])) if sizes else op


def _accept(
    members: Sequence[_Member],
    calls: Mapping[int, Calls],
    complete: bool,
    matched_by: str,
    found: list[Instance],
) -> bool:
    rank, row = members[0]
    table = calls[rank]
    numbers = {int(calls[r].sequence[n]) for r, n in members} - {NONE}
    if len(numbers) > 1:
        return False  # the capture knows that these are different collectives
    expected = _expected(table, row, members, complete)
    if expected is None or tuple(sorted(r for r, _ in members)) != expected:
        return False
    instance = Instance(
        members=tuple(sorted(members)),
        op=table.op[row],
        group=table.group[row],
        matched_by=matched_by,
    )
    found.append(instance)
    return True


def _expected(
    table: Calls, row: int, members: Sequence[_Member], complete: bool
) -> tuple[int, ...] | None:
    """Return the ranks that must take part, None where the capture cannot tell."""
    group = table.group[row]
    if table.op[row] in POINT_TO_POINT:
        ends = {int(table.source[row]), int(table.target[row])}
        return tuple(sorted(ends)) if NONE not in ends else None
    if group is not None and group.ranks:
        return group.ranks
    return tuple(sorted(r for r, _ in members)) if complete else None


def _match_by_order(
    calls: Mapping[int, Calls],
    rest: Mapping[int, Sequence[int]],
    complete: bool,
    found: list[Instance],
) -> None:
    lanes: dict[Hashable, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rank, rows in rest.items():
        table = calls[rank]
        for row in rows:
            if _has_a_place(table, row):
                lanes[_lane(table, row)][rank].append(row)
    for lane in lanes.values():
        if len(lane) > 1:
            for members in _in_order(calls, lane):
                _accept(members, calls, complete, BY_ORDER, found)


def _has_a_place(table: Calls, row: int) -> bool:
    """Tell whether order can identify a call: not if any of several groups may have issued it."""
    if table.step[row] == NONE or table.op[row] in {"", "peer_copy"}:
        return False
    return table.group[row] is not None or table.one_group


def _lane(table: Calls, row: int) -> Hashable:
    """Return the queue in which order means identity: a group, or a stream where none is known."""
    group = table.group[row]
    peers = _what(table, row, sizes=False) if table.op[row] in POINT_TO_POINT else None
    where: Hashable = group if group is not None else ("stream", int(table.stream[row]))
    return where, peers, int(table.step[row])


def _in_order(calls: Mapping[int, Calls], lane: Mapping[int, list[int]]) -> list[list[_Member]]:
    signed = {
        rank: [(_what(calls[rank], row, sizes=True), row) for row in rows]
        for rank, rows in lane.items()
    }
    counts = {rank: _sorted_counts(entries) for rank, entries in signed.items()}
    if len(set(counts.values())) == 1:
        return _nth_of_each_kind(signed)
    shifts = _shifts({rank: [what for what, _ in entries] for rank, entries in signed.items()})
    if shifts is None:
        return []
    found = []
    longest = max(len(e) for e in signed.values())
    for place in range(longest):
        at = {rank: place - shifts[rank] for rank in signed}
        if all(0 <= at[rank] < len(signed[rank]) for rank in signed):
            found.append([(rank, signed[rank][at[rank]][1]) for rank in signed])
    return found


def _sorted_counts(entries: Sequence[tuple[Hashable, int]]) -> tuple[str, ...]:
    return tuple(sorted(repr(what) for what, _ in entries))


def _nth_of_each_kind(
    signed: Mapping[int, Sequence[tuple[Hashable, int]]],
) -> list[list[_Member]]:
    """Join the n-th call of each kind: threads may start calls of different kinds in any order."""
    kinds: dict[Hashable, list[_Member]] = defaultdict(list)
    for rank, entries in signed.items():
        seen: dict[Hashable, int] = defaultdict(int)
        for what, row in entries:
            seen[what] += 1
            kinds[what, seen[what]].append((rank, row))
    return list(kinds.values())


def _shifts(kinds: Mapping[int, Sequence[Hashable]]) -> dict[int, int] | None:
    """Place each rank's calls along the longest rank's; None unless exactly one place fits."""
    longest = max(kinds, key=lambda rank: (len(kinds[rank]), -rank))
    reference = kinds[longest]
    shifts = {}
    for rank, own in kinds.items():
        fits = [
            shift
            for shift in range(len(reference) - len(own) + 1)
            if list(reference[shift : shift + len(own)]) == list(own)
        ]
        if len(fits) != 1:
            return None
        shifts[rank] = fits[0]
    return shifts
