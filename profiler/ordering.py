"""Orders from outside to the ranks of a run that is going on (profiler/inrank/orders.py obeys)."""

from __future__ import annotations

import json
import math
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfkit.errors import InputError, writing
from perfkit.profiler import rank_folders
from perfkit.profiler.inrank import orders
from perfkit.profiler.inrank.files import write_whole
from perfkit.profiler.rank_folders import RankFolder

NOTICE_S = 3 * orders.PERIOD_S  # so that every rank has read the order before the window begins
SPARE_STEPS = 2
RECENT = 20  # steps that say how long a step takes: a single one may hold a checkpoint
PATIENCE_S = 60.0  # beyond the time that the steps take


@dataclass(frozen=True, slots=True)
class OrderedWindow:
    """The steps that every rank will trace, and how long that should take."""

    first: int
    last: int
    seconds: float


def running_ranks(run: Path) -> list[RankFolder]:
    """The ranks that have not written their last record. Raises InputError if there are none."""
    if not (run / "nodes").is_dir():
        raise InputError(f"{run} is no run folder", hint="name the folder that profile made")
    running = [folder for folder in rank_folders.find(run) if not folder.ended()]
    if not running or _closed(run):
        raise InputError(
            f"{run}: no rank is running", hint="orders need a run that is going on; see analyze"
        )
    return running


def _closed(run: Path) -> bool:
    """Whether every launching parent has seen its command end."""
    ends = []
    for path in (run / "nodes").glob("*/run.json"):
        try:
            ends.append(json.loads(path.read_bytes()).get("ended_unix_ns"))
        except (OSError, ValueError):
            continue
    return bool(ends) and all(end is not None for end in ends)


def place(run: Path, order: dict[str, object]) -> str:
    """Give an order to all ranks; its name."""
    name = f"{time.time_ns()}-{secrets.token_hex(2)}.json"
    with writing(run):
        (run / orders.FOLDER).mkdir(exist_ok=True)
        write_whole(str(run / orders.FOLDER / name), order)
    return name


def order_window(run: Path, steps: int) -> OrderedWindow:
    """Have all ranks trace the same `steps` steps soon: max(rank steps) + k.

    Raises InputError where no rank is running or none has made a step yet.
    """
    running = running_ranks(run)
    lines = [line for folder in running if (line := folder.last_step()) is not None]
    recent = [took for folder in running if (took := folder.recent_steps_s(RECENT))]
    if not lines or not recent:
        raise InputError(f"{run}: no rank has ended a step yet", hint="try again a little later")
    newest = max(int(str(line["i"])) for line in lines)
    step_s = min(map(statistics.median, recent))
    ahead = math.ceil(NOTICE_S / max(step_s, 1e-4)) + SPARE_STEPS
    first = newest + 1 + ahead
    place(run, {"order": "window", "first": first, "last": first + steps - 1})
    slowest = max(map(statistics.fmean, recent))
    return OrderedWindow(first, first + steps - 1, (ahead + steps + 1) * slowest)


def await_window(
    ranks: Sequence[RankFolder], window: OrderedWindow, look: Callable[[int], None]
) -> tuple[int, ...]:
    """Wait until the ranks have written the window's traces; those that have not in time.

    `look(done)` is told how many have, about once a second.
    """
    deadline = time.monotonic() + window.seconds * 3 + PATIENCE_S
    missing = {folder.rank: folder for folder in ranks}
    while missing and time.monotonic() < deadline:
        missing = {r: f for r, f in missing.items() if not _has_trace(f, window)}
        look(len(ranks) - len(missing))
        if missing and all(folder.ended() for folder in missing.values()):
            break
        if missing:
            time.sleep(1.0)
    return tuple(sorted(missing))


def _has_trace(folder: RankFolder, window: OrderedWindow) -> bool:
    """Whether the rank has a trace that begins in the window: one that came late begins later."""
    for path in folder.path.glob("trace-*.json*"):
        first = int(path.name.split("-")[1])
        if window.first <= first <= window.last:
            return True
    return False
