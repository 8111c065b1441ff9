"""`--nsys`: one Nsight Systems report a node, of the window's steps (profiler/inrank/nsight.py).

Which options nsys has depends on its release, so its own help is asked. The report is exported to
SQLite, which analyze reads; the environment that Nsight puts into it is cut down to what may be
recorded (nsys_scrub.py).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfkit.errors import InputError, SetupError, writing
from perfkit.profiler import nsys_scrub
from perfkit.trace import nsys_report

FOLDER = "nsys"
ASK_SECONDS = 60
RANGE_END = "--capture-range-end"
SUFFIXES = nsys_report.REPORT_SUFFIXES
ALWAYS = (
    "--trace=cuda,nvtx,osrt",
    "--sample=none",
    "--capture-range=cudaProfilerApi",
    f"{RANGE_END}=stop",  # the training goes on behind the window
    "--force-overwrite=true",
)
IF_KNOWN = (
    "--kill=none",
    "--cpuctxsw=none",
    "--cuda-graph-trace=node",  # else a graph is one event, its kernels unseen
)


@dataclass(frozen=True, slots=True)
class Nsys:
    """An nsys that can be used: its path, what it says of its version, and its profile options."""

    path: str
    version: str
    options: tuple[str, ...]

    def wrap(self, command: Sequence[str], report: Path) -> list[str]:
        """The command line that runs `command` under nsys into `report` (without its suffix)."""
        return [self.path, "profile", *self.options, f"--output={report}", *command]


def find() -> Nsys:
    """The nsys on PATH. Raises SetupError where it is missing, fails or cannot do what is needed.

    nsys before 2021.2 has no --capture-range-end: it would end the training with the window.
    """
    path = shutil.which("nsys")
    if path is None:
        raise SetupError(
            "--nsys: nsys is not on PATH",
            hint="install nsight-systems-cli, or leave --nsys out: torch.profiler needs no nsys",
        )
    version = _ask(path, "--version")
    known = _ask(path, "profile", "--help")
    if RANGE_END not in known:
        raise SetupError(
            f"--nsys: {path} has no {RANGE_END} ({version.strip() or 'version unknown'})",
            hint="it would end the training with the window: use nsys 2021.2 or newer",
        )
    more = tuple(option for option in IF_KNOWN if option.partition("=")[0] in known)
    return Nsys(path, (version.strip().splitlines() or [""])[-1], ALWAYS + more)


def _ask(path: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"--nsys: {path} does not run: {error}") from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace").strip() or text.strip()).splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise SetupError(
            f"--nsys: {path} {' '.join(arguments)} failed: {reason}",
            hint="try it by hand, or leave --nsys out",
        )
    return text


def report_place(run: Path, node: str, window: tuple[int, int]) -> Path:
    """Where a node's report goes, without the suffix that nsys adds.

    Raises SetupError where the folder cannot be made.
    """
    folder = run / FOLDER
    with writing(run, SetupError):
        folder.mkdir(exist_ok=True)
    return folder / f"trace-{window[0]:04d}-{window[1]:04d}.{node}"


def collect(nsys: Nsys, report: Path) -> tuple[str, ...]:
    """Export the report of a command that has ended; what went wrong, in words."""
    found = [place for suffix in SUFFIXES if (place := Path(f"{report}{suffix}")).is_file()]
    if not found:
        return (
            "nsys wrote no report: no rank of this node that uses CUDA came into the window, or"
            " nsys failed (see its own lines above)",
        )
    target = Path(f"{report}.sqlite")
    try:
        nsys_report.export(nsys.path, found[0], target)
        nsys_scrub.scrub(target)
    except InputError as error:
        return (str(error),)
    except nsys_scrub.ScrubError as error:
        target.unlink(missing_ok=True)
        return (f"{found[0]}: not exported, its environment could not be taken out: {error}",)
    return ()
