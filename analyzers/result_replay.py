"""The parts of analysis.json that rest on replaying the run: efficiency, second opinion."""

import msgspec


class EfficiencyFactor(msgspec.Struct, frozen=True, kw_only=True):
    """One factor of the parallel efficiency and what it says of this run."""

    name: str
    value: float | None  # in (0, 1]; None: cannot tell
    reading: str


class Efficiency(msgspec.Struct, frozen=True, kw_only=True):
    """The POP/TALP tree of the analysed steps: `parallel` is the product of the factors.

    load_balance * orchestration * io * communication; communication = serialisation * transfer
    where the replay on an ideal network supports the split.
    """

    parallel: float
    factors: tuple[EfficiencyFactor, ...]
    split: str  # "" or why communication is not split


class SecondOpinion(msgspec.Struct, frozen=True, kw_only=True):
    """The critical path over all ranks and at least two steps of the unmodified replay.

    shares: of the path's length, by class; a share is the elasticity of the step time to that
    class. refused: why there is none; agrees is then None.
    """

    steps: tuple[int, ...] = ()
    replay_error: float | None = None  # replayed / measured - 1
    shares: dict[str, float] = {}
    rollup: dict[str, float] = {}  # by family
    ranks: dict[str, float] = {}  # share of the path's tasks on each rank
    dominant: str | None = None
    agrees: bool | None = None  # with the largest family by exposed time after blame
    refused: str = ""
