"""Real trainings with one injected fault each, for the corpus: gloo ranks under `perfkit profile`.

The truth comes from the ranks' own clocks (tests/truth): what the fault took, and what the machine
took for others. Beside its compute, gloo and Python share a step, and no clock in the training
tells them apart; of a run without a fault, its twin that sends no gradients does. Two or four ranks
share few cores, so their compute is the sleeping accelerator; slow networks are two namespaces
joined by a shaped link, with one or two ranks on each.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.corpus.judge import Outcome, outcome_of
from tests.corpus.scenario import CAUSES
from tests.truth.harness import (
    DEFAULT_WINDOW,
    TIMED,
    Ended,
    StepTruth,
    read_truth,
    run_on_two_nodes,
    run_workload,
    two_nodes,
)

STEP_MS = 60.0
BACKWARD_MS = STEP_MS * 2 / 3
BURST_BYTES = 128 << 10
TINY_LAYERS, TINY_WIDTH = 16, 32
A_PACKET = 60_000
PACKETS = 6
"""What gloo sends each way to reduce one tiny bucket of two ranks, as tried (with its acks)."""
STRENGTHS_MS = {"weak": 9.0, "medium": 25.0, "strong": 120.0}
LAYERS, WIDTH = 4, 512
GRADIENT_BITS = LAYERS * WIDTH * WIDTH * 4 * 8
LAYER_MB = WIDTH * WIDTH * 4 / 2**20
MOST_LOST = 0.05
"""Runs in which other processes took more than this share of a rank's time are not judged."""
ENDED = "ended.json"
"""Beside a kept run: how its processes ended. It is written last."""
TWIN = "twin"
"""Inside the folder of a run without a fault: the same training, sending no gradients."""
Part = Callable[[StepTruth], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a cause is put into the workload, and which part of a rank's own log shows it.

    flags: from the milliseconds to add to a step. rate: of the link, where there is one. a_packet:
    bytes that a packet costs there beyond its own. hides_ms: of backward, beside which transfers
    run. fits: for how many ranks; what uses the processor gets one core each.
    """

    flags: Callable[[float], tuple[str, ...]]
    part: Part
    rate: Callable[[float], str] | None = None
    a_packet: int = 0
    hides_ms: float = 0.0
    fits: tuple[int, ...] = (2, 4)


def _one_rank(*flags: str) -> tuple[str, ...]:
    return (*flags, "--fault-ranks", "1")


def _exposed_ms(truth: StepTruth) -> float:
    """What backward takes beyond its own compute: it ends when all gradients are reduced."""
    return max(0.0, truth.backward_ms - truth.backward_device_ms)


def _more_compute_ms(truth: StepTruth) -> float:
    return truth.forward_device_ms + truth.backward_device_ms - STEP_MS


def _compute_ms(truth: StepTruth) -> float:
    """The accelerator's time as it was, and the layers of forward, where nobody waits."""
    return truth.forward_ms + truth.backward_device_ms


def _link(bits: float, hidden_ms: float) -> Callable[[float], str]:
    """Return the rate at which so many bits take so long that only `ms` of it stand out."""
    return lambda ms: f"{bits / (ms + hidden_ms) * 1e3 / 1e6:.0f}mbit"


def _hidden_ms(layers: int) -> float:
    """Of backward: what is left of it when the first layer's gradients leave."""
    return BACKWARD_MS * (1 - 1 / layers)


LAYERED = (f"--layers={LAYERS}", f"--width={WIDTH}")
TINY = (f"--layers={TINY_LAYERS}", f"--width={TINY_WIDTH}", "--bucket-mb=0.003")
TINY_BITS = TINY_LAYERS * PACKETS * (A_PACKET + TINY_WIDTH * TINY_WIDTH * 4) * 8
RECIPES = {
    "loader": Recipe(flags=lambda ms: (f"--loader-ms={ms}",), part=lambda t: t.input_ms),
    "loader_rank": Recipe(
        flags=lambda ms: _one_rank(f"--loader-ms={ms}"), part=lambda t: t.input_ms
    ),
    "disk": Recipe(
        flags=lambda ms: (f"--loader-ms={ms}", "--loader-how=read"), part=lambda t: t.input_ms
    ),
    "host": Recipe(flags=lambda ms: (f"--host-ms={ms}",), part=lambda t: t.host_ms),
    "gc": Recipe(flags=lambda ms: (f"--gc-ms={ms}",), part=lambda t: t.host_ms, fits=(2,)),
    "gc_rank": Recipe(flags=lambda ms: _one_rank(f"--gc-ms={ms}"), part=lambda t: t.host_ms),
    "checkpoint": Recipe(
        flags=lambda ms: ("--checkpoint-every=2", f"--checkpoint-ms={2 * ms}"),
        part=lambda t: t.checkpoint_ms,
    ),
    "checkpoint_rank": Recipe(
        flags=lambda ms: _one_rank("--checkpoint-every=2", f"--checkpoint-ms={2 * ms}"),
        part=lambda t: t.checkpoint_ms,
    ),
    "compute_rank": Recipe(
        flags=lambda ms: _one_rank(f"--slow-accelerator-ms={ms}"),
        part=_more_compute_ms,
    ),
    "network": Recipe(
        flags=lambda _: (*LAYERED, f"--bucket-mb={LAYER_MB:g}"),
        part=_exposed_ms,
        rate=_link(GRADIENT_BITS, _hidden_ms(LAYERS)),
        hides_ms=_hidden_ms(LAYERS),
    ),
    "no_overlap": Recipe(
        flags=lambda _: (*LAYERED, "--bucket-mb=1000"),
        part=lambda t: _exposed_ms(t) * (1 - 1 / LAYERS),
        rate=_link(GRADIENT_BITS, 0.0),
    ),
    "tiny_buckets": Recipe(
        flags=lambda _: TINY,
        part=_exposed_ms,
        rate=_link(TINY_BITS, _hidden_ms(TINY_LAYERS)),
        a_packet=A_PACKET,
        hides_ms=_hidden_ms(TINY_LAYERS),
        fits=(2,),
    ),
}
"""Every cause that real runs can have here. A wait for the device in every step (`sync`) needs a
device that runs ahead of its host. What makes a bucket dear is a link on which every packet costs
60 kB: with many buckets on a fast link it would be the processor, which nobody's clock can tell."""
REAL_MIXTURES = (("loader", "network"), ("loader_rank", "host"), ("checkpoint", "host"))


def ranks_of(causes: Sequence[str]) -> tuple[int, ...]:
    """Return with how many ranks a combination of causes is run."""
    return tuple(n for n in (2, 4) if all(n in RECIPES[c].fits for c in causes))


def real_case(
    folder: Path, causes: tuple[str, ...], strength: str, seed: int, ranks: int
) -> Outcome | str:
    """Run one training and judge it; a sentence where the machine was too busy for a truth.

    A folder that holds the run already is judged again as it is: what analyzers say may change,
    what was captured does not. What cannot be judged is removed from it.
    """
    flags = ["--steps=24", f"--accelerator-ms={STEP_MS}"]
    added_ms = STRENGTHS_MS.get(strength, 0.0)
    ended = _once(folder, lambda: _run(folder, flags, causes, added_ms, ranks))
    if why := _unfit(ended):
        shutil.rmtree(folder)
        return why
    host_ms = 0.0
    if not causes:
        twin = folder / TWIN
        alone = _once(twin, lambda: run_workload(twin, *flags, "--no-sync", ranks=ranks))
        if why := _unfit(alone):
            shutil.rmtree(twin)
            return why
        host_ms = own_host_ms(alone)
    return _judged(ended, causes, strength, seed, ranks, host_ms)


def _unfit(ended: Ended) -> str:
    """Say why a run gives no truth; "" where it does."""
    if any(ended.statuses):
        return f"the training failed: {ended.stderr[-200:]}"
    lost = ended.contention(TIMED)
    if lost > MOST_LOST:
        return f"the machine was too busy: {lost:.0%} of a rank's time went to others"
    return ""


def _once(folder: Path, run: Callable[[], Ended]) -> Ended:
    """Return the run that the folder holds, or make it and keep it there."""
    ended = _kept(folder)
    if ended is None:
        ended = run()
        _keep(folder, ended)
    return ended


def own_host_ms(alone: Ended) -> float:
    """Return what a step takes beside compute and loader where there is nothing to send: Python."""
    own = [
        alone.mean_ms(lambda t: t.step_ms - _compute_ms(t) - t.input_ms, rank, TIMED)
        for rank in alone.truth
    ]
    return float(np.mean(own))


def _run(
    folder: Path, flags: Sequence[str], causes: tuple[str, ...], added_ms: float, ranks: int
) -> Ended:
    flags, link = list(flags), None
    for cause in causes:
        flags += RECIPES[cause].flags(added_ms)
        link = RECIPES[cause] if RECIPES[cause].rate else link
    if link is None or link.rate is None:
        return run_workload(folder, *flags, ranks=ranks)
    rate, burst = link.rate(added_ms), f"{BURST_BYTES}b"
    with two_nodes(rate=rate, burst=burst, a_packet=link.a_packet) as nodes:
        return run_on_two_nodes(folder, nodes, *flags, per_node=ranks // 2)


def _keep(folder: Path, ended: Ended) -> None:
    runs = [run.name for run in ended.runs]
    kept = {"statuses": ended.statuses, "stderr": ended.stderr, "runs": runs}
    (folder / ENDED).write_text(json.dumps(kept))


def _kept(folder: Path) -> Ended | None:
    """Return the run that this folder holds; None if there is none or it did not end."""
    file = folder / ENDED
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    runs = tuple(folder / name for name in kept["runs"])
    return Ended(tuple(kept["statuses"]), "", kept["stderr"], runs, read_truth(folder / "truth"))


def _judged(
    ended: Ended, causes: tuple[str, ...], strength: str, seed: int, ranks: int, host_ms: float
) -> Outcome:
    """Judge a run; host_ms: what its twin took for Python in a step, 0 where there is no twin."""
    step_ms = _mean_ms(ended, lambda t: t.parts_ms)
    injected = {c: _worst_ms(ended, RECIPES[c].part) for c in causes}
    compute_ms = min(ended.mean_ms(_compute_ms, rank, DEFAULT_WINDOW) for rank in ended.truth)
    costs = {"compute": compute_ms / step_ms, "communication": 0.0, "io": 0.0, "host": 0.0}
    for cause, ms in injected.items():
        costs[CAUSES[cause].family] += ms / step_ms
    rest = max(0.0, 1.0 - sum(costs.values()))  # gloo and Python
    python = min(rest, host_ms / step_ms)
    costs["host"] += python
    costs["communication"] += rest - python
    return outcome_of(
        ended.analyze(),
        name=real_name(causes, strength, seed, ranks),
        kind="real",
        seed=seed,
        causes=causes,
        strength=strength,
        injected_ms=sum(injected.values()),
        step_ms=step_ms,
        rank=1 if any(CAUSES[c].one_rank for c in causes) else None,
        costs=costs,
        elastic=_elastic(costs, max((RECIPES[c].hides_ms for c in causes), default=0.0) / step_ms),
        lost=ended.contention(TIMED),
    )


def _elastic(costs: dict[str, float], hides: float) -> str:
    """Return the family whose small changes matter most; "" where that is the one that costs most.

    Transfers that outlast the part of backward beside them are what the step waits for all along:
    a little less compute there saves nothing, a little less transfer saves all of it.
    """
    if not hides:
        return ""
    changed = costs | {
        "compute": costs["compute"] - hides,
        "communication": costs["communication"] + hides,
    }
    return max(changed, key=lambda family: changed[family])


def _mean_ms(ended: Ended, part: Part) -> float:
    return float(np.mean([ended.mean_ms(part, rank, DEFAULT_WINDOW) for rank in ended.truth]))


def _worst_ms(ended: Ended, part: Part) -> float:
    """Return the mean of the rank that has most of it: the others wait for that rank."""
    return max(ended.mean_ms(part, rank, DEFAULT_WINDOW) for rank in ended.truth)


def real_name(causes: Sequence[str], strength: str, seed: int, ranks: int) -> str:
    """Return the name under which a real run is kept."""
    return f"real {'+'.join(causes) or 'none'} {strength} {seed} {ranks}"
