"""What a fault run says in one sentence."""

from msgspec.structs import replace

from perfkit.analyzers.faults_result import Faults
from perfkit.units import number, seconds


def sentence(found: Faults, failure: str) -> Faults:
    """Return `found` with its sentence."""
    killed = f"Rank {found.killed_rank} was killed after step {found.killed_after_step}"
    told = {
        "resumed": _resumed,
        "wrong_loss": _wrong_loss,
        "from_scratch": _from_scratch,
        "losses_unknown": _losses_unknown,
    }.get(found.verdict)
    if told is not None:
        return replace(found, sentence=f"{killed}: {told(found)}.")
    what = (
        "no rank trained again"
        if found.verdict == "not_restarted"
        else "the ranks trained again, but the job did not finish"
    )
    return replace(found, sentence=f"{killed}: {what}{f' ({failure})' if failure else ''}.")


def _resumed(found: Faults) -> str:
    same = (
        "is the same to the last bit"
        if found.difference == 0
        else f"agrees to {_scientific(found.difference)}"
    )
    return (
        f"the job resumed at step {found.resumed_at_step}, {_lost(found)}, and every loss from "
        f"there on {same} as without the kill{_cost(found)}"
    )


def _lost(found: Faults) -> str:
    lost = found.lost_steps or 0
    return (
        f"{lost} step{'s' * (lost != 1)} were done twice" if lost != 1 else "1 step was done twice"
    )


def _cost(found: Faults) -> str:
    times = found.times
    if times is None:
        return ""
    return (
        f"; it cost {seconds(times.total_s)}: {seconds(times.detection_s)} until new ranks "
        f"started, {seconds(times.restart_s)} until they trained, {seconds(times.lost_work_s)} of "
        "lost work"
    )


def _wrong_loss(found: Faults) -> str:
    return (
        f"the job went on at step {found.resumed_at_step}, but its losses differ from those of the "
        f"uninterrupted run by up to {_scientific(found.difference)} of their size: something that "
        "decides them (weights, optimizer, random state, order of the data) is not restored"
    )


def _from_scratch(found: Faults) -> str:
    return (
        "the job started again from its beginning: no checkpoint was loaded, and "
        f"{number(found.lost_steps)} steps were lost"
    )


def _losses_unknown(found: Faults) -> str:
    if found.resumed_at_step is None:
        return "the job ran on, but where it resumed cannot be told from its steps and losses"
    return (
        f"the job ran on from step {found.resumed_at_step} by its count of steps; whether the "
        "losses are right cannot be told"
    )


def _scientific(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
