"""`perfkit doctor`: what this machine lets perfkit see, and how to see more."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from perfkit.cli import console

if TYPE_CHECKING:
    from perfkit.profiler.environment import Check

COLORS = {"ok": "32", "limited": "33", "absent": "2"}


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check torch, CUDA, NVML, Nsight, py-spy, shared memory, processors, memory and the network.

    Nothing is changed. Each check that is not ok says how to help it. Example: perfkit doctor
    --json
    """
    from perfkit.profiler import environment

    with console.progress("checking"):
        checks = environment.check_all()
    if as_json:
        document = {"schema_version": 1, "checks": checks}
        console.tell_json(document)
        return
    console.tell("\n".join(lines(checks, color=console.has_color(sys.stdout))))
    console.suggest("perfkit profile -- torchrun --nproc-per-node=2 train.py")


def lines(checks: "tuple[Check, ...]", *, color: bool) -> list[str]:
    """Return one line a check, and one for its remedy."""
    shown = []
    for check in checks:
        status = f"{check.status:7}"
        if color:
            status = f"\x1b[{COLORS[check.status]}m{status}\x1b[0m"
        shown.append(f"{status}  {check.name:10}  {check.found}")
        if check.remedy:
            shown.append(f"{'':21}-> {check.remedy}")
    return shown
