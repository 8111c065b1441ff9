"""Runs the corpus and keeps one line of JSON per run, so that a broken run is taken up again.

    python -m tests.corpus.run synthetic|real RESULTS

The file is begun anew when perfkit's analyzers or the generator have changed: its first line holds
their digest. docs/accuracy.md is written from it by `python -m tests.corpus.document`.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from perfkit.analyzers.analysis import analyze
from tests.corpus.judge import Outcome, outcome_of
from tests.corpus.real import RECIPES, real_case
from tests.corpus.scenario import MIXTURES, STRENGTHS, SYNTHETIC, scenario
from tests.corpus.simulate import Play
from tests.corpus.synthetic import capture, truth_of

ROOT = Path(__file__).parent.parent.parent
FAULT_FREE = 300
SEEDS_A_CASE = 3
REAL_FAULT_FREE = 60
REAL_SEEDS = 3
Case = tuple[int, tuple[str, ...], str]


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """What a file of results is of: which code, when, and how busy the machine was."""

    digest: str
    started_utc: str
    load: float  # mean number of running processes in the minute before
    cores: int


def synthetic_cases(parity: int = 1) -> Iterator[Case]:
    """Yield all cases: odd seeds are published, even seeds are for tuning thresholds."""
    for causes in [*((c,) for c in SYNTHETIC), *MIXTURES]:
        for strength in STRENGTHS:
            for number in range(SEEDS_A_CASE):
                yield 2 * number + parity, causes, strength
    for number in range(FAULT_FREE):
        yield 2 * number + parity, (), "medium"


def real_cases() -> Iterator[tuple[str, str, int, int]]:
    """Yield cause, strength, seed and ranks of every real run."""
    for number in range(REAL_FAULT_FREE):
        yield "", "none", number, (2, 4)[number % 2]
    for cause in RECIPES:
        for strength in STRENGTHS:
            for number in range(REAL_SEEDS):
                for ranks in (2, 4):
                    yield cause, strength, number, ranks


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


def digest() -> str:
    """Return what the results depend on: the analyzers and the corpus itself."""
    found = hashlib.sha256()
    for folder in ("analyzers", "tests/corpus"):
        for file in sorted((ROOT / folder).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def read(file: Path) -> tuple[Head | None, list[Outcome]]:
    """Read a file of results; a line cut short by a kill is left out."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    head = msgspec.json.decode(lines[0], type=Head) if lines else None
    outcomes = []
    for line in lines[1:]:
        try:
            outcomes.append(msgspec.json.decode(line, type=Outcome))
        except msgspec.DecodeError:
            continue
    return head, outcomes


def begin(file: Path) -> set[str]:
    """Return the names of the runs that are done; begin anew if the code has changed."""
    head, outcomes = read(file)
    if head is not None and head.digest == digest():
        return {outcome.name for outcome in outcomes}
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = Head(
        digest=digest(), started_utc=now, load=os.getloadavg()[0], cores=os.cpu_count() or 1
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(head) + b"\n")
    return set()


def run_synthetic(file: Path, jobs: int | None) -> None:
    """Judge what is missing of the synthetic part."""
    done = begin(file)
    missing = [case for case in synthetic_cases() if name_of(case) not in done]
    with ProcessPoolExecutor(jobs) as pool, file.open("ab") as stream:
        for outcome in pool.map(judge_synthetic, missing, chunksize=4):
            stream.write(msgspec.json.encode(outcome) + b"\n")
            stream.flush()


def run_real(file: Path, limit: int) -> None:
    """Judge what is missing of the real part, one run at a time, at most `limit` runs now."""
    done = begin(file)
    missing = [
        case
        for case in real_cases()
        if f"real {case[0] or 'none'} {case[1]} {case[2]} {case[3]}" not in done
    ]
    with file.open("ab") as stream:
        for cause, strength, seed, ranks in missing[:limit]:
            with tempfile.TemporaryDirectory() as folder:
                outcome = real_case(Path(folder), cause, strength, seed, ranks)
            if isinstance(outcome, str):
                sys.stderr.write(f"{cause or 'none'} {strength} {ranks} ranks: {outcome}\n")
                continue
            stream.write(msgspec.json.encode(outcome) + b"\n")
            stream.flush()


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("synthetic", "real"))
    parser.add_argument("results", type=Path)
    parser.add_argument("--limit", type=int, default=1_000_000, help="real runs at most")
    parser.add_argument("--jobs", type=int, help="synthetic runs at once; default: the cores")
    args = parser.parse_args()
    if args.part == "synthetic":
        run_synthetic(args.results, args.jobs)
    else:
        run_real(args.results, args.limit)


if __name__ == "__main__":
    main()
