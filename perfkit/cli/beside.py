"""What other commands left beside a run, as sections of its report."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from perfkit.cli import console

if TYPE_CHECKING:
    from perfkit.report.model import Section


def sections(run: Path) -> "tuple[Section, ...]":
    """Return the sections of the search, scaling series and fault run that `run` belongs to.

    They lie in the run's folder or in the one around it. A file that cannot be read costs a line.
    """
    from perfkit.analyzers.faults_result import Faults
    from perfkit.analyzers.scaling_result import Scaling
    from perfkit.recipes.ledger import Optimization
    from perfkit.report import faults_page, optimize_page, scaling_page

    found: list[Section] = []
    for search in _read(run, "optimize.json", Optimization):
        found += optimize_page.sections(search)
    for scaling in _read(run, "scale.json", Scaling):
        found += scaling_page.page(scaling).sections
    for faults in _read(run, "faults.json", Faults):
        found += faults_page.sections(faults)
    return tuple(found)


def run_of(path: Path) -> Path:
    """Return the run that a folder stands for: of a search, the one that it diagnosed last."""
    from perfkit.recipes.ledger import Optimization

    if (path / "nodes").is_dir() or not (path / "optimize.json").is_file():
        return path
    for search in _read(path, "optimize.json", Optimization):
        for last in search.diagnosed[-1:]:
            return path / str(last.trial)
    return path


def _read(run: Path, name: str, kind: Any) -> Iterator[Any]:
    file = next((p for p in (run / name, run.resolve().parent / name) if p.is_file()), None)
    if file is None:
        return
    try:
        yield msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        console.say(f"{console.shown(file)} is left out of the report: {error}")
