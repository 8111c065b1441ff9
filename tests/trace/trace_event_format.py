"""Checks a file against the Trace Event Format and what Perfetto's importer asks of it.

Perfetto itself is not at hand everywhere (`make perfetto` installs and asks it), so this is an
independent reading of the format: "Trace Event Format" by the Chromium authors, sections
complete, flow and metadata events, and of Perfetto's importer: numbers of processes and threads
have 32 bits, slices of one thread must nest (others are dropped), a flow needs both of its ends,
each inside a slice of the thread it names.
"""

import bisect
from collections import defaultdict
from typing import Any

METADATA = ("process_name", "process_sort_index", "thread_name", "thread_sort_index", "perfkit")
Slices = dict[tuple[int, int], list[tuple[int, int]]]


def problems(document: Any) -> list[str]:
    """Return what a viewer would drop, misdraw or refuse; [] if nothing."""
    found: list[str] = []
    slices: Slices = defaultdict(list)
    flows: dict[Any, dict[str, dict[str, Any]]] = defaultdict(dict)
    for number, event in enumerate(document["traceEvents"]):
        kind = event.get("ph")
        if kind not in ("X", "M", "s", "f"):
            found.append(f"event {number}: phase {kind!r}")
            continue
        wrong = _malformed(event)
        if wrong:
            found.append(f"event {number}: {wrong}")
        elif kind == "X":
            start, length = round(1000 * event["ts"]), round(1000 * event["dur"])
            slices[event["pid"], event["tid"]].append((start, start + length))
        elif kind == "M":
            continue
        elif kind in flows[event["cat"], event["id"]]:
            found.append(f"event {number}: flow {event['id']} has two ends of kind {kind}")
        else:
            flows[event["cat"], event["id"]][kind] = event
    return found + _not_nested(slices) + _loose(flows, slices)


def _malformed(event: dict[str, Any]) -> str:
    """Return what one event lacks, "" if nothing."""
    ids = [event.get("pid"), event.get("tid", 0)]
    if not all(isinstance(i, int) and 0 <= i < 1 << 32 for i in ids):
        return f"pid and tid {ids}"
    if not isinstance(event.get("name"), str):
        return "no name"
    if event["ph"] == "M":
        known = event["name"] in METADATA and isinstance(event.get("args"), dict)
        return "" if known else f"metadata {event['name']}"
    times = [event.get("ts"), event.get("dur") if event["ph"] == "X" else 0]
    fine = all(isinstance(t, (int, float)) and t >= 0 for t in times)
    return "" if fine else f"times {times}"


def _not_nested(slices: Slices) -> list[str]:
    found = []
    for thread, own in slices.items():
        own.sort(key=lambda span: (span[0], -span[1]))
        stack: list[int] = []
        for start, end in own:
            while stack and stack[-1] <= start:
                stack.pop()
            if stack and end > stack[-1]:
                found.append(f"thread {thread}: the slice at {start} ns overlaps one that it is in")
            stack.append(end)
    return found


def _loose(flows: dict[Any, dict[str, dict[str, Any]]], slices: Slices) -> list[str]:
    found = []
    for name, ends in flows.items():
        if set(ends) != {"s", "f"} or ends["s"]["ts"] > ends["f"]["ts"]:
            found.append(f"flow {name}: {sorted(ends)}")
            continue
        for end in ends.values():
            own = slices[end["pid"], end["tid"]]
            at = round(1000 * end["ts"])
            first = bisect.bisect_left(own, (at, -1))
            if not any(start <= at <= stop for start, stop in own[max(0, first - 200) : first + 2]):
                found.append(f"flow {name}: no slice at its end {end['ph']}")
    return found
