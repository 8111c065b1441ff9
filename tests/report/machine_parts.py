"""Made-up telemetry: machines whose names are hostile, one GPU of them slowed for a while."""

from perfkit.analyzers.result_telemetry import GpuLoad, GpuPoint, LoadPoint, NodeLoad, RankLoad
from tests.report.parts import HOSTILE


def machines(ranks: int) -> tuple[NodeLoad, ...]:
    """Two machines with half of the ranks and GPUs each, sampled for two minutes."""
    per_node = ranks // 2
    return tuple(_node(HOSTILE[n], range(n * per_node, (n + 1) * per_node)) for n in range(2))


def _node(name: str, ranks: range) -> NodeLoad:
    return NodeLoad(
        node=name,
        samples=120,
        seconds=120.0,
        processors=64,
        busy_cores=14.0,
        own_cores=9.5,
        other_cores=4.5,
        stolen_cores=0.0,
        least_free_memory_bytes=200 << 30,
        disk_read_bytes_per_s=3.2e8,
        disk_written_bytes_per_s=None,
        net_sent_bytes_per_s=1.1e9,
        net_received_bytes_per_s=1.2e9,
        ranks=tuple(
            RankLoad(rank=rank, peak_rss_bytes=9 << 30, cpu_cores=1.2, queued_share=0.01)
            for rank in ranks
        ),
        gpus=tuple(_gpu(i, hot=rank == 3) for i, rank in enumerate(ranks)),
        series=tuple(
            LoadPoint(
                at_s=i + 0.5,
                busy_cores=14.0 + i % 7,
                own_cores=9.5 + i % 3,
                free_memory_bytes=(200 + i % 9) << 30,
            )
            for i in range(120)
        ),
    )


def _gpu(index: int, *, hot: bool) -> GpuLoad:
    def point(second: int) -> GpuPoint:
        slowed = hot and 60 <= second < 90
        return GpuPoint(
            at_s=second + 0.5,
            utilisation_percent=97.0,
            sm_mhz=1110.0 if slowed else 1980.0 - 15 * (second % 4),
            power_w=410.0 if slowed else 660.0 + second % 13,
            temp_c=91.0 if slowed else 64.0,
            slowed=slowed,
        )

    return GpuLoad(
        index=index,
        name=HOSTILE[2],
        utilisation_percent=97.0,
        peak_memory_bytes=70 << 30,
        sm_mhz=1965.0,
        max_sm_mhz=1980.0,
        power_w=655.0,
        power_limit_w=700.0,
        peak_temp_c=91.0 if hot else 64.0,
        slowed_share=0.25 if hot else 0.0,
        power_capped_share=0.1,
        slowed_sm_mhz=1110.0 if hot else None,
        new_ecc_errors=0,
        xids=(79,) if hot else (),
        series=tuple(point(second) for second in range(120)),
    )
