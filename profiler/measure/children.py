"""Start the measuring child processes and collect what they print; torch is never imported here."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perfkit.errors import InputError

Progress = Callable[[str, float], None]
MODULE = "perfkit.profiler.measure"


def measure_machine(
    folder: Path,
    *,
    quick: bool,
    threads: int | None = None,
    processor_only: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ceilings of device, memory, host links and storage, as ceilings.json holds them.

    folder: where the scratch file for storage is written. threads: of a CPU, None for as many as
    torch takes. processor_only: leave storage out. progress: called with each quantity and its
    value as it becomes known. Raises InputError if the child fails.
    """
    command = [sys.executable, "-m", f"{MODULE}.machine", "--folder", str(folder)]
    command += ["--quick"] * quick + ["--processor-only"] * processor_only
    command += [f"--threads={threads}"] if threads is not None else []
    counted = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if threads}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **counted},
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        said = _relay(child.stderr.readline, progress)
        text = child.stdout.read()
    if child.returncode != 0:
        raise _failed("the machine", child.returncode, said)
    found: dict[str, Any] = json.loads(text)
    return found


def _relay(readline: Callable[[], str], progress: Progress | None) -> list[str]:
    """Pass progress lines on; keep the others, which explain a failure."""
    said: list[str] = []
    while line := readline():
        try:
            entry = json.loads(line)
            quantity, value = str(entry["quantity"]), float(entry["value"])
        except (ValueError, KeyError, TypeError):
            said.append(line.rstrip())
            continue
        if progress is not None:
            progress(quantity, value)
    return said


def measure_collectives(ranks: int, *, quick: bool) -> dict[str, Any]:
    """Collectives by size over that many processes on this machine.

    Returns {backend, ranks, nodes, sweeps: [{collective, points: [{bytes, seconds}]}]}. Raises
    InputError if a rank fails.
    """
    port = _free_port()
    children = [_start_rank(_environment(rank, ranks, port), quick=quick) for rank in range(ranks)]
    try:
        _wait(children)
    finally:
        _end(children)
    outputs = [child.communicate() for child in children]
    found: dict[str, Any] = json.loads(outputs[0][0])
    return found


def _wait(children: list[subprocess.Popen[str]]) -> None:
    """Wait for all; the first that fails is the reason, the others would wait for it for ever."""
    while any(child.poll() is None for child in children):
        _raise_failure(children)
        time.sleep(0.05)
    _raise_failure(children)


def _raise_failure(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        if child.poll():
            _, errors = child.communicate()
            raise _failed("collectives", child.returncode, errors.splitlines())


def _end(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()
            child.communicate()


def join_collectives(environment: Mapping[str, str], *, quick: bool) -> dict[str, Any] | None:
    """Measure collectives as one rank of a job that a launcher such as torchrun started.

    Returns the result on rank 0 and None on the others.
    """
    child = _start_rank(dict(environment), quick=quick)
    output, errors = child.communicate()
    if child.returncode != 0:
        raise _failed("collectives", child.returncode, errors.splitlines())
    found: dict[str, Any] | None = json.loads(output) if output else None
    return found


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    ours = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_PORT": port,
    }
    named = {name: str(value) for name, value in ours.items()}
    return {**os.environ, "MASTER_ADDR": "127.0.0.1", **named}


def _start_rank(environment: dict[str, str], *, quick: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"{MODULE}.collectives"] + ["--quick"] * quick,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _failed(what: str, status: int, said: list[str]) -> InputError:
    last = next((line for line in reversed(said) if line.strip()), f"exit status {status}")
    hint = "perfkit ceilings needs torch in this Python environment"
    return InputError(f"measuring {what} failed: {last}", hint=hint)
