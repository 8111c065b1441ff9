"""Work in processes: in order, and ended cleanly by errors, interruptions and killed workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfkit.analyzers.workers import map_in_processes
from perfkit.errors import InputError


def slow_square(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number * number


def fail_on_two(number: int) -> int:
    if number == 2:
        raise InputError("two")
    return number


def die_on_two(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_keep_the_order_of_the_items() -> None:
    assert list(map_in_processes(slow_square, range(6), jobs=2)) == [0, 1, 4, 9, 16, 25]
    assert list(map_in_processes(slow_square, [], jobs=2)) == []


def test_an_error_of_the_function_is_passed_on() -> None:
    with pytest.raises(InputError, match="two"):
        list(map_in_processes(fail_on_two, range(4), jobs=2))


def test_a_killed_worker_is_told_as_what_it_most_likely_is() -> None:
    with pytest.raises(InputError, match="lack of memory"):
        list(map_in_processes(die_on_two, range(4), jobs=2))


INTERRUPTED = """
import sys, time
from perfkit.analyzers.workers import map_in_processes

def main():
    try:
        for value in map_in_processes(time.sleep, [float(s) for s in sys.argv[1:]], jobs=2):
            print("one", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)

if __name__ == "__main__":
    main()
"""


def test_ctrl_c_ends_the_workers_at_once_and_without_a_word_from_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), "0", "600", "600", "600"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=250)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
