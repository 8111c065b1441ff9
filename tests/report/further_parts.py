"""Made-up network fits, efficiencies and critical paths."""

from perfkit.analyzers.result_network import NetworkFit
from perfkit.analyzers.result_replay import Efficiency, EfficiencyFactor, SecondOpinion


def networks(group: str) -> tuple[NetworkFit, ...]:
    """One placement with a fit, one without."""
    return (
        NetworkFit(
            placement="one node",
            groups=(group,),
            ranks=8,
            calls=440,
            sizes=5,
            overlapped=True,
            alpha_us=11.0,
            alpha_interval_us=(9.0, 13.0),
            bandwidth_gbyte_per_s=331.0,
            bandwidth_interval_gbyte_per_s=(325.0, 339.0),
            valid_from_bytes=1 << 20,
            valid_to_bytes=1 << 30,
            median_residual=0.016,
            worst_residual=0.2,
            saturation_bytes=float(64 << 20),
            latency_ms=0.4,
            wire_ms=3.1,
        ),
        NetworkFit(
            placement="between nodes",
            groups=(),
            ranks=16,
            calls=2,
            sizes=1,
            overlapped=False,
            refused="two calls of one size " + group,
        ),
    )


def efficiency(reading: str) -> Efficiency:
    """Factors whose product is the whole; transfer cannot be told."""
    values = {
        "load_balance": 0.8,
        "orchestration": 0.5,
        "io": 1.0,
        "communication": 0.9,
        "serialisation": None,
        "transfer": None,
    }
    return Efficiency(
        parallel=0.36,
        factors=tuple(
            EfficiencyFactor(name=key, value=value, reading=reading)
            for key, value in values.items()
        ),
        split="the replay does not support it",
    )


def second_opinion() -> SecondOpinion:
    """A critical path that another family rules."""
    return SecondOpinion(
        steps=(10, 11, 12, 13),
        replay_error=0.012,
        shares={"host_launch": 0.7, "host_python": 0.2, "compute": 0.1},
        rollup={"host": 0.9, "compute": 0.1, "io": 0.0, "communication": 0.0},
        ranks={"1": 0.9, "0": 0.1},
        dominant="host",
        agrees=False,
    )
