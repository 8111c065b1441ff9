"""Keeps large results of a rank out of memory until they are asked for.

Thousands of ranks fit if only what is small of each stays in memory: steps, calls, sums. What grows
with a rank's events lies in a file (here) or in a cluster's object store (ray_engine) and is loaded
one rank at a time.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")
Result_co = TypeVar("Result_co", covariant=True)

RANKS_IN_MEMORY = 32
"""So many ranks' details are kept in memory: they are at most a few MB each."""


class Kept(Protocol[Result_co]):
    """A value, wherever it is."""

    def get(self) -> Result_co:
        """Return the value, loading it if need be."""


@dataclass(frozen=True, slots=True)
class InMemory(Generic[Value]):
    """A value that is small, or one of few."""

    value: Value

    def get(self) -> Value:
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class OnDisk(Generic[Value]):
    """A value in a file that this program wrote."""

    path: Path

    def get(self) -> Value:
        """Load the value."""
        value: Value = pickle.loads(self.path.read_bytes())
        return value


@dataclass(frozen=True, slots=True)
class Shelf:
    """A place for values. `folder` is None: they stay in memory."""

    folder: Path | None = None

    def keep(self, name: str, value: Value) -> Kept[Value]:
        """Put a value down under a name of its own."""
        if self.folder is None:
            return InMemory(value)
        path = self.folder / name
        path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return OnDisk(path)


@contextmanager
def shelf_for(ranks: int) -> Iterator[Shelf]:
    """Open a shelf for as many ranks: in memory if they are few, else a folder for the time."""
    if ranks <= RANKS_IN_MEMORY:
        yield Shelf()
        return
    with TemporaryDirectory(prefix="perfkit-") as folder:
        yield Shelf(Path(folder))
