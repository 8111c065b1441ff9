"""`perfkit ceilings`: what this machine can do at most, measured."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from perfkit.cli import console
from perfkit.errors import UsageError

DEFAULT_FILE = Path("ceilings.json")
MOST_RANKS, MOST_RANKS_EACH = 16, 4
"""Processes at most, in all and for each processor: each takes a few hundred megabytes."""


def command(
    ranks: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Measure collectives too, between N processes.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Measure a CPU with so many threads, as the ranks of a run compute with.",
            show_default="torch's own number, and 1",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take a minute instead of several: smaller, fewer.")
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the ceilings go.")
    ] = DEFAULT_FILE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the file's content on stdout too.")
    ] = False,
) -> None:
    """Measure this machine: matrix products, memory, launches, host links, storage, collectives.

    Every operator of a run is then held against what was measured here: perfkit roofline RUN
    --ceilings FILE. Between nodes, start it on all of them: torchrun --nnodes=2 ... --no-python
    perfkit ceilings. A rank's operators are held against as many threads as it computed with;
    torchrun gives each of several ranks one. Leave the machine idle meanwhile. Example: perfkit
    ceilings --ranks 2 --out ceilings.json
    """
    from perfkit.cli import results
    from perfkit.roofline import ceilings

    rank = int(os.environ.get("RANK", "0")) if _under_launcher() else 0
    counts = _counts(threads)
    _check_ranks(ranks)
    _check_writable(out)
    sweeps = _collectives(ranks, quick=quick)
    if rank != 0:
        return
    found = _compose(_measured(counts, _scratch(out), quick=quick), sweeps)
    content = ceilings.encode(found)
    results.write(out, content)
    if as_json:
        sys.stdout.buffer.write(content)
        return
    from perfkit.report import roofline_text

    console.tell(roofline_text.ceilings(found))
    console.suggest(f"perfkit roofline RUN --ceilings {out}")


def _counts(given: str | None) -> list[int]:
    """Return the numbers of threads that --threads names, none where it is not given."""
    if given is None:
        return []
    counts = [int(word) if word.strip().isdecimal() else 0 for word in given.split(",")]
    if min(counts) < 1 or len(set(counts)) != len(counts):
        raise UsageError(
            f"--threads {given}: not a list of different numbers of threads",
            hint="for example --threads 1 or --threads 1,4",
        )
    most = len(os.sched_getaffinity(0))
    if max(counts) > most:
        raise UsageError(
            f"--threads {max(counts)}: this process may use {most} processors",
            hint=f"measure on the machine of the run, or give at most {most}",
        )
    return counts


def _measured(counts: list[int], folder: Path, *, quick: bool) -> dict[str, Any]:
    """Measure the machine, a CPU with each of these numbers of threads; none: torch's own, and 1.

    A number that the user's OMP_NUM_THREADS or a launcher has settled stays the only one.
    """
    from perfkit.profiler.measure import children

    first, others = counts[0] if counts else None, counts[1:]
    with console.progress("measuring this machine") as show:

        def tell(quantity: str, _: float) -> None:
            show(f"measuring this machine: {quantity} done")

        found = children.measure_machine(folder, quick=quick, threads=first, progress=tell)
    own = found["machine"]
    settled = _under_launcher() or "OMP_NUM_THREADS" in os.environ
    if not counts and not settled and own["device_kind"] == "cpu" and own["threads"] != 1:
        others = [1]
    found["other_threads"] = []
    for count in others:
        with console.progress(f"measuring this machine with --threads {count}"):
            more = children.measure_machine(folder, quick=quick, threads=count, processor_only=True)
        said = [f"with --threads {count}: {text}" for text in more["warnings"]]
        found["warnings"] += said
        found["warnings"] += _out_of_order(found, more)
        kept = {name: more[name] for name in ("ceilings", "copy_by_working_set")}
        found["other_threads"].append({"threads": count, **kept})
    return found


def _out_of_order(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return a warning for each kind of product at which more threads reached less than fewer."""
    fewer, more = sorted((one, other), key=lambda found: int(found["machine"]["threads"]))
    few, many = fewer["machine"]["threads"], more["machine"]["threads"]
    rates = {c["precision"]: c["value"] for c in fewer["ceilings"] if c["quantity"] == "matrix"}
    return [
        f"matrix {c['precision']}: {many} threads reached less than {few}: other programs ran, or "
        "the machine has fewer processors than it shows"
        for c in more["ceilings"]
        if c["quantity"] == "matrix" and c["value"] < rates.get(c["precision"], 0.0)
    ]


def _under_launcher() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


def _collectives(ranks: int | None, *, quick: bool) -> dict[str, Any] | None:
    """Sweep collectives as a rank of a launcher's job, or between processes of this machine."""
    from perfkit.profiler.measure import children

    if _under_launcher():
        return children.join_collectives(os.environ, quick=quick)
    if ranks is None:
        return None
    with console.progress(f"measuring collectives between {ranks} processes"):
        return children.measure_collectives(ranks, quick=quick)


def _check_ranks(ranks: int | None) -> None:
    """Refuse so many processes that starting them would bring the machine down."""
    most = max(MOST_RANKS, MOST_RANKS_EACH * len(os.sched_getaffinity(0)))
    if ranks is not None and ranks > most:
        raise UsageError(
            f"--ranks {ranks}: too many processes for this machine",
            hint=f"at most {most} here; between nodes, start perfkit ceilings with torchrun",
        )


def _check_writable(out: Path) -> None:
    """Refuse before minutes of measuring a file that cannot be written after them."""
    if out.is_dir():
        raise UsageError(f"cannot write {out}: it is a folder", hint=f"--out {out / DEFAULT_FILE}")
    try:
        with tempfile.TemporaryFile(dir=out.absolute().parent):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {out}: {error.strerror}", hint="name another place with --out FILE"
        ) from None


def _scratch(out: Path) -> Path:
    """Storage is measured where the file goes: usually where data and checkpoints lie too."""
    return out.absolute().parent


def _compose(machine: dict[str, Any], sweeps: dict[str, Any] | None) -> Any:
    import msgspec

    from perfkit.roofline import ceilings
    from perfkit.roofline.sweeps import network_ceiling

    network = []
    for sweep in sweeps["sweeps"] if sweeps else ():
        points = msgspec.convert(sweep["points"], list[ceilings.CollectivePoint])
        network.append(
            network_ceiling(
                sweep["collective"],
                sweeps["backend"] if sweeps else "",
                points,
                ranks=sweeps["ranks"] if sweeps else 1,
                nodes=sweeps["nodes"] if sweeps else 1,
            )
        )
    content = {**machine, "schema_version": ceilings.SCHEMA_VERSION, "network": network}
    return msgspec.convert(content, ceilings.Ceilings)
