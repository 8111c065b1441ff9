"""How often `perfkit optimize` would call equal code faster, and how much of a gain it finds.

    python benchmarks/bench_statistics.py [--draws 4000] [--runs 24]

Simulated: runs whose log step times scatter with the given sd, judged by the very functions that
the search uses (pilot, early look, all pairs). Real: one small training, again and again, with
nothing changed; consecutive runs are dealt to comparisons as a search would run them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from perfkit.analyzers.statistics import wilson
from perfkit.profiler.experiment import Experiment, Limits
from perfkit.recipes.measured import STEPS, WARM_UP, step_time
from perfkit.recipes.statistics import Outcome, is_plain, judge, noise_of
from perfkit.trace.run import open_run
from perfkit.trace.runner import Trial

JOB = Path(__file__).with_name("statistics_job.py")
NOISE = {"quiet": 0.005, "usual": 0.02, "shared": 0.05, "bad": 0.10}
GAINS = (1.0, 1.05, 1.10, 1.20)
Arm = Sequence[float]


def decided(base: Arm, variant: Arm) -> Outcome:
    """Decide as the search does; the arms hold as many pairs as the pilot asks for."""
    for pairs in range(3, len(base)):
        if is_plain(base[:pairs], variant[:pairs]):
            return judge(base[:pairs], variant[:pairs]).outcome
    return judge(base, variant).outcome


def simulate(sd: float, gain: float, draws: int, seed: int) -> list[Outcome]:
    """Return the decisions on `draws` recipes of that gain; `sd` of the log of a run's step."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        pilot = np.exp(chance.normal(0, sd, (2, 3)))
        pairs = noise_of(pilot[0].tolist(), pilot[1].tolist()).pairs
        arms = np.exp(chance.normal(0, sd, (2, pairs))) / np.array([[1.0], [gain]])
        found.append(decided(arms[0].tolist(), arms[1].tolist()))
    return found


def real(runs: int, folder: Path) -> list[float]:
    """Run the same training `runs` times; return each run's median step (ms)."""
    experiment = Experiment(folder, Limits(seconds=60, steps=STEPS, trace=False))
    trials = [Trial(name=f"run{k}", command=(sys.executable, str(JOB))) for k in range(runs)]
    times = []
    for ended in experiment.run(trials):
        step_ms, made = step_time(open_run([ended.run]), WARM_UP) if ended.ok else (None, 0)
        if step_ms is None:
            sys.exit(f"{ended.trial.name}: {ended.reason or f'only {made} steps'}")
        times.append(step_ms)
    return times


def dealt(times: Sequence[float]) -> Iterator[Outcome]:
    """Yield the decision of every comparison of five pairs that the runs hold, overlapping.

    They share runs, so that their number is no sample size.
    """
    for first in range(len(times) - 9):
        part = times[first : first + 10]
        yield decided(part[::2], part[1::2])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=24, help="real runs; 0: none")
    args = parser.parse_args()
    print(f"Simulated, {args.draws} draws a cell: share that is called faster (95 % interval)")
    print(f"{'noise':<8}{'sd of a run':>12}" + "".join(f"{f'gain {g - 1:.0%}':>28}" for g in GAINS))
    for row, (name, sd) in enumerate(NOISE.items()):
        cells = []
        for column, gain in enumerate(GAINS):
            outcomes = simulate(sd, gain, args.draws, seed=10 * row + column)
            found = wilson(sum(o is Outcome.FASTER for o in outcomes), args.draws)
            cells.append(f"{found.share:.2%} ({found.low:.2%}-{found.high:.2%})")  # type: ignore[union-attr]
        print(f"{name:<8}{sd:>12.1%}" + "".join(f"{cell:>28}" for cell in cells))
    if args.runs >= 10:
        with tempfile.TemporaryDirectory() as folder:
            times = real(args.runs, Path(folder) / "runs")
        outcomes = list(dealt(times))
        print()
        print(
            f"Real: {args.runs} equal runs, median step {np.median(times):.2f} ms, log sd of a "
            f"run {np.std(np.log(times), ddof=1):.2%}, load average {os.getloadavg()[0]:.1f}"
        )
        for outcome in Outcome:
            print(f"  {outcome.value:<13}{sum(o is outcome for o in outcomes):>4} of "
                  f"{len(outcomes)} overlapping comparisons")  # fmt: skip


if __name__ == "__main__":
    main()
