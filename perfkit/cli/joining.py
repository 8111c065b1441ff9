"""A run with several launching parents: whose turn the verdict is, and when the others have ended.

Parents that share a run folder know of each other by nodes/NODE/run.json. The parent of the lowest
captured rank makes the verdict, once the others have closed or a timeout has passed.
"""

import time
from collections.abc import Callable
from pathlib import Path

from perfkit.cli import console
from perfkit.trace.model import Run
from perfkit.trace.run import open_run

JOIN_SECONDS = 60.0
POLL_SECONDS = 0.5


def await_turn(path: Path, node: str, *, clock: Callable[[], float] = time.monotonic) -> bool:
    """Tell whether this node's parent makes the verdict; if so, wait for the others to end.

    Says on stderr what the others do. Raises InputError where the folder holds no rank.
    """
    run = open_run([path])
    first = owner(run)
    if first not in {"", node}:
        console.say(f"rank {run.ranks[0].rank}'s perfkit, on {first}, makes the verdict")
        console.suggest(f"perfkit analyze {console.shown(path)}, once all nodes have ended")
        return False
    deadline = clock() + JOIN_SECONDS
    with console.progress("waiting for the other nodes"):
        while running(run, node) and clock() < deadline:
            time.sleep(POLL_SECONDS)
            run = open_run([path])
    if late := running(run, node):
        console.say(
            f"{', '.join(late)} still runs after {JOIN_SECONDS:.0f} s: the verdict lacks its end; "
            f"perfkit analyze {console.shown(path)} makes it anew"
        )
    captured = len({record.rank for record in run.ranks})
    if captured < run.world_size and not others(run, node):
        console.say(
            f"{captured} of {run.world_size} ranks are in this folder; join those of other "
            f"machines with: perfkit analyze {console.shown(path)} THEIR_FOLDERS"
        )
    return True


def owner(run: Run) -> str:
    """Return the node of the parent that launched the lowest captured rank; "" if unknown."""
    return str(run.ranks[0].facts.get("parent_node") or "")


def others(run: Run, node: str) -> list[str]:
    """Return the nodes of the other parents."""
    return [record.node for record in run.nodes if record.node != node]


def running(run: Run, node: str) -> list[str]:
    """Return the nodes of the other parents that have not ended."""
    ended = {n.node for n in run.nodes if n.facts.get("ended_unix_ns") is not None}
    return [other for other in others(run, node) if other not in ended]
