"""What every rank of a running job is doing now: Python stacks, last step, last collective.

Written to RUN/stacks/dump-TIME-XXXX/: rankNNNNN.json with all of it, and dump.txt to read.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit.errors import writing
from perfkit.profiler import ordering, pyspy
from perfkit.profiler.inrank import orders
from perfkit.profiler.inrank.files import write_whole
from perfkit.profiler.rank_folders import RankFolder

MOVING_S = (
    2.0  # a step that ended so recently: the job goes on, and ranks drift while they are asked
)
ANSWER_S = 10.0  # how long a rank may take to state its collectives


@dataclass(frozen=True, slots=True, kw_only=True)
class RankDump:
    """One rank at the moment of the dump."""

    rank: int
    pid: int
    last_step: int | None  # that has ended
    seconds_since: float | None  # its end
    stacks: list[dict[str, Any]] | None
    why_no_stacks: str
    collective: dict[str, Any] | None  # the newest of the flight recorder
    why_no_collective: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """All ranks of a job, and where it is written down."""

    folder: Path
    ranks: tuple[RankDump, ...]


def dump(run: Path) -> Dump:
    """Look at every running rank of the run.

    Raises InputError where none is running, or the run folder cannot be written.
    """
    running = ordering.running_ranks(run)
    order = ordering.place(run, {"order": "flight"})
    stacks = {folder.pid: _stacks(folder) for folder in running}
    deadline = time.monotonic() + ANSWER_S
    found = tuple(_rank(folder, stacks[folder.pid], order, deadline) for folder in running)
    with writing(run):
        target = _new_folder(run / "stacks")
        for one in found:
            document = {name: getattr(one, name) for name in RankDump.__dataclass_fields__}
            write_whole(str(target / f"rank{one.rank:05d}.json"), document)
        draft = target / f".dump.txt.{os.getpid()}.tmp"
        draft.write_text(text_of(found))
        draft.replace(target / "dump.txt")
    return Dump(folder=target, ranks=found)


def _new_folder(stacks: Path) -> Path:
    """A folder for this dump alone: the parents of several nodes see a hang at the same time."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = stacks / f"dump-{moment}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder


def _stacks(folder: RankFolder) -> tuple[list[dict[str, Any]] | None, str]:
    if folder.hostname != socket.gethostname():
        return None, f"it runs on {folder.hostname}: run perfkit dump there"
    return pyspy.stacks(folder.pid)


def _rank(
    folder: RankFolder,
    stacks: tuple[list[dict[str, Any]] | None, str],
    order: str,
    deadline: float,
) -> RankDump:
    line = folder.last_step()
    collective, why = _collective(folder, order, deadline)
    return RankDump(
        rank=folder.rank,
        pid=folder.pid,
        last_step=None if line is None else int(str(line["i"])),
        seconds_since=None if line is None else (time.time_ns() - int(str(line["u1"]))) / 1e9,
        stacks=stacks[0],
        why_no_stacks=stacks[1],
        collective=collective,
        why_no_collective=why,
    )


def _collective(
    folder: RankFolder, order: str, deadline: float
) -> tuple[dict[str, Any] | None, str]:
    path = folder.path / f"{orders.FOLDER}-{order}"
    while not path.exists():
        if time.monotonic() > deadline:
            return None, "the rank did not answer: no Python thread of it can run"
        time.sleep(0.1)
    try:
        answer = json.loads(path.read_bytes())["collectives"]
    except (OSError, ValueError, KeyError) as error:
        return None, f"its answer cannot be read: {error!r}"
    if answer is None:
        return None, "this torch has no flight recorder"
    return (answer[-1], "") if answer else (None, "torch's flight recorder is empty")


def behind(ranks: Sequence[RankDump]) -> list[str]:
    """Which ranks have not issued the collective that others of their group wait in."""
    calls = [(one.rank, one.collective) for one in ranks if one.collective is not None]
    groups: dict[str, dict[int, int]] = {}
    for rank, call in calls:
        groups.setdefault(call["description"] or call["group"], {})[rank] = int(call["seq"])
    found = []
    for group, numbers in groups.items():
        newest = max(numbers.values())
        late = sorted(rank for rank, number in numbers.items() if number < newest)
        if late:
            who = ", ".join(f"rank {rank} (number {numbers[rank]})" for rank in late)
            found.append(f"group {group}: others have issued collective {newest}, not so {who}")
    return found


def text_of(ranks: Sequence[RankDump]) -> str:
    """The whole dump in words: who is behind first, then each rank."""
    late = behind(ranks)
    if late and any(r.seconds_since is not None and r.seconds_since < MOVING_S for r in ranks):
        late.append("but the job is moving: ranks were asked one after the other")
    return "\n".join([*late, "", *map(describe, ranks)])


def describe(one: RankDump) -> str:
    """One rank in words, its threads' stacks innermost first."""
    lines = [f"rank {one.rank} (pid {one.pid})", f"  {_progress(one)}", f"  {_last_call(one)}"]
    if one.stacks is None:
        return "\n".join([*lines, f"  no stacks: {one.why_no_stacks}", ""])
    for thread in one.stacks:
        if str(thread.get("thread_name")).startswith(pyspy.OUR_THREADS):
            continue
        name = thread.get("thread_name") or thread.get("os_thread_id")
        lines.append(f"  thread {name}{', active' if thread.get('active') else ''}")
        for frame in thread.get("frames", []):
            where = frame.get("short_filename") or frame.get("filename")
            lines.append(f"    {frame['name']} ({where}:{frame.get('line')})")
    return "\n".join([*lines, ""])


def _progress(one: RankDump) -> str:
    if one.last_step is None:
        return "no step has ended"
    return f"last step {one.last_step}, {one.seconds_since:.1f} s ago"


def _last_call(one: RankDump) -> str:
    call = one.collective
    if call is None:
        return f"last collective unknown: {one.why_no_collective}"
    ended = call["completed_ns"] or call["state"] == "completed"
    state = "ended" if ended else "issued"  # gloo's entries never say more
    group = call["description"] or call["group"]
    what = f"{call['op']} {call['sizes']} of group {group}, number {call['seq']}"
    return f"last collective {what}, {state}"
