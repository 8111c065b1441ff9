"""Commands inside advice: found at its end, and completed with what this run was started by."""

import re
import shlex

from perfkit.analyzers.result import Analysis
from perfkit.analyzers.run_facts import WINDOWS
from perfkit.report.names import name

_LIMIT = 2000
USUAL_WINDOW = "10:19"
"""What is traced where nothing is said."""
_AT_END = re.compile(
    r"^(?P<prose>|[^`]*?[ :(])"
    r"(?P<command>(?:perfkit [a-z]+|torchrun|python3?|export|pip|[A-Z][A-Z0-9_]*=\S*)(?: [^`]*)?)$",
    re.DOTALL,
)


def split(text: str, analysis: Analysis) -> tuple[str, str]:
    """Return advice as prose and the command that it ends with; "" for what it lacks.

    A placeholder CMD becomes the command of the run where that is known. A name such as
    "python" only counts as a command where the advice begins with it.
    """
    found = _AT_END.match(text)
    if not found or (found["prose"] and not found["command"].startswith("perfkit ")):
        return text, ""
    return found["prose"].rstrip(" :("), exact(found["command"], analysis)


def exact(command: str, analysis: Analysis) -> str:
    """Return `command` with its placeholder CMD replaced by the command of the run."""
    run = name(analysis.run.command, _LIMIT)
    if not run:
        return command
    return re.sub(r"(?<= -- )CMD$", lambda _: run, command)


def remedy(analysis: Analysis) -> str:
    """Return what would settle an open verdict, as advice; "" where nothing is named."""
    limits = [c for c in analysis.quality.cannot_tell if c.remedy]
    if analysis.verdict.reason == "wait_not_separable":
        about = [c for c in limits if "communication" in c.claim or "collective" in c.claim]
        limits = about or limits
    return limits[0].remedy if limits else ""


def following(analysis: Analysis, run_path: str = "") -> str:
    """Return the command to run next.

    It settles an open verdict, lists what can be tried where no finding says what to change (of
    the run at `run_path`, "" where there is none to ask again), or runs again after the change.
    """
    if analysis.verdict.label == "undetermined":
        _, command = split(remedy(analysis), analysis)
        if command:
            return name(command, _LIMIT)
    elif run_path and not any(finding.severity != "info" for finding in analysis.findings):
        return f"perfkit recipes {shlex.quote(run_path)}"
    return exact(f"perfkit profile {_windows(analysis)}-- CMD", analysis)


def _windows(analysis: Analysis) -> str:
    """Return the options that trace the same steps again, with a space behind; "" by default."""
    asked = analysis.run.facts.get(WINDOWS, "")
    if asked in {"", USUAL_WINDOW}:
        return ""
    return "".join(f"--window {window} " for window in asked.split(", "))
