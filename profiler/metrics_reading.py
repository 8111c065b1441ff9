"""What a running job has written so far, as metrics: step lines, telemetry, the newest verdict."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfkit.profiler import rank_folders

NEWEST_STEPS = 20
NS = 1e9
SLOWED = 0x8 | 0x20 | 0x40 | 0x80  # NVML: hardware slowdown, thermal (two kinds), power brake


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric."""

    name: str
    value: float
    labels: Mapping[str, str]


class Tail:
    """The lines of a growing file, each once; a line without an end is left for the next time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what has been written since the last call; damaged lines are left out."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


@dataclass(slots=True)
class RankProgress:
    """Totals of one rank's step lines, and its newest steps."""

    tail: Tail
    steps: int = 0
    step_ns: int = 0
    input_ns: int = 0
    checkpoint_ns: int = 0
    samples: int | None = None
    tokens: int | None = None
    newest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=NEWEST_STEPS))

    def read(self) -> None:
        """Take in the step lines that have come."""
        for line in self.tail.records():
            if line.get("k") != "step":
                continue
            try:
                self.step_ns += int(line["t1"]) - int(line["t0"])
                self.input_ns += int(line["in"])
                self.checkpoint_ns += int(line["ck"])
                self.samples = _sum(self.samples, line.get("n"))
                self.tokens = _sum(self.tokens, line.get("tok"))
            except (KeyError, TypeError, ValueError):
                continue
            self.steps += 1
            self.newest.append(line)

    def metrics(self, labels: Mapping[str, str]) -> Iterator[Sample]:
        """Yield this rank's metrics; nothing before its first step has ended."""
        if not self.newest:
            return
        last = self.newest[-1]
        values: dict[str, float | None] = {
            "perfkit_steps": self.steps,
            "perfkit_step_seconds": self.step_ns / NS,
            "perfkit_input_wait_seconds": self.input_ns / NS,
            "perfkit_checkpoint_seconds": self.checkpoint_ns / NS,
            "perfkit_samples": self.samples,
            "perfkit_tokens": self.tokens,
            "perfkit_last_step": last["i"],
            "perfkit_last_step_seconds": (last["t1"] - last["t0"]) / NS,
            "perfkit_last_step_input_wait_seconds": last["in"] / NS,
            "perfkit_last_step_checkpoint_seconds": last["ck"] / NS,
            "perfkit_samples_per_second": self._per_second("n"),
            "perfkit_tokens_per_second": self._per_second("tok"),
        }
        yield from _known(values, labels)

    def _per_second(self, key: str) -> float | None:
        """Work of the newest steps over their time; None where a step's work is not known."""
        work = [line.get(key) for line in self.newest]
        spent = sum(line["t1"] - line["t0"] for line in self.newest)
        known = [value for value in work if isinstance(value, int)]
        return sum(known) / spent * NS if spent > 0 and len(known) == len(work) else None


class Reading:
    """The ranks of one machine in a run folder that is being written."""

    def __init__(self, run: Path, node: str) -> None:
        self.run = run
        self.node = node
        self._ranks: dict[Path, RankProgress] = {}
        self._telemetry = Tail(run / "nodes" / node / "telemetry.jsonl")
        self._header: dict[str, Any] = {}
        self._machine: dict[str, Any] = {}
        self._analysis: tuple[int, tuple[Sample, ...]] = (0, ())

    def samples(self) -> Iterator[Sample]:
        """Yield every metric as it stands now."""
        folders = rank_folders.find(self.run, self.node)
        yield Sample("perfkit_run_info", 1, {"run": self.run.name, "node": self.node})
        for folder in folders:
            own = self._ranks.setdefault(
                folder.path, RankProgress(Tail(folder.path / "steps.jsonl"))
            )
            own.read()
            yield from own.metrics({"rank": str(folder.rank), "node": self.node})
        yield from self._machine_metrics()
        yield from self._verdict_metrics({folder.rank for folder in folders})

    def _machine_metrics(self) -> Iterator[Sample]:
        for record in self._telemetry.records():
            if record.get("k") == "header":
                self._header = record
            elif record.get("k") == "sample" and record.get("dt"):
                self._machine = record
        if self._machine:
            yield from machine_metrics(self._header, self._machine, self.node)

    def _verdict_metrics(self, ranks: set[int]) -> tuple[Sample, ...]:
        path = self.run / "analysis.json"
        try:
            written = path.stat().st_mtime_ns
            if written != self._analysis[0]:
                found = tuple(window_metrics(json.loads(path.read_bytes()), ranks, self.node))
                self._analysis = (written, found)
        except (OSError, ValueError, KeyError, TypeError):
            return ()
        return self._analysis[1]


def machine_metrics(
    header: Mapping[str, Any], sample: Mapping[str, Any], node: str
) -> Iterator[Sample]:
    """Yield the newest telemetry sample of a machine (docs/run-folder.md)."""
    dt, host = sample["dt"], sample.get("host") or {}
    of_node = {
        "perfkit_node_processors": header.get("processors"),
        "perfkit_node_processors_in_use": _over(host.get("busy_ns"), dt),
        "perfkit_node_processors_of_run": _over(host.get("own_ns"), dt),
        "perfkit_node_available_memory_bytes": host.get("mem_available"),
    }
    yield from _known(of_node, {"node": node})
    for rank in sample.get("ranks") or ():
        of_rank = {
            "perfkit_rank_memory_bytes": rank.get("rss"),
            "perfkit_rank_processors": _over(rank.get("cpu_ns"), dt),
        }
        yield from _known(of_rank, {"rank": str(rank["rank"]), "node": node})
    for gpu in sample.get("gpus") or ():
        throttle = gpu.get("throttle")
        of_gpu = {
            "perfkit_gpu_utilization_ratio": _over(gpu.get("util"), 100),
            "perfkit_gpu_memory_bytes": gpu.get("mem_used"),
            "perfkit_gpu_sm_clock_hertz": _over(gpu.get("sm_mhz"), 1e-6),
            "perfkit_gpu_power_watts": gpu.get("power_w"),
            "perfkit_gpu_temperature_celsius": gpu.get("temp_c"),
            "perfkit_gpu_slowed": None if throttle is None else float(bool(throttle & SLOWED)),
        }
        yield from _known(of_gpu, {"gpu": str(gpu["index"]), "node": node})


def window_metrics(analysis: Mapping[str, Any], ranks: set[int], node: str) -> Iterator[Sample]:
    """Yield the budget of the analysed steps of these ranks; a class without a recorder is left out."""  # noqa: E501
    budget = analysis["budget"]
    steps = [row["step"] for row in budget["per_step"]]
    if not steps:
        return
    window = f"{min(steps)}:{max(steps)}"
    for row in budget["per_rank"]:
        if row["rank"] not in ranks:
            continue
        labels = {"rank": str(row["rank"]), "node": node, "steps": window}
        yield Sample("perfkit_window_step_seconds", row["window_ms"] / 1e3, labels)
        for name, time in row["classes"].items():
            if time is not None:
                own = {**labels, "class": name}
                yield Sample("perfkit_window_share_ratio", time["share"], own)


def _known(values: Mapping[str, float | None], labels: Mapping[str, str]) -> Iterator[Sample]:
    for name, value in values.items():
        if value is not None:
            yield Sample(name, float(value), labels)


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _sum(total: int | None, more: int | None) -> int | None:
    return total if more is None or more < 0 else (total or 0) + more
