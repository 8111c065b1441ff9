"""Runs the workload under `perfkit profile`, on one node or on two, and reads both sides' account.

Everything goes through the public command line, as a user would type it. Two nodes are two network
namespaces joined by a shaped link; each has its own torchrun and its own `perfkit profile`, and
both share the run folder.
"""

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from perfkit.analyzers import result
from perfkit.analyzers.analysis import decode

WORKLOAD = Path(__file__).with_name("workload.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
RANKS = (sys.executable, "-m", "tests.ranks", "{ranks}")
"""Starts ranks as TORCHRUN does, seconds faster."""
PERFKIT = (sys.executable, "-m", "perfkit")
ROOT = Path(__file__).parent.parent.parent
PORT = 29517  # inside a namespace of our own nobody else listens
DEFAULT_WINDOW = range(10, 20)  # perfkit's own
TIMED = DEFAULT_WINDOW[:-1]
"""The window without its last step: that one lasts until perfkit has saved what it traced."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class StepTruth:
    """What one rank's own clock says of one step, in milliseconds."""

    step: int
    step_ms: float
    input_ms: float
    host_ms: float
    forward_ms: float
    backward_ms: float
    checkpoint_ms: float
    forward_device_ms: float  # the sleeping accelerator's part of forward, as long as it really was
    backward_device_ms: float
    delayed_ms: float  # ready to run while another process had the processor

    @property
    def parts_ms(self) -> float:
        """What the parts of the step take together: nothing of perfkit's own is in them."""
        inside = self.forward_ms + self.backward_ms
        return self.input_ms + self.host_ms + inside + self.checkpoint_ms


@dataclass(frozen=True, slots=True)
class Ended:
    """A workload that has ended: how, what it printed, and both accounts of it."""

    statuses: tuple[int, ...]
    stdout: str
    stderr: str
    runs: tuple[Path, ...]  # one folder, or one a node where they share none
    truth: dict[int, list[StepTruth]]

    @property
    def run(self) -> Path:
        """The run folder that all nodes wrote to."""
        (folder,) = self.runs
        return folder

    def analyze(self) -> result.Analysis:
        """Let `perfkit analyze --json` say what it makes of the run."""
        done = subprocess.run(
            [*PERFKIT, "analyze", *map(str, self.runs), "--json"],
            capture_output=True,
            check=False,
            timeout=120,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr.decode()
        return decode(done.stdout)

    def mean_ms(self, part: Callable[[StepTruth], float], rank: int, steps: range) -> float:
        """The mean of one part of a rank's steps, by its own clock."""
        return statistics.fmean(part(t) for t in self.truth[rank] if t.step in steps)

    def contention(self, steps: range) -> float:
        """The share of these steps that the worst rank lost to other users of the machine."""
        return max(
            self.mean_ms(lambda t: t.delayed_ms, rank, steps)
            / self.mean_ms(lambda t: t.step_ms, rank, steps)
            for rank in self.truth
        )


def undisturbed(
    folder: Path, run: Callable[[Path], Ended], steps: range = TIMED, limit: float = 0.05
) -> Ended:
    """Run until the machine left the ranks alone in these steps: only then is the truth known.

    Skips the test where it never does, with what the last run lost.
    """
    lost = 0.0
    for attempt in range(3):
        ended = run(folder / f"attempt{attempt}")
        assert not any(ended.statuses), ended.stderr
        lost = ended.contention(steps)
        if lost < limit:
            return ended
    pytest.skip(f"the machine is too busy: ranks lost {lost:.0%} of their time to other processes")


def run_workload(
    folder: Path,
    *flags: str,
    window: tuple[int, int] | None = (10, 19),
    ranks: int = 2,
    launcher: Sequence[str] = (*TORCHRUN, "--standalone", "--nproc-per-node={ranks}"),
) -> Ended:
    """Run on one node; without a window, run plainly, without perfkit."""
    launch = [word.format(ranks=ranks) for word in launcher]
    command = [*launch, str(WORKLOAD), f"--truth={folder / 'truth'}", *flags]
    if window is not None:
        command = profiled(command, folder / "run", window)
    return _finish(folder, (folder / "run",), [_start(command)])


def profiled(command: Sequence[str], run: Path, window: tuple[int, int]) -> list[str]:
    """Put `perfkit profile` in front of a command, as a user would."""
    options = [f"--out={run}", "--analyze=never", f"--window={window[0]}:{window[1]}"]
    return [*PERFKIT, "profile", *options, "--", *command]


def run_quietly(folder: Path, *flags: str, ranks: int = 2) -> Ended:
    """Run on one node with these flags until nothing else disturbed it."""
    return undisturbed(
        folder, lambda attempt: run_workload(attempt, *flags, ranks=ranks, launcher=RANKS)
    )


@dataclass(frozen=True, slots=True)
class Node:
    """One network namespace that stands for a machine."""

    namespace: str
    interface: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs on this node."""
        interface = f"GLOO_SOCKET_IFNAME={self.interface}"
        return ["ip", "netns", "exec", self.namespace, "env", interface]


def run_on_two_nodes(
    folder: Path,
    nodes: Sequence[Node],
    *flags: str,
    shared_folder: bool = True,
    per_node: int = 1,
) -> Ended:
    """Run one rank (or more) on each node, each under its own torchrun and `perfkit profile`."""
    started, runs = [], []
    for number, node in enumerate(nodes):
        launch = [*TORCHRUN, f"--nnodes={len(nodes)}", f"--node-rank={number}"]
        launch += [f"--nproc-per-node={per_node}", f"--master-addr={nodes[0].address}"]
        launch += [f"--master-port={PORT}"]
        command = [*launch, str(WORKLOAD), f"--truth={folder / 'truth'}", *flags]
        runs.append(folder / ("run" if shared_folder else f"run{number}"))
        started.append(_start([*node.prefix, *profiled(command, runs[-1], (10, 19))]))
    return _finish(folder, tuple(dict.fromkeys(runs)), started)


@contextmanager
def two_nodes(
    rate: str = "200mbit", burst: str = "32kb", a_packet: int = 0
) -> Iterator[tuple[Node, Node]]:
    """Make two namespaces joined by a link of the given rate each way; remove them at the end.

    The bucket of tbf lets `burst` bytes pass unshaped, so it is kept far below a message. a_packet:
    bytes that every packet counts for beyond its own (at most 65535 and the burst), which makes
    each message dear however small it is: the kernels here have no netem to delay them.
    """
    _remove_orphans()
    tag = f"pk{os.getpid()}x{next(_numbers)}"
    left = Node(f"{tag}a", "link0", "10.77.0.1")
    right = Node(f"{tag}b", "link1", "10.77.0.2")
    try:
        for node in (left, right):
            _ip("netns", "add", node.namespace)
            _ip("-n", node.namespace, "link", "set", "lo", "up")
        pair = ["link", "add", left.interface, "netns", left.namespace, "type", "veth"]
        _ip(*pair, "peer", "name", right.interface, "netns", right.namespace)
        for node in (left, right):
            inside = ("-n", node.namespace)
            _ip(*inside, "address", "add", f"{node.address}/30", "dev", node.interface)
            _ip(*inside, "link", "set", node.interface, "up")
            shape = ["tc", "-n", node.namespace, "qdisc", "add", "dev", node.interface, "root"]
            shape += ["tbf", "rate", rate, "burst", burst, "latency", "50ms"]
            shape += ["overhead", str(a_packet)]
            subprocess.run(shape, check=True, capture_output=True)
        yield left, right
    finally:
        for node in (left, right):
            _remove(node.namespace)


def _remove_orphans() -> None:
    """Remove the namespaces of test runs that were killed before they could."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for owner in re.finditer(r"^pk(\d+)x\d+[ab]\b", listed.stdout, re.MULTILINE):
        if not Path("/proc", owner[1]).exists():
            _remove(owner[0])


def _remove(namespace: str) -> None:
    """Remove a namespace, and its end of the link with it."""
    subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _start(command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )


def _finish(
    folder: Path, runs: tuple[Path, ...], started: Sequence["subprocess.Popen[str]"]
) -> Ended:
    try:
        outputs = [process.communicate(timeout=250) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()  # perfkit and torchrun pass it on to the ranks
                process.wait(timeout=30)
    return Ended(
        tuple(process.returncode for process in started),
        "".join(out for out, _ in outputs),
        "".join(err for _, err in outputs),
        runs,
        read_truth(folder / "truth"),
    )


def read_truth(folder: Path) -> dict[int, list[StepTruth]]:
    """Read the ranks' own logs: rank to steps in order."""
    return {
        int(path.stem.removeprefix("rank")): [
            _step_truth(json.loads(line)) for line in path.read_text().splitlines()
        ]
        for path in sorted(folder.glob("rank*.jsonl"))
    }


def _step_truth(line: dict[str, int]) -> StepTruth:
    parts = [f"{field.name.removesuffix('_ms')}_ns" for field in fields(StepTruth)[1:]]
    return StepTruth(line["step"], *(line.get(part, 0) / 1e6 for part in parts))
