"""The errors a user may meet, and the exit status each one means.

    PerfkitError
    |-- UsageError     2    the command line cannot mean anything
    |-- InputError     3    the input cannot be used
    |-- SetupError   125    perfkit cannot set up a run; the user's command was not started
    `-- GateError      1    a gate such as `compare --max-slowdown` did not hold

Every message says what happened and where; the hint says what to do next.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class PerfkitError(Exception):
    """A failure that is explained to the user in one line, never by a traceback."""

    exit_status = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(PerfkitError):
    """The command line is wrong."""

    exit_status = 2


class InputError(PerfkitError):
    """The input cannot be used: missing, empty, truncated beyond use, or not what it claims."""

    exit_status = 3


class SetupError(PerfkitError):
    """A run cannot be set up; the user's command has not been started."""

    exit_status = 125


class GateError(PerfkitError):
    """A gate that the user asked for did not hold."""

    exit_status = 1


@contextmanager
def writing(
    place: object, kind: type[PerfkitError] = InputError, *, hint: str = ""
) -> Iterator[None]:
    """Turn what the system says of writing to `place` into the error that a user meets."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {place}: {error.strerror or error}", hint=hint) from error
