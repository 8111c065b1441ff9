"""Plays a scenario: hosts that launch, streams that run in order, collectives that meet.

Nothing here knows how perfkit attributes time. The same seed draws the same noise whatever is left
out, so that the difference of two plays is what the part left out costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from perfkit.trace.kinds import ROLLUP, Kind
from tests.builders import (
    AUTOGRAD,
    MAIN,
    Item,
    StepItem,
    checkpoint,
    comm_call,
    device,
    gc_pause,
    h2d,
    input_wait,
    kernel,
    nccl,
    op,
    step,
    sync,
)
from tests.corpus.scenario import Scenario

F64 = NDArray[np.float64]

LATENCY_MS = 0.004  # from the end of a launch call to the start of its kernel on an idle device
CHECKPOINT_EVERY = 4
TINY_BUCKETS = 48
GRADIENTS = 16 << 20  # elements
OPTIMIZER_SHARE = 0.05
INPUT_SHARE = 0.005


class Noise:
    """The random numbers of one scenario, factors around 1 unless said otherwise."""

    def __init__(self, scenario: Scenario) -> None:
        random = np.random.default_rng((scenario.seed, 7))
        size = (scenario.ranks, scenario.steps + 1, scenario.kernels + 1)
        self.kernel: F64 = random.lognormal(0, scenario.jitter, size)
        self.host: F64 = random.lognormal(0, 0.2, size)
        self.input: F64 = random.lognormal(0, 0.15, size[:2])
        self.network: F64 = random.lognormal(0, 0.05, (size[1], TINY_BUCKETS))
        self.end_ms: F64 = random.normal(0, 0.0015, (size[0], size[1], TINY_BUCKETS))
        self.collects: NDArray[np.bool_] = random.random(size[:2]) < 0.5
        self.pause_at: NDArray[np.int64] = random.integers(0, scenario.forward, size[:2])


@dataclass
class Rank:
    """One rank at play: when its host and its streams are free next, in ms, and what it did."""

    number: int
    host_ms: float = 0.0
    compute_ms: float = 0.0
    comm_ms: float = 0.0
    items: list[Item] = field(default_factory=list)
    steps: list[StepItem] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # of each step's work on the device
    input_ms: list[float] = field(default_factory=list)
    saved_ms: dict[int, float] = field(default_factory=dict)
    ready: list[tuple[float, float]] = field(default_factory=list)  # bucket: gradients, launch


class Play:
    """One training; `kept` says how much of a family is kept: 0 leaves it out, 1 is as it was."""

    def __init__(
        self, scenario: Scenario, kept: Mapping[str, float] | None = None, *, faults: bool = True
    ) -> None:
        self.scenario, self.faults = scenario, faults
        self.kept = dict.fromkeys(ROLLUP, 1.0) | dict(kept or {})
        self.noise = Noise(scenario)
        self.ranks = [Rank(number) for number in range(scenario.ranks)]
        self.one_bucket = bool(self._whole("no_overlap"))
        self.buckets = scenario.buckets
        if self.one_bucket:
            self.buckets = 1
        elif self._whole("tiny_buckets"):
            self.buckets = TINY_BUCKETS
        for number in range(scenario.steps + 1):
            self._step(number)

    @property
    def period_ms(self) -> float:
        """The mean time of the analysed steps, as the devices go through them."""
        steps = self.scenario.steps
        return float(np.mean([(r.ends[steps] - r.ends[0]) / steps for r in self.ranks]))

    def _step(self, number: int) -> None:
        for rank in self.ranks:
            begun = rank.host_ms
            self._fetch(rank, number)
            self._forward(rank, number)
            self._backward(rank, number)
            rank.steps.append(step(number, at_ms=begun, ms=0.0))
        self._reduce(number)
        for rank in self.ranks:
            self._finish(rank, number)
            begun_ns = rank.steps[-1].at_ns
            length = round(rank.host_ms * 1e6) - begun_ns
            rank.steps[-1] = StepItem(number, begun_ns, length)

    def _share(self, cause: str, rank: Rank) -> float:
        return self.scenario.share(cause, rank.number) if self.faults else 0.0

    def _whole(self, cause: str) -> float:
        return self.scenario.whole(cause) if self.faults else 0.0

    def _fetch(self, rank: Rank, number: int) -> None:
        base = self.scenario.compute_ms
        slow = self._share("loader", rank) + self._share("loader_rank", rank)
        share = slow + INPUT_SHARE
        if slow and not self.scenario.waits_each_step:
            share += 1.0 - self.scenario.host_share  # what running ahead would hide
        wait = self.kept["io"] * share * base * float(self.noise.input[rank.number, number])
        rank.input_ms.append(wait)
        if wait:
            rank.items.append(input_wait(at_ms=rank.host_ms, ms=wait))
        rank.host_ms += wait
        copied = 0.002 * base * self.kept["io"]
        if copied:
            start = max(rank.compute_ms, rank.host_ms + LATENCY_MS)
            copy = h2d(at_ms=start, ms=copied)
            rank.items.append(_launched(copy, rank.host_ms, 0.003))
            rank.compute_ms = start + copied

    def _forward(self, rank: Rank, number: int) -> None:
        scenario = self.scenario
        collects = self._share("gc", rank) + self._share("gc_rank", rank)
        if self._share("gc", rank) and not self.noise.collects[rank.number, number]:
            collects = 0.0
        share = 0.30 / scenario.forward
        for place in range(scenario.forward):
            if collects and place == self.noise.pause_at[rank.number, number]:
                self._pause(rank, collects)
            self._kernel(rank, number, place, "forward_gemm", share, MAIN)
            if self._share("sync", rank) and place % 2:
                self._item(rank, place)

    def _pause(self, rank: Rank, share: float) -> None:
        hidden = 0.0 if self.scenario.waits_each_step else 0.5  # by the host's running ahead
        ms = self.kept["host"] * (share + hidden) * self.scenario.compute_ms
        if ms:
            rank.items.append(gc_pause(at_ms=rank.host_ms, ms=ms))
        rank.host_ms += ms

    def _item(self, rank: Rank, place: int) -> None:
        """Wait for the device as .item() does, then do the Python that needed the value."""
        if not self.kept["host"]:
            return
        self._wait(rank, rank.compute_ms)
        share = self._share("sync", rank) / (self.scenario.forward / 2)
        rank.host_ms += self.kept["host"] * share * self.scenario.compute_ms

    def _wait(self, rank: Rank, until_ms: float) -> None:
        if until_ms > rank.host_ms:
            rank.items.append(sync(at_ms=rank.host_ms, ms=until_ms - rank.host_ms))
            rank.host_ms = until_ms
        rank.host_ms += 0.005

    def _kernel(
        self, rank: Rank, number: int, place: int, name: str, share: float, thread: int
    ) -> None:
        scenario, base = self.scenario, self.scenario.compute_ms
        slow = 1.0 + self._share("compute_rank", rank)
        ms = share * base * slow * float(self.noise.kernel[rank.number, number, place])
        load = scenario.host_share + self._launch_load(rank)
        cost = load * base / (scenario.kernels + 1)
        cost *= float(self.noise.host[rank.number, number, place])
        cost *= self.kept["host"]
        ms *= self.kept["compute"]
        called = rank.host_ms + 0.6 * cost
        if cost:
            rank.items.append(op(f"aten::{name}", at_ms=rank.host_ms, ms=0.9 * cost, thread=thread))
        rank.host_ms += cost
        begin = max(rank.compute_ms, called + 0.3 * cost + LATENCY_MS)
        work = kernel(name, at_ms=begin, ms=ms)
        rank.items.append(_launched(work, called, 0.3 * cost, thread))
        rank.compute_ms = begin + ms

    def _launch_load(self, rank: Rank) -> float:
        share = self._share("launch", rank)
        return 1.0 + share - self.scenario.host_share if share else 0.0

    def _backward(self, rank: Rank, number: int) -> None:
        scenario = self.scenario
        share = (0.70 - OPTIMIZER_SHARE) / scenario.backward
        rank.ready = []
        for place in range(scenario.backward):
            at = scenario.forward + place
            self._kernel(rank, number, at, "backward_gemm", share, AUTOGRAD)
            due = (place + 1) * self.buckets // scenario.backward
            while len(rank.ready) < due:
                rank.items.append(comm_call(at_ms=rank.host_ms, ms=0.01))
                rank.ready.append((rank.compute_ms, rank.host_ms + 0.002))
                rank.host_ms += 0.01 * self.kept["host"]

    def _transfer_ms(self, number: int, bucket: int) -> float:
        base, share = self.scenario.compute_ms, self.scenario.network_share
        hidden = 0.60 * (1 - 1 / self.scenario.buckets)
        for cause in ("network", "tiny_buckets"):
            if self._whole(cause):
                share = max(share, hidden) + self._whole(cause)
        share = max(share, self.scenario.whole("no_overlap"))  # the network is that slow either way
        share *= self.kept["communication"] * float(self.noise.network[number, bucket])
        return share * base / self.buckets

    def _reduce(self, number: int) -> None:
        for bucket in range(self.buckets):
            starts = [
                max(rank.ready[bucket][0], rank.ready[bucket][1] + LATENCY_MS, rank.comm_ms) + 0.003
                for rank in self.ranks
            ]
            end = max(starts) + self._transfer_ms(number, bucket) + 0.006
            for rank, start in zip(self.ranks, starts, strict=True):
                own = end + float(self.noise.end_ms[rank.number, number, bucket])
                rank.comm_ms = own
                sequence = number * self.buckets + bucket + 1 if self.scenario.sequence else -1
                found = nccl(
                    "all_reduce",
                    at_ms=start,
                    ms=own - start,
                    elements=GRADIENTS // self.buckets,
                    sequence=sequence,
                )
                rank.items.append(_launched(found, rank.ready[bucket][1], 0.003, AUTOGRAD))

    def _finish(self, rank: Rank, number: int) -> None:
        rank.compute_ms = max(rank.compute_ms, rank.comm_ms + 0.002)
        self._kernel(rank, number, self.scenario.kernels, "adam", OPTIMIZER_SHARE, MAIN)
        rank.ends.append(rank.compute_ms)
        self._save(rank, number)
        if self.scenario.waits_each_step:
            self._wait(rank, rank.compute_ms)
        elif number:
            self._wait(rank, rank.ends[number - 1])

    def _save(self, rank: Rank, number: int) -> None:
        share = self._share("checkpoint", rank) + self._share("checkpoint_rank", rank)
        if not share * self.kept["io"] or number % CHECKPOINT_EVERY != 1:
            return
        self._wait(rank, rank.compute_ms)
        ms = self.kept["io"] * share * self.scenario.compute_ms * CHECKPOINT_EVERY
        rank.items.append(checkpoint(at_ms=rank.host_ms, ms=ms))
        copy = device(Kind.MEMCPY_D2H, "Memcpy DtoH", at_ms=rank.host_ms + 0.01, ms=0.1 * ms)
        rank.items.append(_launched(copy, rank.host_ms + 0.002, 0.003))
        rank.compute_ms = rank.host_ms + 0.01 + 0.1 * ms
        rank.saved_ms[number] = ms
        rank.host_ms += ms


def _launched(item: Item, at_ms: float, ms: float, thread: int = MAIN) -> Item:
    """Say when and on which thread the call was made that launched this work."""
    return replace(item, launched=(round(at_ms * 1e6), round(ms * 1e6)), launch_thread=thread)
