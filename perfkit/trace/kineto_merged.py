"""Finds the ranks in a Kineto file into which the traces of several ranks were merged.

Every rank keeps processes of its own in such a file: one that ran operators and one or more for
its devices. Processes are told apart by their names ("rank 3"), else by correlation: a device
belongs to the process whose calls launched its work. Ranks that run the same program use the same
correlation numbers, so that often decides nothing; then the file is not split.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perfkit.trace.event_names import is_device_category, is_runtime_category
from perfkit.trace.kineto_schema import OPERATOR_OF, Loose, Mark
from perfkit.trace.kineto_text import TraceText
from perfkit.trace.model import NONE
from perfkit.trace.source import CHUNK_BYTES, GZIP_MAGIC, Source

_RANK = re.compile(r"(?:^|[^a-z])rank[ _:#=-]*(\d{1,6})(?!\d)", re.IGNORECASE)
_SAMPLE_BYTES = 16 << 10
_SAMPLES = 64
_SURE = 2.0
"""A device is a process's if that launched at least so many times as much of its work as others."""


@dataclass(frozen=True, slots=True)
class MergedRank:
    """One rank in a merged file: its number, NONE if nothing says it, and its processes."""

    rank: int
    processes: frozenset[Loose]


@dataclass(slots=True)
class _Seen:
    """What the marks of a file say of each process."""

    operators: Counter[Loose] = field(default_factory=Counter)
    calls: dict[Loose, set[int]] = field(default_factory=lambda: defaultdict(set))
    work: dict[Loose, list[int]] = field(default_factory=lambda: defaultdict(list))
    names: dict[Loose, str] = field(default_factory=dict)


def looks_merged(path: Path, *, says_rank: bool) -> bool:
    """Whether operators of several processes stand at some places of a file.

    A plain file is read at a few places; a packed one, which must be read from its start, only if
    it does not say its rank.
    """
    found: set[bytes] = set()
    for text in _samples(path, says_rank=says_rank):
        found |= {match[1] for match in OPERATOR_OF.finditer(text)}
        if len(found) > 1:
            return True
    return False


def _samples(path: Path, *, says_rank: bool) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if not file.read(2).startswith(GZIP_MAGIC):
            for place in range(_SAMPLES):
                file.seek(place * max(size - _SAMPLE_BYTES, 0) // _SAMPLES)
                yield file.read(_SAMPLE_BYTES)
                if size < _SAMPLE_BYTES:
                    return
            return
    if not says_rank:
        for chunk in Source(path).chunks():
            for place in range(0, min(len(chunk), CHUNK_BYTES), CHUNK_BYTES // _SAMPLES):
                yield chunk[place : place + _SAMPLE_BYTES]


def find_ranks(path: Path) -> tuple[MergedRank, ...]:
    """Return the ranks of a merged file, () if it holds one or they cannot be told apart.

    Raises InputError if the file is no trace.
    """
    seen = _look(path)
    if len(seen.operators) < 2:
        return ()
    return _by_name(seen) or _by_launch(seen)


def _look(path: Path) -> _Seen:
    decode = msgspec.json.Decoder(list[Mark], strict=False).decode
    seen = _Seen()
    text = TraceText(Source(path), decode)  # type: ignore[arg-type]
    for marks in text.batches():
        for mark in marks:
            _note(seen, mark)  # type: ignore[arg-type]
    return seen


def _note(seen: _Seen, mark: Mark) -> None:
    pid, category = mark.pid, (mark.cat or "").lower()
    if mark.ph == "M":
        if mark.args is not None and mark.name in ("process_name", "process_labels"):
            said = f"{mark.args.label or ''} {mark.args.labels or ''}"
            seen.names[pid] = f"{seen.names.get(pid, '')} {said}"
    elif mark.ph != "X":
        return
    elif category in ("cpu_op", "operator"):
        seen.operators[pid] += 1
    elif is_runtime_category(category):
        seen.calls[pid].add(mark.args.correlation if mark.args else NONE)
    elif is_device_category(category):
        seen.work[pid].append(mark.args.correlation if mark.args else NONE)


def _by_name(seen: _Seen) -> tuple[MergedRank, ...]:
    """Group processes by the rank in their names; () unless every one at work names a rank."""
    ranks: dict[int, set[Loose]] = defaultdict(set)
    for pid in {*seen.operators, *seen.calls, *seen.work}:
        found = _RANK.search(f"{pid} {seen.names.get(pid, '')}")
        if found is None:
            return ()
        ranks[int(found[1])].add(pid)
    if len(ranks) < 2:
        return ()
    return tuple(MergedRank(rank, frozenset(ranks[rank])) for rank in sorted(ranks))


def _by_launch(seen: _Seen) -> tuple[MergedRank, ...]:
    """Give every device process to the one that launched its work; () if that is not clear."""
    owned: dict[Loose, set[Loose]] = {pid: {pid} for pid in seen.operators}
    if any(pid not in owned for pid in seen.calls):
        return ()
    for device, work in seen.work.items():
        owner = _launcher(work, seen.calls)
        if device in owned or owner is None:
            return ()
        owned[owner].add(device)
    order = sorted(
        owned, key=lambda pid: min((str(d) for d in owned[pid] - {pid}), default=str(pid))
    )
    return tuple(MergedRank(NONE, frozenset(owned[pid])) for pid in order)


def _launcher(work: list[int], calls: Mapping[Loose, set[int]]) -> Loose:
    launched = Counter({pid: sum(one in made for one in work) for pid, made in calls.items()})
    first, *others = launched.most_common(2) or [(None, 0)]
    beaten = not others or first[1] >= _SURE * others[0][1]
    return first[0] if beaten and 2 * first[1] > len(work) else None
