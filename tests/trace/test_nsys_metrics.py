"""GPU metric samples of Nsight exports: the mean over the steps of each rank's own GPU."""

from pathlib import Path

from perfkit.trace.model import DeviceCounter, RankTrace
from perfkit.trace.run import load_rank, open_run
from tests.trace.nsys_files import PID, Export, two_steps

SMS, DRAM = "SMs Active [Throughput %]", "DRAM Read Bandwidth [Throughput %]"
TYPE = 0x0004_9300_0000


def with_metrics(made: Export, *gpus: int) -> Export:
    """Add samples every 250 us: GPU g has 10 g + 20 and + 40 in the two steps of 1 ms, 99 after."""
    named = [(TYPE | g, m, text) for g in gpus for m, text in ((3, SMS), (4, DRAM))]
    made.add("TARGET_INFO_GPU_METRICS", ("typeId", "metricId", "metricName"), named)
    rows = [
        (at, TYPE | gpu, 3, 10 * gpu + (20 if at < 1_000_000 else 40 if at < 2_000_000 else 99))
        for at in range(125_000, 4_000_000, 250_000)
        for gpu in gpus
    ]
    rows += [(at, TYPE | gpu, 4, 7) for at, _, _, _ in rows[:1] for gpu in gpus]
    made.add("GPU_METRICS", ("timestamp", "typeId", "metricId", "value"), rows)
    made.add("TARGET_INFO_GPU", ("id", "name"), [(gpu, "H100") for gpu in gpus])
    return made


def read(made: Export, tmp_path: Path) -> list[RankTrace]:
    run = open_run([made.write(tmp_path / "r.sqlite")])
    return [load_rank(record, cache=None) for record in run.ranks]


def test_means_over_the_steps(tmp_path: Path) -> None:
    (trace,) = read(with_metrics(two_steps(), 0), tmp_path)
    assert trace.counters == (
        DeviceCounter(name=DRAM, mean=7.0, samples=1),
        DeviceCounter(name=SMS, mean=30.0, samples=8),
    )
    assert "METRICS_NOT_USED" not in {issue.code for issue in trace.issues}


def test_each_process_has_its_own_gpu(tmp_path: Path) -> None:
    made = with_metrics(two_steps(export=two_steps(pid=90, device=1)), 0, 1)
    owners = [(PID, 0, 1), (90, 1, 0)]  # devices are numbered the other way round
    made.add("TARGET_INFO_CUDA_DEVICE", ("pid", "cudaId", "gpuId"), owners)
    found = [
        next(c.mean for c in trace.counters if c.name == SMS) for trace in read(made, tmp_path)
    ]
    assert found == [40.0, 30.0]


def test_without_a_map_the_gpu_of_one_among_several_is_unknown(tmp_path: Path) -> None:
    (trace,) = read(with_metrics(two_steps(), 0, 1), tmp_path)
    assert trace.counters == ()
    assert "METRICS_NOT_USED" in {issue.code for issue in trace.issues}
