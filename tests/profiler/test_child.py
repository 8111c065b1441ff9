"""Signals reach the command, whichever of perfkit's threads the kernel gives them to."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading, time
from perfkit.profiler import child

stray = threading.Thread(target=time.sleep, args=(60,), daemon=True)  # it blocks no signal
stray.start()
process = child.start(["sleep", "60"], os.environ)
number = int(sys.argv[1])
threading.Timer(0.3, lambda: signal.pthread_kill(stray.ident, number)).start()
print(child.wait(process))
print(signal.getsignal(signal.SIGTERM).name, signal.getsignal(signal.SIGINT).__name__)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_that_reaches_a_librarys_thread_is_passed_on(number: signal.Signals) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,  # no terminal of the tester's
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    waited, handlers = ended.stdout.splitlines()
    interrupted = number != signal.SIGUSR1
    assert (
        waited == f"Waited(returncode=-{int(number)}, timed_out=False, interrupted={interrupted})"
    )
    assert handlers == "SIG_DFL default_int_handler"  # as they were
