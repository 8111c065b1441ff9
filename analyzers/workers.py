"""A function over many ranks at once, in processes that end cleanly whatever happens.

Ctrl-C reaches every process of a terminal: only the parent acts on it, and ends the workers at
once, without a traceback from each.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from perfkit.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed in at most `jobs` processes.

    Function, items and results must pickle. Raises InputError if a process was killed, and whatever
    the function raises.
    """
    before = set(active_children())
    pool = ProcessPoolExecutor(max(1, min(jobs, len(items))), get_context("spawn"))
    done = False
    try:
        with _interrupts_held():  # workers inherit this, and keep it
            futures = [pool.submit(function, item) for item in items]
        for future in futures:
            yield future.result()
        done = True
    except BrokenProcessPool as error:
        raise InputError(
            "a process that was reading a trace was killed, most likely for lack of memory",
            hint="read one rank at a time: taskset -c 0 perfkit analyze ...",
        ) from error
    finally:
        if not done:
            for worker in set(active_children()) - before:
                worker.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back in this thread and in what it starts; it is delivered here afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
