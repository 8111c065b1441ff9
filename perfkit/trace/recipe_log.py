"""What recipes did inside the ranks: reads recipes.jsonl of each rank's folder.

A line is one of
  {"k":"applied","recipe":ID,"setting":...,"old":...,"new":...,"step":n,"place":[file,line],"name":...}
  {"k":"refused","recipe":ID,"reason":...,"step":n}        the recipe left this rank alone
  {"k":"seen","what":...,"value":...}                      an observation of the script
The last value of a `seen` counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfkit.trace.model import Run

FILE = "recipes.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One thing that a recipe changed on one rank.

    file, line: the caller in the script. name: what the script calls the module there by.
    """

    recipe: str
    rank: int
    setting: str
    old: object
    new: object
    step: int
    file: str = ""
    line: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a recipe left a rank as it was."""

    recipe: str
    rank: int
    reason: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeLog:
    """All ranks' lines, by rank. `seen` is of the first rank that says it, True of any."""

    applied: tuple[Applied, ...]
    refused: tuple[Refused, ...]
    seen: dict[str, object]

    def took_effect(self, recipe: str) -> bool:
        """Whether the recipe changed something, and no rank refused it."""
        return any(a.recipe == recipe for a in self.applied) and not self.reasons(recipe)

    def reasons(self, recipe: str) -> tuple[str, ...]:
        """Return the distinct reasons for which ranks refused the recipe."""
        found = (r.reason for r in self.refused if r.recipe == recipe)
        return tuple(dict.fromkeys(found))


def read_log(run: Run) -> RecipeLog:
    """Return what the recipes of a run recorded; empty where there were none."""
    applied, refused, seen = [], [], dict[str, object]()
    for record in run.ranks:
        mine: dict[str, object] = {}
        for line in _lines(record.folder / FILE):
            kind = line.get("k")
            if kind == "applied":
                applied.append(_applied(line, record.rank))
            elif kind == "refused":
                refused.append(
                    Refused(
                        recipe=str(line.get("recipe")),
                        rank=record.rank,
                        reason=str(line.get("reason")),
                        step=_int(line.get("step")),
                    )
                )
            elif kind == "seen":
                mine[str(line.get("what"))] = line.get("value")
        seen = mine | seen | {what: True for what, value in mine.items() if value is True}
    return RecipeLog(applied=tuple(applied), refused=tuple(refused), seen=seen)


def _applied(line: dict[str, object], rank: int) -> Applied:
    place = line.get("place")
    file, number = place if isinstance(place, list) and len(place) == 2 else ("", 0)
    return Applied(
        recipe=str(line.get("recipe")),
        rank=rank,
        setting=str(line.get("setting")),
        old=line.get("old"),
        new=line.get("new"),
        step=_int(line.get("step")),
        file=str(file),
        line=_int(number),
        name=str(line.get("name", "")),
    )


def _lines(path: Path) -> Iterator[dict[str, object]]:
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.splitlines():
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a torn last line
        if isinstance(found, dict):
            yield found


def _int(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
