"""Mutates traces: whatever comes out is read or refused in one line, quickly and consistently.

`python -m tests.trace.fuzz COUNT FILE...` runs COUNT mutants over real Kineto and Nsight files, and
prints the seed of each failure; the tests run a few on traces that they make.
"""

import gzip
import random
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np

from perfkit.analyzers.analysis import analyze, encode
from perfkit.errors import InputError
from perfkit.trace.kinds import FIRST_DEVICE_KIND
from perfkit.trace.model import NONE, RankTrace
from perfkit.trace.run import load_rank, open_run

ANALYSED = 50
"""One in so many mutants is analysed, too."""
SECONDS = 20.0
"""A mutant that takes longer hangs: the largest file used takes half a second."""

TOKENS = (
    b"NaN", b"-Infinity", b"1e400", b"-1", b"0", b"null", b"true", b'""', b"{}", b"[]", b"}", b"]",
    b'"', b"\\", b",", b"\x00", b"\xff\xfe", b"99999999999999999999999", b'"stream 7"', b"1e18",
    b'"ProfilerStep#1"', b'"ProfilerStep#99999999999"', b"-9223372036854775809", b'{"ph": "X"}',
)  # fmt: skip


def mutate(data: bytes, seed: int) -> bytes:
    """Return a damaged copy: bytes flipped, cut, doubled or replaced by hostile tokens."""
    chance = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5, 30))):
        if not damaged:
            break
        at = chance.randrange(len(damaged))
        span = min(chance.choice((1, 1, 4, 40, 400)), len(damaged) - at)
        way = chance.randrange(6)
        if way == 0:
            damaged[at] = chance.randrange(256)
        elif way == 1:
            del damaged[at : at + span]
        elif way == 2:
            damaged[at:at] = damaged[at : at + span]
        elif way == 3:
            damaged[at : at + span] = chance.choice(TOKENS)
        elif way == 4:
            _replace_value(damaged, at, chance.choice(TOKENS))
        elif chance.random() < 0.2:
            del damaged[at:]
    return bytes(damaged)


def _replace_value(damaged: bytearray, at: int, token: bytes) -> None:
    """Put a token in the place of the next value, so that the JSON mostly stays JSON."""
    begin = damaged.find(b":", at) + 1
    if begin == 0:
        return
    ends = [end for end in (damaged.find(mark, begin) for mark in b",}]") if end > 0]
    damaged[begin : min(ends, default=len(damaged))] = b" " + token


def check(trace: RankTrace) -> None:
    """Assert what every trace must satisfy, however damaged its file was."""
    events = trace.events
    count = len(events)
    assert count > 0
    assert (np.diff(events.start_ns) >= 0).all()
    assert (events.duration_ns >= 0).all()
    for links in (events.launch, events.op):
        assert ((links >= NONE) & (links < count)).all()
    linked = events.launch[events.launch != NONE]
    assert (events.kind[linked] < FIRST_DEVICE_KIND).all()
    assert ((events.name >= 0) & (events.name < len(events.names))).all()
    assert ((events.shape >= NONE) & (events.shape < len(events.shapes))).all()
    assert set(events.step.tolist()) <= {NONE, *trace.steps.index.tolist()}
    assert (trace.steps.end_ns >= trace.steps.start_ns).all()
    assert (trace.steps.start_ns[1:] >= trace.steps.end_ns[:-1]).all()
    facts = trace.collectives
    assert ((facts.event >= 0) & (facts.event < count)).all()
    assert ((facts.group >= NONE) & (facts.group < len(trace.groups))).all()
    assert (facts.size_bytes >= NONE).all()


def try_one(data: bytes, folder: Path, *, analysed: bool = False) -> str:
    """Return what went wrong with reading (and analysing) `data`, "" if nothing did."""
    path = folder / "mutant.json"
    path.write_bytes(data)
    began = time.perf_counter()
    try:
        run = open_run([path])
        for record in run.ranks:
            check(load_rank(record, cache=None))
        if analysed:
            encode(analyze(run, partial(load_rank, cache=None)))
    except InputError as error:
        if "\n" in error.message or str(path) not in error.message:
            return f"unclear message: {error}"
    except Exception:  # any other exception is what this looks for
        return traceback.format_exc()
    took = time.perf_counter() - began
    return f"took {took:.0f} s" if took > SECONDS else ""


def main(count: int, files: list[Path]) -> int:
    """Run `count` mutants over the files in turn; return how many failed."""
    failed = 0
    originals = [path.read_bytes() for path in files]
    plain = [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in originals]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            which = seed % len(files)
            packed = seed % 10 == 9  # now and then the damage is in the gzip stream
            data = mutate(originals[which] if packed else plain[which], seed)
            problem = try_one(data, Path(folder), analysed=seed % ANALYSED == 0)
            if problem:
                failed += 1
                print(f"seed {seed} of {files[which].name}:\n{problem}", flush=True)
            if seed % 500 == 499:
                print(f"{seed + 1} mutants, {failed} failed", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]), 1))
