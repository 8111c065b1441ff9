"""Communication of a step by process group and by message size, summed from the kinds of calls."""

from collections.abc import Iterable, Mapping, Sequence

from perfkit.analyzers.calls import POINT_TO_POINT
from perfkit.analyzers.parallelism import CANNOT_TELL, ONLY_BETWEEN_TWO, Kind
from perfkit.analyzers.result import CollectiveRow, GroupRow, SizeRow

UNKNOWN = Kind(CANNOT_TELL, "the capture does not name the group")


def group_rows(
    rows: Iterable[CollectiveRow], kinds: Mapping[str, Kind] | None = None
) -> tuple[GroupRow, ...]:
    """Sum each group's calls of a step, most exposed group first.

    A sum is None where one of its parts is not known. `kinds` says what groups are for, by title.
    """
    groups: dict[str, list[CollectiveRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    found = [
        GroupRow(
            group=group,
            ranks=max(row.ranks for row in own),
            operations=tuple(sorted({row.name for row in own})),
            count=sum(row.count for row in own),
            bytes=_sum([_times(row.bytes, row.count) for row in own]),
            transfer_ms=_sum([_times(row.transfer_ms, row.count) for row in own]),
            wait_ms=_sum([_times(row.wait_ms, row.count) for row in own]),
            exposed_ms=sum(row.exposed_ms * row.count for row in own),
            hidden_share=_hidden(own),
            kind=kind.name,
            because=kind.because,
        )
        for group, own in groups.items()
        for kind in ((kinds or {}).get(group) or _unnamed(own),)
    ]
    return tuple(sorted(found, key=lambda g: (-g.exposed_ms, g.group)))


def size_rows(rows: Iterable[CollectiveRow]) -> tuple[SizeRow, ...]:
    """Count the calls of a step by message size, in bins of a factor of four, smallest first.

    Calls of unknown size are left out.
    """
    bins: dict[int, list[CollectiveRow]] = {}
    for row in rows:
        if row.bytes is not None and row.bytes > 0:
            bins.setdefault((row.bytes.bit_length() - 1) // 2, []).append(row)
    return tuple(
        SizeRow(
            low_bytes=4**power,
            high_bytes=4 ** (power + 1),
            count=sum(row.mean_count for row in own),
            bytes=sum((row.bytes or 0) * row.mean_count for row in own),
            transfer_ms=_sum([_times(row.transfer_ms, row.mean_count) for row in own]),
        )
        for power, own in sorted(bins.items())
    )


def _unnamed(rows: Sequence[CollectiveRow]) -> Kind:
    return ONLY_BETWEEN_TWO if {row.name for row in rows} <= POINT_TO_POINT else UNKNOWN


def _hidden(rows: Sequence[CollectiveRow]) -> float | None:
    whole = _sum([_times(row.once_ms, row.count) for row in rows])
    exposed = sum(row.exposed_ms * row.count for row in rows)
    return max(0.0, 1.0 - exposed / whole) if whole else None


def _times(value: float | None, count: float) -> float | None:
    return None if value is None else value * count


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
