"""The form that every reader brings its events into before they become the event table."""

from dataclasses import dataclass

from perfkit.trace.model import I16, I32, I64, Bool, OpShape

READER_VERSION = 5
"""Part of the cache key: raise it whenever the same file would be read differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """All events of one rank in one file, in file order; every array has shape (n,).

    Times are nanoseconds before the base is added. `category` and `name` index the tuples;
    categories are spelled as Kineto spells them, whatever the file (see event_names).
    """

    start_ns: I64
    duration_ns: I64
    category: I32
    name: I32
    process: I64
    thread: I64
    external: I64
    correlation: I64
    device: I16
    stream: I64
    size_bytes: I64
    sequence: I64
    forward: Bool  # the op names the thread of its forward op: it runs backward
    shape: I32
    finished: Bool
    categories: tuple[str, ...]
    names: tuple[str, ...]
    shapes: tuple[OpShape, ...]
