"""Metrics of a running job: what is scraped is what the ranks wrote; Prometheus takes it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perfkit.errors import SetupError
from perfkit.profiler.metrics import COUNTERS, GAUGES, MetricsServer
from tests.profiler.launching import TIMEOUT_S

ROOT = Path(__file__).parents[2]
MS = 1_000_000
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def add_rank(run: Path, rank: int) -> Path:
    folder = run / f"attempt0/rank{rank:05d}.n0.{100 + rank}"
    folder.mkdir(parents=True)
    facts = {"rank": rank, "pid": 100 + rank, "attempt": 0, "parent_node": "n0", "hostname": "h"}
    facts |= {"world_size": 2, "traced": True}
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / "steps.jsonl").write_text('{"k":"header","schema_version":1}\n')
    return folder


def add_steps(folder: Path, first: int, count: int, ms: int = 100) -> None:
    with (folder / "steps.jsonl").open("a") as file:
        for i in range(first, first + count):
            line = {"k": "step", "i": i, "t0": i * ms * MS, "t1": (i + 1) * ms * MS, "u1": 1}
            line |= {"in": 20 * MS, "ck": 5 * MS if i == 3 else 0, "mb": 1, "n": 8}
            file.write(json.dumps(line) + "\n")
        file.write('{"k":"step","i":99')  # torn: the rank is in the middle of a line
    if count:
        data = (folder / "steps.jsonl").read_text()
        (folder / "steps.jsonl").write_text(data[: data.rfind("\n") + 1])


def add_telemetry(run: Path) -> None:
    node = run / "nodes/n0"
    node.mkdir(parents=True)
    gpu = {"index": 0, "util": 90, "mem_used": 1 << 30, "sm_mhz": 1980, "power_w": 512.5}
    gpu |= {"temp_c": 66, "throttle": 0x20}
    lines: list[dict[str, Any]] = [
        {"k": "header", "schema_version": 1, "node": "n0", "processors": 4},
        {
            "k": "sample",
            "dt": 1000 * MS,
            "host": {"busy_ns": 3000 * MS, "own_ns": 2000 * MS, "mem_available": 123},
            "ranks": [{"rank": 0, "rss": 77, "cpu_ns": 1500 * MS}],
            "gpus": [gpu],
        },
    ]
    (node / "telemetry.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for rank in range(2):
        add_steps(add_rank(tmp_path, rank), 0, 10)
    add_telemetry(tmp_path)
    return tmp_path


@pytest.fixture
def server(run: Path) -> Iterator[MetricsServer]:
    told: list[str] = []
    found = MetricsServer(run, "n0", 0, told.append)
    found.period_s = 0.05
    found.start()
    yield found
    found.stop()
    assert told == [f"metrics for Prometheus on port {found.port}: /metrics"]
    assert found.warnings == []


def scrape(server: MetricsServer) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Scrape, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted({"node": "n0", **labels}.items()))))


def until(server: MetricsServer, name: str, wanted: float, **labels: str) -> Scrape:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = scrape(server)
        if value(found, name, **labels) == wanted:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{name} never became {wanted}: {found}")


def test_a_scrape_holds_what_the_ranks_wrote(server: MetricsServer) -> None:
    found = until(server, "perfkit_steps_total", 10, rank="1")
    expected = {
        "perfkit_last_step": 9,
        "perfkit_last_step_seconds": 0.1,
        "perfkit_last_step_input_wait_seconds": 0.02,
        "perfkit_last_step_checkpoint_seconds": 0,
        "perfkit_step_seconds_total": 1.0,
        "perfkit_input_wait_seconds_total": 0.2,
        "perfkit_checkpoint_seconds_total": 0.005,
        "perfkit_samples_total": 80,
        "perfkit_samples_per_second": 80,
    }
    for name, wanted in expected.items():
        assert value(found, name, rank="1") == pytest.approx(wanted), name
    assert value(found, "perfkit_tokens_total", rank="1") is None
    assert value(found, "perfkit_tokens_per_second", rank="1") is None


def test_telemetry_is_served_in_base_units(server: MetricsServer) -> None:
    found = until(server, "perfkit_node_processors_in_use", 3.0)
    assert value(found, "perfkit_node_processors") == 4
    assert value(found, "perfkit_node_processors_of_run") == 2.0
    assert value(found, "perfkit_rank_processors", rank="0") == 1.5
    assert value(found, "perfkit_rank_memory_bytes", rank="0") == 77
    assert value(found, "perfkit_gpu_sm_clock_hertz", gpu="0") == 1.98e9
    assert value(found, "perfkit_gpu_power_watts", gpu="0") == 512.5
    assert value(found, "perfkit_gpu_utilization_ratio", gpu="0") == 0.9
    assert value(found, "perfkit_gpu_slowed", gpu="0") == 1


def test_it_follows_the_run(server: MetricsServer, run: Path) -> None:
    until(server, "perfkit_last_step", 9, rank="0")
    add_steps(run / "attempt0/rank00000.n0.100", 10, 5, ms=50)
    found = until(server, "perfkit_last_step", 14, rank="0")
    assert value(found, "perfkit_steps_total", rank="0") == 15
    assert value(found, "perfkit_samples_per_second", rank="0") == pytest.approx(15 * 8 / 1.25)


def test_the_budget_is_absent_until_a_window_was_analysed(server: MetricsServer, run: Path) -> None:
    found = until(server, "perfkit_last_step", 9, rank="0")
    assert not [key for key in found if key[0].startswith("perfkit_window")]
    rows = [
        {
            "rank": rank,
            "window_ms": 100.0,
            "classes": {"compute": {"ms": 80, "share": 0.8}, "memcpy": None},
        }
        for rank in range(2)
    ]
    steps = [{"step": step} for step in (10, 12, 19)]
    document = {"budget": {"per_rank": rows, "per_step": steps}}
    (run / "analysis.json").write_text(json.dumps(document))
    labels = {"rank": "1", "steps": "10:19"}
    found = until(server, "perfkit_window_share_ratio", 0.8, **labels, **{"class": "compute"})
    assert value(found, "perfkit_window_step_seconds", **labels) == 0.1
    assert not [key for key in found if ("class", "memcpy") in key[1]]


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"--metrics-port {port}: .*in use"):
            MetricsServer(tmp_path, "n0", port, print)


def test_the_port_is_given_back(run: Path) -> None:
    server = MetricsServer(run, "n0", 0, lambda _: None)
    server.start()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("", server.port))
    server.stop()
    with socket.create_server(("", server.port), reuse_port=False) as free:
        assert free.getsockname()[1] == server.port


def test_the_dashboard_asks_for_nothing_that_is_not_served() -> None:
    text = (ROOT / "docs/grafana-dashboard.json").read_text()
    json.loads(text)
    asked = set(re.findall(r"perfkit_\w+", text))
    assert asked <= set(GAUGES) | {f"{name}_total" for name in COUNTERS}
    assert len(asked) > 12


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_a_real_prometheus_takes_it(server: MetricsServer, tmp_path: Path) -> None:
    until(server, "perfkit_last_step", 9, rank="0")
    target = f"127.0.0.1:{server.port}"
    jobs = [{"job_name": "perfkit", "static_configs": [{"targets": [target]}]}]
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        query = urlencode({"query": "sum(perfkit_steps_total) by (node)"})
        assert answered(f"http://127.0.0.1:{port}/api/v1/query?{query}") == "20"
        for expression in dashboard_expressions():  # one that does not parse is answered with 400
            query = urlencode({"query": expression})
            url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert json.load(answer)["status"] == "success", expression
    finally:
        process.kill()
        process.wait()


def dashboard_expressions() -> list[str]:
    """Return the queries of the Grafana dashboard, its variables filled in as Grafana does."""
    panels = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(found) > 10
    filled = [text.replace("$node", ".*").replace("$__rate_interval", "1m") for text in found]
    assert not [text for text in filled if "$" in text]
    return filled


def answered(url: str) -> str:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
            if result:
                return str(result[0]["value"][1])
        except OSError:
            pass
        time.sleep(0.5)
    return "no answer"
