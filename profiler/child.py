"""Start the user's command and stay with it until it ends, passing signals on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from perfkit.errors import SetupError
from perfkit.profiler.stopping import stop_tree

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
SENT_BY_KERNEL = 0x80  # SI_KERNEL: a key at the terminal, which reaches the command by itself
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class NotExecutableError(SetupError):
    """The command exists and cannot be executed."""

    exit_status = NOT_EXECUTABLE


class NotFoundError(SetupError):
    """There is no such command."""

    exit_status = NOT_FOUND


def check_executable(command: Sequence[str]) -> None:
    """Raise what the shell would say of `command`, before a run folder is made for it."""
    name = command[0]
    if shutil.which(name) is not None:
        return
    if os.path.dirname(name) and os.path.exists(name):
        reason = "it is a folder" if os.path.isdir(name) else "it is not executable"
        raise NotExecutableError(
            f"cannot execute {name}: {reason}",
            hint="make it executable (chmod +x) or name its interpreter: -- python " + name,
        )
    raise NotFoundError(
        f"command not found: {name}", hint="check its spelling and PATH; the command follows --"
    )


def start(
    command: Sequence[str], environment: Mapping[str, str], *, output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start the command as a child that shares our stdin, stdout, stderr and terminal.

    With `output`, stdout and stderr go there and stdin is empty: nobody watches the command.

    From here until `wait` returns, the signals to pass on are blocked in this process: they stay
    pending, so that none is lost between the start and the wait.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled())
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=None if output is None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            close_fds=False,
            preexec_fn=lambda: _unblock(mask),  # noqa: PLW1509  (no other thread runs yet)
        )
    except PermissionError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise NotExecutableError(f"cannot execute {command[0]}: {error.strerror}") from error
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise NotExecutableError(
            f"cannot execute {command[0]}: {error.strerror}",
            hint="a script needs a first line such as #!/bin/sh",
        ) from error


def _unblock(mask: set[int | signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _handled() -> set[signal.Signals]:
    """What we wait for: the child's end, and every forwarded signal that is not ignored."""
    heard = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}
    return heard | {signal.SIGCHLD}


@dataclass(frozen=True)
class Waited:
    """How the wait for a child ended. `returncode` is minus the signal where one killed it."""

    returncode: int
    timed_out: bool
    interrupted: bool  # we were asked to end while we waited


def wait(process: subprocess.Popen[bytes], *, seconds: float | None = None) -> Waited:
    """Wait for the child; after `seconds` it and everything it started are ended."""
    handled = _handled()
    deadline = None if seconds is None else time.monotonic() + seconds
    timed_out = interrupted = False
    strays: list[int] = []
    with _caught(handled, strays.append):
        try:
            while process.poll() is None:
                if deadline is not None and time.monotonic() >= deadline:
                    timed_out = True
                    stop_tree(process)
                    break
                number, by_hand = _next(handled, strays)
                interrupted |= number in ENDING
                if number is not None and by_hand:
                    process.send_signal(number)
        finally:
            _drop_pending(handled)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
    return Waited(process.returncode, timed_out, interrupted)


def _next(handled: set[signal.Signals], strays: list[int]) -> tuple[int | None, bool]:
    """Return a signal to pass on, or None after a while, and whether the command lacks it."""
    if strays:
        number = strays.pop(0)
        return number, not _typed(number)
    received = signal.sigtimedwait(handled, 0.5)
    if received is None or received.si_signo == signal.SIGCHLD:
        return None, False
    return received.si_signo, received.si_code != SENT_BY_KERNEL


@contextmanager
def _caught(handled: set[signal.Signals], hear: Callable[[int], None]) -> Iterator[None]:
    """Hear of signals that reach another thread than ours.

    Libraries start threads that block nothing (polars, OpenBLAS). While we do not wait, the kernel
    gives a signal for the process to one of them, and its default action would end us and leave
    the command alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = handled - {signal.SIGCHLD}
    before = {n: signal.signal(n, lambda number, _: hear(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _typed(number: int) -> bool:
    """Whether a signal may come from a key at our terminal, whose command has it already."""
    if number not in {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}:
        return False
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _drop_pending(handled: set[signal.Signals]) -> None:
    """Forget signals meant for a child that has ended, so that they do not end us instead."""
    while signal.sigtimedwait(handled, 0) is not None:
        pass
