"""Runs the corpus and keeps one line of JSON per run, so that a broken run is taken up again.

    python -m tests.corpus.run synthetic|tuning|real RESULTS

The file is begun anew when perfkit's analyzers or this part's generator have changed: its first
line holds their digest. A real run in which other processes took more than 5 % of a rank's time is
kept as set aside, and done again next time.
docs/accuracy.md is written from it by `python -m tests.corpus.document`.
"""

import argparse
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from perfkit.analyzers.analysis import analyze
from tests.corpus.judge import Outcome, outcome_of
from tests.corpus.real import ENDED, REAL_MIXTURES, RECIPES, ranks_of, real_case, real_name
from tests.corpus.scenario import MIXTURES, STRENGTHS, SYNTHETIC, scenario
from tests.corpus.simulate import Play
from tests.corpus.synthetic import capture, truth_of

ROOT = Path(__file__).parent.parent.parent
FAULT_FREE = 300
TRAININGS_A_CASE = 12
PUBLISHED, TUNING = 101, 100
"""First seeds: odd ones are published and never looked at before, even ones are for tuning."""
REAL_FAULT_FREE = 60
REAL_SEEDS = 3
Case = tuple[int, tuple[str, ...], str]


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """What a file of results is of: which code, when, and how busy the machine was."""

    digest: str
    started_utc: str
    load: float  # mean number of running processes in the minute before
    cores: int


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A real run that gave nothing to judge: the machine was busy, or the training failed."""

    run: str
    why: str


Kept = TypeVar("Kept", Outcome, SetAside)


def synthetic_cases(first: int = PUBLISHED) -> Iterator[Case]:
    """Yield all cases, each on a training of its own: seeds first, first + 2, ..."""
    seeds = count(first, 2)
    for causes in [*((c,) for c in SYNTHETIC), *MIXTURES]:
        for strength in STRENGTHS:
            for _ in range(TRAININGS_A_CASE):
                yield next(seeds), causes, strength
    for _ in range(FAULT_FREE):
        yield next(seeds), (), "medium"


def real_cases() -> Iterator[tuple[tuple[str, ...], str, int, int]]:
    """Yield causes, strength, seed and ranks of every real run: fault-free ones, then faults.

    Each fault comes once before any comes again, in a drawn order: what a broken series holds is a
    sample of all.
    """
    for fault_free in range(REAL_FAULT_FREE):
        yield (), "none", fault_free, (2, 4)[fault_free % 2]
    for number in range(REAL_SEEDS):
        found = [
            (causes, strength, number, ranks)
            for causes in [*((c,) for c in RECIPES), *REAL_MIXTURES]
            for strength in STRENGTHS
            for ranks in ranks_of(causes)
        ]
        yield from random.Random(number).sample(found, len(found))


def name_of(case: Case) -> str:
    """Return the name under which a synthetic case is kept."""
    seed, causes, strength = case
    return f"{'+'.join(causes) or 'none'} {strength} {seed}"


def judge_synthetic(case: Case) -> Outcome:
    """Make one run up, analyse it and judge it."""
    seed, causes, strength = case
    made = scenario(seed, causes, strength)
    played = Play(made)
    truth = truth_of(made, played)
    return outcome_of(
        analyze(*capture(made, played)),
        name=name_of(case),
        kind="synthetic",
        seed=seed,
        causes=causes,
        strength=strength,
        injected_ms=truth.injected_ms,
        step_ms=truth.step_ms,
        rank=truth.rank,
        costs={family: ms / truth.step_ms for family, ms in truth.costs_ms.items()},
        elastic=max(truth.elasticity, key=lambda family: truth.elasticity[family]),
    )


SHARED = ("judge.py", "run.py", "scenario.py")
PARTS = {"synthetic": ("simulate.py", "synthetic.py"), "real": ("real.py",)}


def digest(part: str) -> str:
    """Return what the results depend on: the analyzers and this part of the corpus."""
    files = [*sorted((ROOT / "analyzers").glob("*.py"))]
    files += [ROOT / "tests" / "corpus" / name for name in (*SHARED, *PARTS[part])]
    if part == "real":
        files += [ROOT / "tests" / "truth" / name for name in ("harness.py", "workload.py")]
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def read(file: Path) -> tuple[Head | None, list[Outcome]]:
    """Read a file of results; a line cut short by a kill is left out."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    head = msgspec.json.decode(lines[0], type=Head) if lines else None
    return head, [o for line in lines[1:] if (o := _decoded(line, Outcome)) is not None]


def read_set_aside(file: Path) -> list[SetAside]:
    """Return the real runs that gave nothing to judge, in the order in which they were tried."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [s for line in lines[1:] if (s := _decoded(line, SetAside)) is not None]


def _decoded(line: bytes, kind: type[Kept]) -> Kept | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError:
        return None


def begin(file: Path, part: str) -> set[str]:
    """Return the names of the runs that are done; begin anew if the code has changed."""
    head, outcomes = read(file)
    if head is not None and head.digest == digest(part):
        return {outcome.name for outcome in outcomes}
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = Head(
        digest=digest(part), started_utc=now, load=os.getloadavg()[0], cores=os.cpu_count() or 1
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(head) + b"\n")
    return set()


def run_synthetic(file: Path, jobs: int | None, first: int) -> None:
    """Judge what is missing of the synthetic part, whose seeds begin with `first`."""
    done = begin(file, "synthetic")
    missing = [case for case in synthetic_cases(first) if name_of(case) not in done]
    with ProcessPoolExecutor(jobs) as pool, file.open("ab") as stream:
        for outcome in pool.map(judge_synthetic, missing, chunksize=4):
            stream.write(msgspec.json.encode(outcome) + b"\n")
            stream.flush()


def run_real(file: Path, limit: int, only: str, keep: Path | None) -> None:
    """Judge what is missing of the real part, one run at a time, at most `limit` runs now.

    only: a part of the names of the runs that are wanted. keep: where their folders stay, so that
    they are judged again, not run again, when the analyzers have changed.
    """
    done = begin(file, "real")
    missing = [c for c in real_cases() if (n := real_name(*c)) not in done and only in n]
    with file.open("ab") as stream:
        for case in missing[:limit]:
            with _folder(keep, real_name(*case)) as folder:
                found = real_case(folder, *case)
            if isinstance(found, str):
                sys.stderr.write(f"{real_name(*case)}: {found}\n")
            aside = SetAside(run=real_name(*case), why=found) if isinstance(found, str) else found
            stream.write(msgspec.json.encode(aside) + b"\n")
            stream.flush()


@contextmanager
def _folder(keep: Path | None, name: str) -> Iterator[Path]:
    """Give the folder of one run: one that stays if there is `keep`."""
    if keep is None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as passing:
            yield Path(passing)
    else:
        folder = keep / name.replace(" ", "-")
        if not (folder / ENDED).exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("synthetic", "tuning", "real"))
    parser.add_argument("results", type=Path)
    parser.add_argument("--limit", type=int, default=1_000_000, help="real runs at most")
    parser.add_argument("--only", default="", help="a part of the names of the real runs to do")
    parser.add_argument("--keep", type=Path, help="where the real runs' folders stay")
    parser.add_argument("--jobs", type=int, help="synthetic runs at once; default: the cores")
    args = parser.parse_args()
    if args.part == "real":
        run_real(args.results, args.limit, args.only, args.keep)
    else:
        run_synthetic(args.results, args.jobs, TUNING if args.part == "tuning" else PUBLISHED)


if __name__ == "__main__":
    main()
