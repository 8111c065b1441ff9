"""Writes a run as tables for analysts: events, steps and collectives, as Parquet or CSV.

A CSV cell that a spreadsheet would take for a formula is marked as text: names of events are other
people's.
"""

from pathlib import Path

import numpy as np
import polars as pl

from perfkit.trace.kinds import Kind
from perfkit.trace.model import NONE, RankTrace
from perfkit.trace.redaction import Redaction

_FORMULA = r"^[\s]*[=+\-@\t\r]"
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f]"


def event_table(trace: RankTrace, offset_ns: int, redaction: Redaction) -> pl.DataFrame:
    """Return one row per event. `launch` and `op` are rows of this table, null where unknown."""
    events = trace.events
    names = pl.Series([redaction.text(name) for name in events.names], dtype=pl.String)
    kinds = pl.Series([_kind_name(number) for number in range(256)], dtype=pl.String)
    rows = np.arange(len(events))
    return pl.DataFrame(
        {
            "rank": np.full(len(events), trace.rank, np.int32),
            "row": rows,
            "start_ns": events.start_ns + offset_ns,
            "duration_ns": events.duration_ns,
            "kind": kinds.gather(events.kind),
            "name": names.gather(events.name) if len(names) else pl.Series([], dtype=pl.String),
            "thread": events.thread,
            "device": _known(events.device),
            "correlation": _known(events.correlation),
            "launch": _known(events.launch),
            "op": _known(events.op),
            "step": _known(events.step),
            "sequence": _known(events.sequence),
            "backward": events.backward,
            "size_bytes": _known(events.size_bytes),
        }
    )


def step_table(trace: RankTrace, offset_ns: int) -> pl.DataFrame:
    """Return one row per step of the trace."""
    steps = trace.steps
    return pl.DataFrame(
        {
            "rank": np.full(len(steps.index), trace.rank, np.int32),
            "step": steps.index,
            "start_ns": steps.start_ns + offset_ns,
            "end_ns": steps.end_ns + offset_ns,
            "complete": steps.complete,
            "has_eval": steps.has_eval,
        }
    )


def collective_table(trace: RankTrace, offset_ns: int, redaction: Redaction) -> pl.DataFrame:
    """Return one row per transfer; `row` is that of the event table."""
    said, events = trace.collectives, trace.events
    groups = [redaction.text(group.name) for group in trace.groups]
    named = [groups[number] if number != NONE else None for number in said.group.tolist()]
    return pl.DataFrame(
        {
            "rank": np.full(len(said), trace.rank, np.int32),
            "row": said.event,
            "start_ns": events.start_ns[said.event] + offset_ns,
            "duration_ns": events.duration_ns[said.event],
            "op": pl.Series([name or None for name in said.op], dtype=pl.String),
            "group": pl.Series(named, dtype=pl.String),
            "sequence": _known(said.sequence),
            "dtype": pl.Series([name or None for name in said.dtype], dtype=pl.String),
            "in_elements": _known(said.in_elements),
            "out_elements": _known(said.out_elements),
            "size_bytes": _known(said.size_bytes),
            "source_rank": _known(said.source_rank),
            "target_rank": _known(said.target_rank),
        }
    )


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table in the format that the file's name ends in: .parquet or .csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.write_parquet(path, compression="zstd")
    else:
        table.with_columns(_harmless(name) for name in _text_columns(table)).write_csv(path)


def _text_columns(table: pl.DataFrame) -> list[str]:
    return [name for name, dtype in table.schema.items() if dtype == pl.String]


def _harmless(name: str) -> pl.Expr:
    """Mark cells that begin like a formula with an apostrophe, and drop control characters."""
    cell = pl.col(name).str.replace_all(_CONTROL, " ")
    return pl.when(cell.str.contains(_FORMULA)).then("'" + cell).otherwise(cell).alias(name)


def _known(column: np.ndarray[tuple[int], np.dtype[np.signedinteger]]) -> pl.Series:
    """Return a column with nulls for what is not known."""
    series = pl.Series(column)
    return series.set(series == NONE, None)


def _kind_name(number: int) -> str:
    return Kind(number).name.lower() if number in set(Kind) else ""
