"""Takes out of an Nsight export what must not be recorded: the environment of the machine.

Nsight writes whole environments, keys included, into three tables. What the allow-list of
inrank/secrets.py lets through stays, for it names the rank; everything else of them goes.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from perfkit.profiler.inrank.secrets import allowed_environment

SEPARATORS = re.compile(rb"[\0;\n]")
ENTRY = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*=")
MANY = 4  # NAME=value entries in one text: that is an environment, not a name
ENVIRONMENT = b"ENVIRONMENT"  # PROCESS_0:ENVIRONMENT_VARIABLE, DeviceEnvironment


class ScrubError(Exception):
    """The export could not be changed."""


def scrub(export: Path) -> None:
    """Rewrite the export without the environments it holds. Raises ScrubError."""
    try:
        with closing(sqlite3.connect(export)) as database:
            database.text_factory = bytes
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name.decode("utf-8", "replace") for (name,) in rows}
            for table in sorted(tables & {"META_DATA_CAPTURE", "TARGET_INFO_SYSTEM_ENV"}):
                _clean(database, table, "name", named=True)
            if "StringIds" in tables:
                _clean(database, "StringIds", "id", named=False)
            database.commit()
            database.execute("VACUUM")  # what was replaced is gone from the file
    except sqlite3.Error as error:
        raise ScrubError(str(error)) from error


def _clean(database: sqlite3.Connection, table: str, key: str, *, named: bool) -> None:
    """Replace the values of a table that are environments, or one variable of one."""
    rows = database.execute(f"SELECT rowid, {key}, value FROM {table}").fetchall()
    for row, name, value in rows:
        if not isinstance(value, bytes):
            continue
        is_variable = named and isinstance(name, bytes) and ENVIRONMENT in name.upper()
        if is_variable or _is_environment(value):
            cleaned = _cleaned(value)
            database.execute(f"UPDATE {table} SET value = ? WHERE rowid = ?", (cleaned, row))


def _is_environment(value: bytes) -> bool:
    entries = SEPARATORS.split(value)
    return len(entries) >= MANY and sum(bool(ENTRY.match(e)) for e in entries) >= MANY


def _cleaned(value: bytes) -> str:
    """The entries that may be recorded, separated as Nsight separates them in this table."""
    entries = [e.decode("utf-8", "replace") for e in SEPARATORS.split(value)]
    variables = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    quoted = {name: text.strip('"') for name, text in variables.items()}
    return ";".join(f'{k}="{v}"' for k, v in allowed_environment(quoted).items())
