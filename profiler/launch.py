"""Run the user's command with capture on: `profile(command, options) -> ProfileOutcome`.

The command is a child that inherits stdin, stdout, stderr and the terminal. This parent owns the
run folder, passes signals on and never writes to stdout.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from perfkit.errors import SetupError, writing
from perfkit.profiler import (
    child,
    closing,
    filesystems,
    host,
    oom_kills,
    own_traces,
    pyspy,
    run_folder,
)
from perfkit.profiler.companions import Companion, accompanied
from perfkit.profiler.hang import HangWatch
from perfkit.profiler.inrank import recipe_request
from perfkit.profiler.inrank.capture import Capture, Detail
from perfkit.profiler.live import LiveVerdict
from perfkit.profiler.metrics import MetricsServer
from perfkit.profiler.nsys import collect, report_place
from perfkit.profiler.nsys import find as find_nsys
from perfkit.profiler.stack_sampling import StackSampling
from perfkit.profiler.telemetry import Telemetry

DEFAULT_WINDOW = (10, 19)
BOOT = Path(__file__).resolve().parent / "inrank" / "boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What to capture and where to put it."""

    out: Path | None = None  # the run folder; None: a new one under ./perfkit-runs
    windows: tuple[tuple[int, int], ...] = (DEFAULT_WINDOW,)  # (first, last) step, both included
    trace: bool = True  # False: step lines only
    trace_ranks: tuple[int, ...] | str | None = None  # ranks, "all", "one-per-node"; None: by size
    with_stack: bool = False
    modules: bool = False  # name the nn.Module around every operator
    memory: bool = False  # record allocations in the window, memory in every step line
    max_bytes: int | None = None  # of traces a rank may write
    nsys: bool = False  # one Nsight report a node instead of Kineto's CUDA activity
    stop_after: int | None = None  # end the training after so many steps, on all ranks together
    seconds: float | None = None  # end it after so long, whatever it is doing
    environment: Mapping[str, str] = field(default_factory=dict)  # beside our own
    output: Path | None = None  # a file for its stdout and stderr; None: our own
    on_hang: float | None = None  # seconds without a step after which stacks are dumped
    py_spy: bool = False  # sample Python stacks around the first window
    metrics_port: int | None = None  # serve metrics for Prometheus there; 0: any free port
    live: bool = False  # a verdict once the first window has closed, while the command runs
    tell: Callable[[str], None] = field(default=lambda text: None)  # what cannot wait for the end

    def windows_to_trace(self) -> tuple[tuple[int, int], ...]:
        """The windows in order, overlapping and adjoining ones joined; () without traces."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(self.windows) if self.trace else ():
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return tuple(joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOutcome:
    """How the command ended: exactly one of `status` and `signal` is set."""

    run: Path
    status: int | None
    signal: int | None
    warnings: tuple[str, ...] = ()
    timed_out: bool = False
    interrupted: bool = False  # perfkit itself was asked to end meanwhile

    @property
    def exit_status(self) -> int:
        """The exit status as a shell states it: 128 + n after signal n."""
        return self.status if self.status is not None else 128 + (self.signal or 0)


def profile(command: Sequence[str], options: ProfileOptions) -> ProfileOutcome:
    """Run `command` and record it.

    Raises SetupError before anything has started: exit status 125 where the run folder cannot be
    written, 126 where the command cannot be executed, 127 where it is not found.
    """
    child.check_executable(command)
    if options.py_spy and pyspy.program() is None:
        raise SetupError(f"--py-spy: {pyspy.NOT_INSTALLED}")
    nsys = find_nsys() if options.nsys else None
    node = run_folder.node_name()
    run = run_folder.create(options.out, command, node)
    document = host.describe(command, node, run, options.windows_to_trace())
    document["recipes"] = recipes_of(options.environment)
    document["options"] = {
        "trace": options.trace,
        "trace_ranks": options.trace_ranks,
        "with_stack": options.with_stack,
        "modules": options.modules,
        "memory": options.memory,
        "max_bytes": options.max_bytes,
        "nsys": nsys.version if nsys is not None else None,
        "stop_after": options.stop_after,
        "on_hang": options.on_hang,
        "py_spy": options.py_spy,
    }
    run_folder.write_node(run, node, document)
    environment = environment_of(
        {**os.environ, **options.environment}, request_of(options, run, document)
    )
    try:
        served = metrics_of(options, run, node)
        report = report_place(run, node, options.windows_to_trace()[0]) if nsys else run
        started = nsys.wrap(command, report) if nsys else command
        killed_before = oom_kills.count()
        with _opened(options.output) as output:
            process = child.start(started, environment, output=output)
    except BaseException:
        run_folder.withdraw(run, node)
        raise
    companions = (*companions_of(options, run, node), *served)
    with accompanied(companions):
        waited = child.wait(process, seconds=options.seconds)
    late = collect(nsys, report) if nsys else ()
    ours = (*oom_kills.since(killed_before), *late, *_complaints(companions))
    return _close(run, node, command, document, waited, ours)


def companions_of(options: ProfileOptions, run: Path, node: str) -> tuple[Companion, ...]:
    """What runs beside the command in this process."""
    found: list[Companion] = [Telemetry(run, node)]
    if options.on_hang is not None:
        found.append(HangWatch(run, node, options.on_hang, options.tell))
    if options.live:
        found.append(LiveVerdict(run, node, options.tell))
    if options.py_spy:
        program = pyspy.program()
        assert program is not None  # profile has looked for it
        window = next(iter(options.windows_to_trace()), DEFAULT_WINDOW)
        found.append(StackSampling(run, node, window, program))
    return tuple(found)


def metrics_of(options: ProfileOptions, run: Path, node: str) -> tuple[Companion, ...]:
    """The server of --metrics-port, its port taken. Raises SetupError where it cannot be had."""
    if options.metrics_port is None:
        return ()
    return (MetricsServer(run, node, options.metrics_port, options.tell),)


def _opened(output: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    with writing(output, SetupError):
        return nullcontext() if output is None else output.open("ab")


def _complaints(companions: Sequence[Companion]) -> list[str]:
    return [warning for companion in companions for warning in companion.warnings]


def _close(
    run: Path,
    node: str,
    command: Sequence[str],
    document: dict[str, object],
    waited: child.Waited,
    ours: Sequence[str],
) -> ProfileOutcome:
    code = waited.returncode
    status, signal = (code, None) if code >= 0 else (None, -code)
    warnings = (
        *closing.missing_ranks(run, command),
        *closing.bring_streams(run, node),
        *closing.compress_traces(run, node),
        *own_traces.collect(run, node),
        *ours,
    )
    outcome = ProfileOutcome(
        run=run,
        status=status,
        signal=signal,
        warnings=warnings,
        timed_out=waited.timed_out,
        interrupted=waited.interrupted,
    )
    document |= {
        "ended_unix_ns": time.time_ns(),
        "exit_status": outcome.exit_status,
        "signal": signal,
        "warnings": list(warnings),
    }
    try:
        run_folder.write_node(run, node, document)
    except SetupError as error:  # a full disk, a deleted folder: the command ended as it ended
        outcome = replace(outcome, warnings=(*warnings, f"the end was not recorded: {error}"))
    return outcome


def recipes_of(environment: Mapping[str, str]) -> list[str]:
    """The recipes that an environment asks for, as `--recipe` names them."""
    request = recipe_request.asked(environment) or {"recipes": []}
    return [str(recipe["label"]) for recipe in request["recipes"]]


def request_of(options: ProfileOptions, run: Path, document: dict[str, object]) -> Capture:
    """What every process of the run is asked to do."""
    return Capture(
        run_dir=str(run),
        run_id=str(document["run_id"]),
        parent_node=str(document["node"]),
        windows=options.windows_to_trace(),
        trace_ranks=options.trace_ranks,
        detail=Detail(
            with_stack=options.with_stack,
            modules=options.modules,
            memory=options.memory,
            nsys=options.nsys,
            max_bytes=options.max_bytes,
        ),
        stream_dir=stream_dir_of(run, str(document["run_id"])),
        stop_after=options.stop_after,
    )


def stream_dir_of(run: Path, run_id: str) -> str | None:
    """Local disk for the ranks' streams where the run folder lies on a network; else None."""
    local = Path(tempfile.gettempdir())
    if not filesystems.is_network(run) or filesystems.is_network(local):
        return None
    return str(local / f"perfkit-{run_id}")


def environment_of(environ: Mapping[str, str], request: Capture) -> dict[str, str]:
    """The command's environment: the user's own, the request, and our folder on PYTHONPATH."""
    path = environ.get("PYTHONPATH")
    return {
        **environ,
        **request.environment(),
        "PYTHONPATH": f"{BOOT}{os.pathsep}{path}" if path else str(BOOT),
    }
