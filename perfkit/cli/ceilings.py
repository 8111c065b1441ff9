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
    perfkit ceilings. Leave the machine idle meanwhile. Example: perfkit ceilings
    --ranks 2 --out ceilings.json
    """
    from perfkit.cli import results
    from perfkit.profiler.measure import children
    from perfkit.roofline import ceilings

    rank = int(os.environ.get("RANK", "0")) if _under_launcher() else 0
    _check_writable(out)
    sweeps = _collectives(ranks, quick=quick)
    if rank != 0:
        return
    with console.progress("measuring this machine"):
        machine = children.measure_machine(_scratch(out), quick=quick)
    found = _compose(machine, sweeps)
    content = ceilings.encode(found)
    results.write(out, content)
    if as_json:
        sys.stdout.buffer.write(content)
        return
    from perfkit.report import roofline_text

    console.tell(roofline_text.ceilings(found))
    console.suggest(f"perfkit roofline RUN --ceilings {out}")


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


def _check_writable(out: Path) -> None:
    """Refuse before minutes of measuring a file that cannot be written after them."""
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
