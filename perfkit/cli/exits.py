"""How a command ends: the one place that turns errors into one line and an exit status."""

import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from perfkit.errors import PerfkitError

INTERRUPTED = 130
BUG = 70
WRONG_USAGE = 2

# Typer vendors Click in some releases and imports it in others; the classes are found through
# the public one that is derived from them.
_UsageError, _ClickError = typer.BadParameter.__mro__[1:3]


def run(command: Callable[[], object]) -> int:
    """Run a command and return its exit status, having said on stderr what went wrong."""
    try:
        status = command()
        sys.stdout.flush()
    except PerfkitError as error:
        complain(str(error))
        return error.exit_status
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        end_by_signal(signal.SIGPIPE)  # as any filter whose reader has gone
    except SystemExit as end:  # Typer's own answer to a broken pipe
        if isinstance(end.__context__, BrokenPipeError):
            end_by_signal(signal.SIGPIPE)
        raise
    except Exception as error:  # the last line of defence: a user never meets a traceback
        if isinstance(error, _ClickError):
            complain(_usage(error))
            return WRONG_USAGE
        complain(describe_bug(error))
        return BUG
    if status == INTERRUPTED:  # Typer's own answer to Ctrl-C
        complain("interrupted")
    return status if isinstance(status, int) else 0


@contextmanager
def resumable(say: Callable[[], None]) -> Iterator[None]:
    """End the block by KeyboardInterrupt on SIGTERM and SIGHUP too, and call `say` before it ends.

    For experiments, which take minutes to hours, and of which a batch system ends what is too long.
    """

    def end(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    mine = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        say()
        raise
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def complain(line: str) -> None:
    """Write one line to stderr."""
    print(f"perfkit: {' '.join(line.split())}", file=sys.stderr)


def describe_bug(error: BaseException) -> str:
    """Log the traceback of an error that is ours and return the line that says where."""
    what = f"internal error: {type(error).__name__}: {error}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="perfkit-bug-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write(f"{sys.argv}\n{''.join(traceback.format_exception(error))}")
    except OSError as unwritable:
        return f"{what}; its traceback could not be logged: {unwritable.strerror}"
    return f"{what}; please report it with {log.name}"


def end_by_signal(number: int) -> NoReturn:
    """End this process by the signal that ended the user's command, without a core dump."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # only reached where the signal does not end a process


def _usage(error: Exception) -> str:
    """Return what is wrong with the command line, and where its options are listed."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "perfkit"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    message = message.replace(": Value error, ", ": ")  # the option parser's name for a choice
    return f"{message.rstrip('.')}; see {path} --help"
