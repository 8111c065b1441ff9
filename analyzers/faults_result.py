"""The typed content of faults.json: what a killed rank cost, and whether the training came back.

Units stand in the names; shares are fractions of one. None: cannot be told, and `notes` say why.
"""

import msgspec

SCHEMA_VERSION = 1


class LossPair(msgspec.Struct, frozen=True, kw_only=True):
    """The loss of one step on one rank, without and with the kill; steps count over the job."""

    step: int
    rank: int
    attempt: int  # 0: before the kill
    uninterrupted: float
    killed: float


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """From the kill on: the first three sum to `total_s`."""

    detection_s: float  # kill -> the first new rank process starts; notice and clearing up
    restart_s: float  # -> the slowest rank's first new step begins; imports, rendezvous, loading
    lost_work_s: float  # -> the step after which the rank was killed has been done again
    total_s: float
    notice_s: float | None  # the part of detection until the launcher's log says so


class CheckpointCost(msgspec.Struct, frozen=True, kw_only=True):
    """Checkpoints of the uninterrupted run, slowest rank of each."""

    count: int
    median_ms: float
    every_steps: float | None  # None: fewer than two


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job on so many ranks, if each fails as assumed and writing and restarting take as here."""

    ranks: int
    mtbf_s: float  # of the whole job
    young_s: float
    daly_s: float
    best_s: float  # least expected time, exact for Poisson failures
    goodput: float  # at best_s
    goodput_now: float | None  # at the interval of the measured run


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of faults.json."""

    schema_version: int
    perfkit_version: str
    command: str
    ranks: int
    killed_rank: int
    killed_after_step: int
    passed: bool
    verdict: str  # resumed, wrong_loss, from_scratch, not_restarted, not_finished, losses_unknown
    sentence: str
    resumed_at_step: int | None  # the first step of the new attempt, counted over the job
    lost_steps: int | None
    steps_without_kill: int
    steps_done: int | None  # by the killed job in the end, counted over the job
    losses: tuple[LossPair, ...]
    difference: float | None  # largest relative one, from the checkpoint on
    difference_before: float | None  # the same before the kill: two runs with nothing done to them
    times: Times | None
    step_ms: float | None  # median of the uninterrupted run's steps without a checkpoint
    checkpoint: CheckpointCost | None
    goodput: float | None  # of the killed run: useful steps x step_ms over wall time
    mtbf_of_one_rank_s: float
    mtbf_source: str
    fleet: tuple[FleetRow, ...]
    notes: tuple[str, ...]
