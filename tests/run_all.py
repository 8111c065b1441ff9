"""Run the suite: quick tests on all cores, then the real runs one by one; one count closes it.

    python -m tests.run_all [pytest arguments]

Real multi-process trainings measure time, so nothing else may run beside them. The last line is
`N passed, N failed, N skipped` over both parts; the skips are listed by reason above it.
"""

import collections
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

TESTS = Path(__file__).parent
NOTHING_COLLECTED = 5  # pytest's exit status when no test was selected


def main(arguments: list[str]) -> int:
    """Run both parts; 0 only if every test that ran passed."""
    cores = len(os.sched_getaffinity(0))
    parts = {
        "quick tests, in parallel": ["-m", "not real", "-n", str(cores), "--dist=loadgroup"],
        "real runs, one by one": ["-m", "real", "-n", "0", *_files("mark.real")],
    }
    statuses, counts, reasons = [], collections.Counter[str](), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, options) in enumerate(parts.items()):
            print(f"== {title}", flush=True)
            results = Path(folder, f"{number}.xml")
            command = [sys.executable, "-m", "pytest", f"--junitxml={results}", *options]
            statuses.append(subprocess.run([*command, *arguments], check=False).returncode)
            if results.exists():
                _count(results, counts, reasons)
    print("\n== all tests")
    for reason, number in reasons.most_common():
        print(f"{number:5d} skipped: {reason}")
    total = (counts[key] for key in ("passed", "failed", "skipped"))
    print("{} passed, {} failed, {} skipped".format(*total), flush=True)
    return int(any(status not in {0, NOTHING_COLLECTED} for status in statuses))


def _files(marker: str) -> list[str]:
    """The test files with a marker: to collect the others takes longer than some of these run."""
    found = (path for path in TESTS.rglob("test_*.py") if marker in path.read_text())
    return sorted(map(str, found))


def _count(
    results: Path, counts: collections.Counter[str], reasons: collections.Counter[str]
) -> None:
    for case in ET.parse(results).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skipped is not None:
            counts["skipped"] += 1
            reasons[skipped.get("message", "").removeprefix("Skipped: ")] += 1
        else:
            counts["passed"] += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
