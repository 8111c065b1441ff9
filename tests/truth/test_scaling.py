"""Real sweeps: the GPT example on this machine, known causes, and a network that is shaped.

The sweep over eight namespaces takes some minutes: it runs with PERFKIT_SCALE_TRUTH=1 (make
scale-truth).
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from perfkit.analyzers.scaling_result import Scaling, ScalingPoint
from tests.truth.harness import PERFKIT, RANKS, ROOT, TORCHRUN, WORKLOAD

pytestmark = pytest.mark.real

BRIDGE = Path(__file__).with_name("bridge.py")
EXAMPLE = ROOT / "examples" / "train_gpt_ddp.py"
LAUNCH = (*TORCHRUN, "--standalone", "--nproc-per-node={ranks}")
SMALL_GPT = (str(EXAMPLE), "--layers=2", "--width=128", "--context=64", "--batch-size={batch}")
SHORT = ("--steps=17", "--window=6:8", "--repeats=1", "--time-limit=250s", "--json")


def scale(folder: Path, *arguments: str) -> Scaling:
    """Run `perfkit scale` in a folder of its own, and return its JSON."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [*PERFKIT, "scale", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=Scaling)


def point(found: Scaling, ranks: int) -> ScalingPoint:
    (own,) = (p for p in found.points if p.ranks == ranks)
    return own


def codes(found: Scaling) -> set[str]:
    return {warned.code for warned in found.warnings}


def test_strong_scaling_of_the_example_with_more_ranks_than_cores(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    counts = (1, 2, 2 * cores)
    listed = ",".join(map(str, counts))
    sweep = ("--ranks", listed, "--mode=strong", f"--batch={8 * cores}", "--out=sweep")
    found = scale(tmp_path, *sweep, *SHORT, "--", *LAUNCH, *SMALL_GPT, "--steps=500")
    assert found.mode == "strong"
    assert [p.samples_per_step for p in found.points] == [8.0 * cores] * 3
    assert point(found, 2 * cores).oversubscribed and "OVERSUBSCRIBED" in codes(found)
    assert not point(found, 2 * cores).in_fit
    if cores == 2:
        assert found.fits is None and "a fit needs three" in found.fit_refused
    for own in found.points:
        missing = own.step_ms - own.ideal_ms
        assert sum(loss.ms for loss in own.losses) == pytest.approx(missing, abs=1e-6)
    assert (tmp_path / "sweep" / "scale.html").stat().st_size > 20_000
    again = scale(tmp_path, *sweep, *SHORT, "--", *LAUNCH, *SMALL_GPT, "--steps=500")
    assert again == found  # nothing was run again


def workload(tmp_path: Path, *flags: str) -> tuple[str, ...]:
    launch = (*RANKS, str(WORKLOAD), f"--truth={tmp_path / 'truth'}")
    return (*launch, "--batch-size={batch}", "--steps=60", *flags)


def test_a_slow_rank_is_load_imbalance_and_not_communication(tmp_path: Path) -> None:
    """Rank 1 works, asleep, 120 ms longer than the 30 of the others."""
    slow = ("--accelerator-ms=30", "--slow-accelerator-ms=120", "--fault-ranks", "1")
    sweep = ("--ranks=1,2", "--mode=weak", "--batch=8", "--out=sweep")
    found = scale(tmp_path, *sweep, *SHORT, "--", *workload(tmp_path, *slow))
    assert found.mode == "weak"
    assert [p.samples_per_step for p in found.points] == [8.0, 16.0]
    two = point(found, 2)
    assert two.speed_up == pytest.approx(2 * two.efficiency)
    assert two.main_loss == "load_imbalance"
    causes = {loss.cause: loss.ms for loss in two.losses}
    assert causes["load_imbalance"] > 3 * causes.get("exposed_transfer", 0.0)
    assert causes["load_imbalance"] > 3 * causes.get("straggler_wait", 0.0)


def test_a_loader_that_does_not_scale_is_input(tmp_path: Path) -> None:
    loader = ("--width=128", "--accelerator-ms=20", "--loader-ms=150")
    sweep = ("--ranks=1,2", "--mode=strong", "--batch=8", "--out=sweep")
    found = scale(tmp_path, *sweep, *SHORT, "--", *workload(tmp_path, *loader))
    two = point(found, 2)
    assert two.main_loss == "input"
    assert two.losses[0].ms == pytest.approx(150 / 2, rel=0.2)


@pytest.mark.needs_root
@pytest.mark.needs_tc
@pytest.mark.skipif(
    not os.environ.get("PERFKIT_SCALE_TRUTH"), reason="takes minutes: make scale-truth"
)
def test_a_shaped_network_is_found_and_eight_ranks_are_predicted_from_four(tmp_path: Path) -> None:
    ranks = (sys.executable, str(BRIDGE), "--ranks={ranks}", "--batch={batch}")
    own = [sys.executable, str(WORKLOAD), f"--truth={tmp_path / 'truth'}", "--batch-size={batch}"]
    own += ["--width=512", "--layers=4", "--bucket-mb=1", "--accelerator-ms={ms}", "--steps=40"]
    command = (*ranks, "--rate=200mbit", "--ms-per-sample=6", "--", *own)
    limits = ("--steps=26", "--window=8:13", "--repeats=1", "--time-limit=100s", "--json")
    sweep = ("--ranks=1,2,4,8", "--mode=strong", "--batch=64", "--out=sweep")
    whole = scale(tmp_path, *sweep, *limits, "--use-oversubscribed", "--", *command)
    assert point(whole, 8).main_loss == "exposed_transfer"

    runs = [f"sweep/ranks{p}-run1" for p in (1, 2, 4)]
    found = scale(
        tmp_path, "--from", *runs, "--use-oversubscribed", "--predict=8", "--out=half", "--json"
    )
    assert found.fits is not None and found.fits.link is not None
    shaped = 200e6 / 8 / 1e9
    assert found.fits.link.bandwidth_gbyte_per_s == pytest.approx(shaped, rel=0.1)
    (guess,) = found.predictions
    assert guess.step_ms == pytest.approx(point(whole, 8).step_ms, rel=0.1)
