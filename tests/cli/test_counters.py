"""Hardware counters of an Nsight export in analysis.json and on the page."""

import json
from pathlib import Path

from tests.cli.conftest import Call
from tests.trace.nsys_files import two_steps
from tests.trace.test_nsys_metrics import DRAM, SMS, with_metrics


def test_kept_and_shown(tmp_path: Path, perfkit: Call) -> None:
    path = with_metrics(two_steps(), 0).write(tmp_path / "r.sqlite")
    for _ in range(2):  # read, and from the cache
        ended = perfkit("analyze", path, "--json", "--out", tmp_path / "out")
        rows = json.loads(ended.out)["counters"]
        assert [(r["rank"], r["name"], r["mean"]) for r in rows] == [(0, DRAM, 7.0), (0, SMS, 30.0)]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Hardware counters of each rank" in page
    assert SMS in page
