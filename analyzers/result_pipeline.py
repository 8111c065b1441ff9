"""The part of analysis.json that describes pipeline parallelism."""

import msgspec


class PipelineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule of a pipeline and its bubble, measured and by the schedule's formula.

    Two denominators are in use: over_total is the bubble's share of the step, over_ideal its
    ratio to the computation. The formula assumes equal stages and free transfers; None where the
    schedule is not recognised or its formula needs times that the capture does not hold.
    """

    stages: int
    ranks: tuple[int, ...]  # by stage
    schedule: str | None  # naive, gpipe, 1f1b, interleaved, zb-h1; None: cannot tell
    candidates: tuple[str, ...]
    micro_batches: int | None
    chunks: int | None  # model chunks a stage
    exact: bool  # every pass is in the schedule's own order
    source: str  # "names of passes" or "sends and receives"
    reason: str
    bubble_ms: float | None  # per step, mean over ranks; None: sends and receives are unmatched
    bubble_over_total: float | None
    bubble_over_ideal: float | None
    formula_over_total: float | None
    formula_over_ideal: float | None
    sentence: str
