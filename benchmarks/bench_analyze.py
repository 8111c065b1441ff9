"""How long a rank's analysis takes beside reading it: a real trace, tiled to a million events.

python benchmarks/bench_analyze.py ../shared/traces/kineto/hta_v100_5steps_54MB.json.gz
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from perfkit.analyzers.analysis import analyze
from perfkit.analyzers.survey import survey_rank
from perfkit.trace.model import RankRecord, RankTrace
from perfkit.trace.run import load_rank, open_run

DEFAULT = Path("../shared/traces/kineto/hta_v100_5steps_54MB.json.gz")
RUNS = 3
LIMIT = 2.0


def _known(trace: RankTrace, _: RankRecord) -> RankTrace:
    return trace


def compare(source: Path, megabytes: int) -> bool:
    """Tile, read and analyse; print the medians; return whether the limit holds."""
    sys.path.insert(0, str(Path(__file__).parent))
    from bench_read import tile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiled.json"
        events = tile(source, path, megabytes)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {events:,} events, tiled from {source.name}")
        record = open_run([path]).ranks[0]
        reading, surveying, whole = [], [], []
        for _ in range(RUNS):
            began = time.perf_counter()
            trace = load_rank(record, cache=None)
            read = time.perf_counter()
            survey_rank(trace, record.lines)
            surveyed = time.perf_counter()
            analyze(open_run([path]), partial(_known, trace))
            reading.append(read - began)
            surveying.append(surveyed - read)
            whole.append(time.perf_counter() - surveyed)
    middle = RUNS // 2
    read_s, survey_s, whole_s = (sorted(times)[middle] for times in (reading, surveying, whole))
    print(
        f"{len(trace.events):,} rows in {len(trace.steps.index)} steps: reading {read_s:.2f} s, "
        f"its survey {survey_s:.2f} s ({survey_s / read_s:.2f}x), the whole analysis "
        f"{whole_s:.2f} s ({whole_s / read_s:.2f}x; at most {LIMIT:.0f}x)"
    )
    return whole_s <= LIMIT * read_s


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--mb", type=int, default=260)
    options = parser.parse_args()
    sys.exit(0 if compare(options.trace, options.mb) else 1)


if __name__ == "__main__":
    main()
