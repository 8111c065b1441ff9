"""The run folder: where it is made, who may share it, and its nodes/NODE/run.json."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfkit.errors import SetupError, writing
from perfkit.profiler.inrank import identity
from perfkit.profiler.inrank.files import write_whole

DEFAULT_PARENT = "perfkit-runs"


def node_name() -> str:
    """NODE of this launching parent."""
    return identity.node_name()


def create(out: Path | None, command: Sequence[str], node: str) -> Path:
    """Make the run folder, or join the one that another node's parent has made.

    Raises SetupError where the folder cannot be written or holds anything else.
    """
    run = (out if out is not None else _default(command)).absolute()
    _check_joinable(run, node)
    try:
        (run / "nodes").mkdir(parents=True, exist_ok=True)
        (run / "nodes" / node).mkdir()  # of two that start at once, one gets no further
        probe = run / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise _taken(run) from error
    except OSError as error:
        raise SetupError(
            f"cannot write the run folder {run}: {error.strerror}",
            hint="name a writable one with --out DIR",
        ) from error
    return run


def _check_joinable(run: Path, node: str) -> None:
    try:
        entries = list(run.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(
            f"cannot write the run folder {run}: {error.strerror}",
            hint="name a writable one with --out DIR",
        ) from error
    if entries and not (run / "nodes").is_dir():
        raise SetupError(
            f"{run} is not empty and is no run folder", hint="name a new folder with --out DIR"
        )
    if (run / "nodes" / node).exists():
        raise _taken(run)


def _taken(run: Path) -> SetupError:
    return SetupError(
        f"{run} already holds a run of this node", hint="name a new folder with --out DIR"
    )


def _default(command: Sequence[str]) -> Path:
    script = next((a for a in command if a.endswith(".py")), command[0])
    name = re.sub(r"[^A-Za-z0-9_-]", "-", Path(script).stem) or "run"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Path(DEFAULT_PARENT) / f"{stamp}-{name}-{secrets.token_hex(2)}"


def run_id(run: Path) -> str:
    """The id shared by all parents of a run folder: a joining parent takes the first one's."""
    for path in sorted((run / "nodes").glob("*/run.json")):
        try:
            return str(json.loads(path.read_bytes())["run_id"])
        except (OSError, ValueError, KeyError):
            continue
    return secrets.token_hex(8)


def write_node(run: Path, node: str, document: Mapping[str, object]) -> None:
    """Write nodes/NODE/run.json whole.

    Raises SetupError where it cannot be written.
    """
    with writing(run, SetupError):
        write_whole(str(run / "nodes" / node / "run.json"), document)


def withdraw(run: Path, node: str) -> None:
    """Take back what `create` and `write_node` made for a command that did not start."""
    (run / "nodes" / node / "run.json").unlink(missing_ok=True)
    for folder in (run / "nodes" / node, run / "nodes", run):
        try:
            folder.rmdir()
        except OSError:
            return
