"""Opens an Nsight Systems SQLite export and hands out its columns; every one may be missing.

Nsight creates tables and columns lazily and changes them from release to release, so each query
names what it would like and gets a default for what is not there. Values are cast, names are read
as bytes: a file may hold anything.
"""

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfkit.errors import InputError
from perfkit.trace.model import I64, NONE
from perfkit.trace.source import GZIP_MAGIC, Source

SQLITE_MAGIC = b"SQLite format 3\x00"
ROWS_AT_ONCE = 100_000
HINT = "export the report again: nsys export --type sqlite REPORT.nsys-rep"

MARKS = ("StringIds", "CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME")
"""Tables of which every Nsight export has one; a database without them is another program's."""


_BROKEN = (sqlite3.Error, OverflowError, UnicodeDecodeError)
"""What reading a damaged file raises; the last where SQLite's message quotes the file's bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """An open export; `columns` maps each table to its columns."""

    path: Path
    connection: sqlite3.Connection
    columns: Mapping[str, frozenset[str]]

    def has(self, table: str, *columns: str) -> bool:
        """Whether a table exists and has all these columns."""
        return table in self.columns and self.columns[table].issuperset(columns)

    def count(self, table: str) -> int:
        """Return the rows of a table, 0 without it."""
        if table not in self.columns:
            return 0
        return int(self._rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    def integers(
        self, table: str, columns: Sequence[str], where: str = "", given: Sequence[int] = ()
    ) -> I64:
        """Return integer columns of a table, shape (rows, columns); NONE for what is missing.

        `where` is a condition of ours, never text from a file; `given` are its parameters.
        """
        parts = [np.zeros((0, len(columns)), np.int64)]
        chosen = [self._integer(table, column) for column in columns]
        parts += [np.array(rows, np.int64) for rows in self._batches(table, chosen, where, given)]
        return np.concatenate(parts)

    def texts(self, table: str, columns: Sequence[str], where: str = "") -> list[tuple[str, ...]]:
        """Return text columns of a table, "" for what is missing."""
        chosen = [self._blob(table, column) for column in columns]
        return [
            tuple(map(_text, row)) for rows in self._batches(table, chosen, where) for row in rows
        ]

    def with_text(
        self,
        table: str,
        columns: Sequence[str],
        text: str,
        where: str = "",
        given: Sequence[int] = (),
    ) -> tuple[I64, list[str]]:
        """Return integer columns and, of the same rows, one text column."""
        numbers, words = self.with_bytes(table, columns, text, where, given)
        return numbers, [_text(word) for word in words]

    def with_bytes(
        self,
        table: str,
        columns: Sequence[str],
        blob: str,
        where: str = "",
        given: Sequence[int] = (),
    ) -> tuple[I64, list[bytes]]:
        """Return integer columns and, of the same rows, one column as it is stored."""
        chosen = [*(self._integer(table, column) for column in columns), self._blob(table, blob)]
        parts = [np.zeros((0, len(columns)), np.int64)]
        stored: list[bytes] = []
        for rows in self._batches(table, chosen, where, given):
            parts.append(np.array([row[:-1] for row in rows], np.int64))
            stored += [row[-1] or b"" for row in rows]
        return np.concatenate(parts), stored

    def names(self, ids: I64) -> dict[int, str]:
        """Return the strings that StringIds holds for `ids`; those it lacks are left out."""
        wanted = set(np.unique(ids[ids != NONE]).tolist())
        if not wanted or not self.has("StringIds", "id", "value"):
            return {}
        found: dict[int, str] = {}
        listed = sorted(wanted)
        for begin in range(0, len(listed), 500):
            some = listed[begin : begin + 500]
            query = (
                "SELECT CAST(id AS INTEGER), CAST(value AS BLOB) FROM StringIds "
                f"WHERE id IN ({', '.join('?' * len(some))})"
            )
            found |= {int(i): _text(value) for i, value in self._rows(query, some)}
        return found

    def _integer(self, table: str, column: str) -> str:
        if not self.has(table, column):
            return str(NONE)
        return f'COALESCE(CAST("{column}" AS INTEGER), {NONE})'

    def _blob(self, table: str, column: str) -> str:
        return f'CAST("{column}" AS BLOB)' if self.has(table, column) else "''"

    def _batches(
        self, table: str, chosen: Sequence[str], where: str = "", given: Sequence[int] = ()
    ) -> Iterator[list[tuple[Any, ...]]]:
        if table not in self.columns:
            return
        query = f"SELECT {', '.join(chosen)} FROM {table}" + (f" WHERE {where}" if where else "")
        with self._explained():
            cursor = self.connection.execute(query, tuple(given))
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield rows

    def _rows(self, query: str, given: Sequence[int] = ()) -> list[tuple[Any, ...]]:
        with self._explained():
            return self.connection.execute(query, tuple(given)).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            raise _damaged(self.path, error) from error


def _text(value: object) -> str:
    """Return a name as text; bytes that are no UTF-8 become the replacement character."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def is_sqlite(path: Path) -> bool:
    """Whether a file, packed by gzip or not, begins as SQLite's do. Raises InputError."""
    return next(Source(path).chunks(64 << 10), b"").startswith(SQLITE_MAGIC)


@contextmanager
def open_export(path: Path) -> Iterator[Export]:
    """Open an export for reading; a packed one is unpacked into a temporary file first.

    Raises InputError if it cannot be read, is damaged or is not Nsight's.
    """
    with _unpacked(path) as plain:
        try:
            connection = sqlite3.connect(
                plain.absolute().as_uri() + "?mode=ro&immutable=1", uri=True
            )
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot be opened: {error}", hint=HINT) from error
        try:
            connection.text_factory = bytes
            connection.execute("PRAGMA trusted_schema = OFF")
            export = Export(path, connection, _schema(path, connection))
            if not any(mark in export.columns for mark in MARKS):
                raise InputError(
                    f"{path}: an SQLite database, but not one that Nsight Systems exported",
                    hint="give the output of nsys export --type sqlite, or a Kineto trace",
                )
            yield export
        finally:
            connection.close()


def _schema(path: Path, connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the columns of every real table: a view could compute for ever."""
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        ).fetchall()
        named = [_text(name) for (name,) in tables]
        return {
            name: frozenset(
                _text(row[1]) for row in connection.execute(f'PRAGMA table_info("{name}")')
            )
            for name in named
            if _plain(name)
        }
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    """Say in one line what SQLite said, which may quote the file."""
    words = "".join(c if c.isprintable() else " " for c in str(error))
    return InputError(f"{path}: a damaged SQLite file: {' '.join(words.split())}", hint=HINT)


def _plain(name: str) -> bool:
    return name.isascii() and name.isidentifier()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    source = Source(path)
    chunks = source.chunks()
    first = next(chunks, b"")
    if not first.startswith(SQLITE_MAGIC) or not _is_gzip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="perfkit-") as folder:
        plain = Path(folder) / "export.sqlite"
        try:
            with plain.open("wb") as file:
                file.write(first)
                file.writelines(chunks)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be unpacked into {folder}: {error.strerror}",
                hint="free some space there, or unpack it yourself (gunzip)",
            ) from error
        if source.torn:
            raise InputError(f"{path}: a gzip file that is cut off", hint="copy the file again")
        yield plain


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC
