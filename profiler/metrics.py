"""`--metrics-port PORT`: a page of metrics that Prometheus reads while the command runs.

The page is on all interfaces, as exporters are, and names ranks, machines and the run, never the
command. The port is taken before the command starts, so that a port in use is wrong usage rather
than a surprise; the thread that answers starts after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from perfkit.errors import SetupError
from perfkit.profiler.companions import Companion
from perfkit.profiler.metrics_reading import Reading, Sample

PERIOD_S = 1.0
SCRAPE_TIMEOUT_S = 10
NOT_INSTALLED = "--metrics-port needs prometheus-client"

GAUGES: dict[str, str] = {
    "perfkit_run_info": "The run that is served; always 1.",
    "perfkit_last_step": "Number of the newest step that the rank has ended, from 0.",
    "perfkit_last_step_seconds": "Duration of that step.",
    "perfkit_last_step_input_wait_seconds": "Time in that step that waited for input.",
    "perfkit_last_step_checkpoint_seconds": "Time in that step that wrote or read checkpoints.",
    "perfkit_samples_per_second": "Samples per second over the rank's newest steps, at most 20.",
    "perfkit_tokens_per_second": "Tokens per second over the rank's newest steps, at most 20.",
    "perfkit_rank_memory_bytes": "Main memory that the rank's process holds.",
    "perfkit_rank_processors": "Processor time of the rank's process per time.",
    "perfkit_node_processors": "Logical processors of the machine.",
    "perfkit_node_processors_in_use": "Processor time of all programs per time.",
    "perfkit_node_processors_of_run": "Processor time of the command per time.",
    "perfkit_node_available_memory_bytes": "Main memory that is still available.",
    "perfkit_gpu_utilization_ratio": "Share of time in which any kernel ran (NVML).",
    "perfkit_gpu_memory_bytes": "Device memory in use by all programs.",
    "perfkit_gpu_sm_clock_hertz": "Clock of the multiprocessors.",
    "perfkit_gpu_power_watts": "Power draw.",
    "perfkit_gpu_temperature_celsius": "Temperature.",
    "perfkit_gpu_slowed": "1 where heat or a hardware brake lowers the clocks, else 0.",
    "perfkit_window_share_ratio": "Share of the rank's time in one class, in the steps of the "
    "newest window that has been analysed, before blame.",
    "perfkit_window_step_seconds": "Mean step of the rank in that window.",
}
COUNTERS: dict[str, str] = {
    "perfkit_steps": "Steps that the rank has ended.",
    "perfkit_step_seconds": "Time in ended steps.",
    "perfkit_input_wait_seconds": "Time in ended steps that waited for input.",
    "perfkit_checkpoint_seconds": "Time in ended steps that wrote or read checkpoints.",
    "perfkit_samples": "Samples in ended steps, where known.",
    "perfkit_tokens": "Tokens in ended steps, where known.",
}
"""What is served; the page puts `_total` behind a counter's name."""


class MetricsServer(Companion):
    """Reads this machine's ranks once a second and answers scrapes from what it last read."""

    name = "metrics"

    def __init__(self, run: Path, node: str, port: int, tell: Callable[[str], None]) -> None:
        """Take the port. Raises SetupError where it cannot be had or the client is missing."""
        super().__init__(PERIOD_S)
        self._reading = Reading(run, node)
        self._samples: tuple[Sample, ...] = ()
        self._tell = tell
        self._server = listen(port, lambda: self._samples)
        self.port = int(self._server.server_port)
        self._answering = threading.Thread(
            target=self._server.serve_forever, name="perfkit-scrapes", daemon=True
        )

    def start(self) -> None:
        """Begin to answer: the command has been started."""
        self._tell(f"metrics for Prometheus on port {self.port}: /metrics")
        self._answering.start()
        super().start()

    def act(self) -> None:
        """Read what has been written since the last time."""
        self._samples = tuple(self._reading.samples())

    def close(self) -> None:
        """The command has ended: give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each scrape in a thread; never asks a name server who it is."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    """Writes no line for a request: stderr is the training's."""

    timeout = SCRAPE_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def listen(port: int, samples: Callable[[], Iterable[Sample]]) -> WSGIServer:
    """Return a server that holds the port and does not answer yet. Raises SetupError."""
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ImportError as error:
        raise SetupError(f"{NOT_INSTALLED}: pip install prometheus-client") from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector_of(samples))
    try:
        return make_server("", port, make_wsgi_app(registry), _Server, _Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise SetupError(f"--metrics-port {port}: {why}; name another one, or 0 for any") from error


def collector_of(samples: Callable[[], Iterable[Sample]]) -> Any:
    """Return what turns samples into the families of Prometheus' text format."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Ours(Collector):
        def collect(self) -> Iterator[Any]:
            by_name: dict[str, list[Sample]] = {}
            for sample in samples():
                by_name.setdefault(sample.name, []).append(sample)
            for name, own in by_name.items():
                labels = list(own[0].labels)
                family: Any = (
                    GaugeMetricFamily(name, GAUGES[name], labels=labels)
                    if name in GAUGES
                    else CounterMetricFamily(name, COUNTERS[name], labels=labels)
                )
                for sample in own:
                    family.add_metric([sample.labels[label] for label in labels], sample.value)
                yield family

    return Ours()
