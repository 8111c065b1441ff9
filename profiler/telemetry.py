"""Samples this machine while the command runs: nodes/NODE/telemetry.jsonl, one line a sample."""

from __future__ import annotations

import os
import time
from pathlib import Path

from perfkit.profiler import rank_folders
from perfkit.profiler.companions import Companion
from perfkit.profiler.inrank.files import Stream
from perfkit.profiler.telemetry_gpu import Gpus, open_gpus
from perfkit.profiler.telemetry_host import HostCounters, RankCounters

PERIOD_S = 1.0
RANKS_EVERY = 5  # samples between two looks for ranks that have come


class Telemetry(Companion):
    """Host, GPUs and rank processes of this machine, sampled once a second."""

    name = "telemetry"

    def __init__(self, run: Path, node: str, period_s: float = PERIOD_S) -> None:
        super().__init__(period_s)
        self.run = run
        self.node = node
        self._stream: Stream | None = None
        self._gpus: Gpus | None = None
        self._host: HostCounters | None = None
        self._ranks: dict[int, RankCounters] = {}
        self._gone: set[int] = set()
        self._samples = 0
        self._before_ns = 0

    def start(self) -> None:
        """Count from the command's start, so that the first sample covers all since then."""
        self._host, self._before_ns = HostCounters(), time.perf_counter_ns()
        super().start()

    def act(self) -> None:
        """Write one sample."""
        if self._stream is None:
            self._gpus = open_gpus()
            self._stream = self._open()
        if self._samples % RANKS_EVERY == 0 or not self._ranks:
            self._look_for_ranks()
        assert self._host is not None
        host, ranks = self._host.sample(), self._sample_ranks()
        gpus = self._gpus.sample() if self._gpus is not None else None
        now, unix = time.perf_counter_ns(), time.time_ns()
        self._stream.record(
            "sample", t=now, u=unix, dt=now - self._before_ns, host=host, gpus=gpus, ranks=ranks
        )
        self._before_ns = now
        self._samples += 1

    def close(self) -> None:
        """Write a last sample, of whatever is left of the run."""
        self.act()
        if self._gpus is not None:
            self._gpus.close()
        if self._stream is not None:
            self._stream.close()

    def _open(self) -> Stream:
        return Stream(
            str(self.run / "nodes" / self.node / "telemetry.jsonl"),
            node=self.node,
            period_ns=int(self.period_s * 1e9),
            processors=os.cpu_count() or 1,
            gpus=self._gpus.describe() if self._gpus is not None else None,
        )

    def _look_for_ranks(self) -> None:
        for folder in rank_folders.find(self.run, self.node):
            if folder.pid not in self._ranks and folder.pid not in self._gone:
                self._ranks[folder.pid] = RankCounters(folder.rank, folder.pid)

    def _sample_ranks(self) -> list[dict[str, int | None]]:
        samples = []
        for pid, counters in list(self._ranks.items()):
            sample = counters.sample()
            if sample is None:
                self._gone.add(self._ranks.pop(pid).pid)
            else:
                samples.append(sample)
        return samples
