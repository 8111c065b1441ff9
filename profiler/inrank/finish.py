"""How a rank ends: whatever the way, its window is saved and its last record written.

| way                        | what saves it                                              |
|----------------------------|------------------------------------------------------------|
| normal exit, sys.exit      | atexit                                                     |
| uncaught exception         | sys.excepthook notes it, atexit saves                      |
| os._exit                   | a wrapper around it                                        |
| SIGTERM                    | a handler, if the program has none: save, then die of it   |
| SIGTERM, SIGINT in C code  | a thread that the signal wakes, as no handler can run then |
| SIGKILL                    | nothing; every step line is on disk already                |
| a trial's step limit       | `stop_here`, after all ranks have come so far              |

After a signal the default action is restored and the signal sent again, so that the launcher
sees the death that it would have seen without us.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from .out_of_memory import is_out_of_memory
from .rank import Rank
from .secrets import redact_text

STOPPED = "stopped_by_perfkit"
REST_S = 0.05  # for gloo's threads: an exit under them can reset a peer's connection
GRACE_S = 1.0  # how long the main thread may take to notice a signal itself


class Ending:
    """What is known of the end of this process, and what it replaced to learn of it."""

    def __init__(self) -> None:
        self.rank: Rank | None = None
        self.lock = threading.RLock()
        self.saving = False
        self.signalled = 0  # a signal that came while the end was being saved
        self.how: str | None = None
        self.status: int | None = None
        self.os_exit = os._exit
        self.sys_exit = sys.exit
        self.excepthook = sys.excepthook
        self.wakeup_fds: tuple[int, ...] = ()


ending = Ending()


def watch(rank: Rank) -> None:
    """At activation: be told of every way in which this process can end."""
    ending.__init__()  # type: ignore[misc]
    ending.rank = rank
    rank.at_limit = stop_here
    atexit.register(_at_exit)
    sys.excepthook = _on_exception
    os._exit = _on_os_exit  # type: ignore[assignment]
    sys.exit = _on_sys_exit  # type: ignore[assignment]
    if threading.current_thread() is threading.main_thread():
        _watch_signals()


def end(how: str, status: int | None) -> None:
    """Save everything, once: a second caller and a signal wait until that is done."""
    rank = ending.rank
    if rank is None or rank.who.pid != os.getpid():
        return
    with ending.lock:
        ending.saving = True
        try:
            rank.end(how, status)
        except Exception as error:  # the process is ending: note it and let it end
            rank.warn(f"the end was not recorded: {error!r}")
        finally:
            ending.saving = False
    if ending.signalled:
        die_of(ending.signalled)


def stop_here() -> None:
    """End a trial that has made its steps, as a success, with all ranks at the same step."""
    try:
        _await_others()
    except Exception as error:  # a peer that is gone: this rank has made its steps all the same
        if ending.rank is not None:
            ending.rank.warn(f"the ranks did not stop together: {error!r}")
    end(STOPPED, 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    ending.os_exit(0)


def _await_others() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        time.sleep(REST_S)


def _at_exit() -> None:
    if ending.how is None and getattr(sys, "last_value", None) is not None:
        ending.how, ending.status = "exception", 1  # seen by an excepthook that replaced ours
    end(ending.how or "exit", ending.status)


def _on_exception(kind: Any, value: Any, traceback: Any) -> None:
    ending.how, ending.status = "exception", 1
    rank = ending.rank
    if rank is not None:
        with suppress(OSError):
            text = redact_text(str(value)[:1000])
            fields = {"oom": True} if is_out_of_memory(value) else {}
            rank.stream.record("exception", type=kind.__name__, text=text, **fields)
    ending.excepthook(kind, value, traceback)


def _on_os_exit(status: int) -> None:
    end("os._exit", status)
    ending.os_exit(status)


def _on_sys_exit(status: Any = None) -> None:
    ending.status = status if isinstance(status, int) else int(status is not None)
    ending.sys_exit(status)


def _watch_signals() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_signal)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    others = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if others != -1:  # somebody's event loop listens already: leave it alone
        signal.set_wakeup_fd(others)
        os.close(reader)
        os.close(writer)
        return
    ending.wakeup_fds = (reader, writer)
    threading.Thread(target=_wait, args=(reader,), name="perfkit-signals", daemon=True).start()


def _on_signal(number: int, frame: FrameType | None) -> None:
    rank = ending.rank
    if rank is not None and rank.window.busy:
        rank.window.interrupted_by = number  # the profiler is being stopped or saved: afterwards
        return
    if ending.saving:
        ending.signalled = number
        return
    end(f"signal:{number}", None)
    die_of(number)


def die_of(number: int) -> None:
    """Restore the signal's default action, from any thread, and send it to this process."""
    ctypes.CDLL(None).signal(number, 0)
    os.kill(os.getpid(), number)


def _wait(reader: int) -> None:
    """Wait for signals that the main thread, busy in C code, cannot handle in time."""
    while True:
        try:
            received = os.read(reader, 64)
        except OSError:
            return
        for number in set(received) & {signal.SIGTERM, signal.SIGINT}:
            _act_if_main_is_stuck(number)


def _act_if_main_is_stuck(number: int) -> None:
    if number == signal.SIGTERM and signal.getsignal(signal.SIGTERM) is not _on_signal:
        return
    before = _where_main_is()
    time.sleep(GRACE_S)
    rank = ending.rank
    if rank is None or rank.ended or rank.window.busy or _where_main_is() != before:
        return
    if number == signal.SIGINT:
        # KeyboardInterrupt is still to come, and ends the process as it would have without us.
        rank.window.finish(unfinished=True)
        return
    end(f"signal:{number}", None)
    die_of(number)


def _where_main_is() -> tuple[int, int]:
    """The frame and instruction of the main thread: the same twice if it is stuck in a call."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return (id(frame), frame.f_lasti) if frame is not None else (0, 0)


def unwatch() -> None:
    """Undo `watch`, in the child after a fork."""
    if ending.rank is None:
        return
    os._exit, sys.exit = ending.os_exit, ending.sys_exit
    sys.excepthook = ending.excepthook
    atexit.unregister(_at_exit)
    if signal.getsignal(signal.SIGTERM) is _on_signal:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if ending.wakeup_fds:
        signal.set_wakeup_fd(-1)
        for fd in ending.wakeup_fds:
            os.close(fd)
    ending.__init__()  # type: ignore[misc]
