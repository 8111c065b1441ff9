"""The verdict in one plain sentence with its evidence."""

from collections.abc import Sequence

from perfkit.analyzers.cannot_tell import reachable_window
from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import Blame, CollectiveRow
from perfkit.analyzers.transfer_limits import transfer_ms
from perfkit.analyzers.verdict import Decision, gain_ceiling
from perfkit.trace.kinds import ROLLUP, TimeClass
from perfkit.units import bandwidth, milliseconds, percent, ratio

NOTABLE = 0.05
"""Waits below this share of the window are not worth half a sentence."""

_LABELS = {
    "compute": "Compute-bound",
    "communication": "Communication-bound",
    TimeClass.INPUT_WAIT: "Input-bound",
    TimeClass.CHECKPOINT: "Checkpoint-bound",
    TimeClass.MEMCPY: "Copy-bound",
    "host": "Host-bound",
}
_FAMILY_NAMES = {
    "compute": "compute",
    "communication": "communication",
    "io": "input and output",
    "host": "host overhead",
}
_DOING = {
    TimeClass.INPUT_WAIT: ("waits {} for its data loader", "wait {} for their data loaders"),
    TimeClass.CHECKPOINT: ("spends {} on checkpoints", "spend {} on checkpoints"),
    TimeClass.MEMCPY: (
        "spends {} copying between host and device",
        "spend {} copying between host and device",
    ),
}
_HOST = {
    TimeClass.HOST_LAUNCH: "Python and the dispatcher",
    TimeClass.HOST_SYNC: "waiting for the device",
    TimeClass.HOST_ALLOC: "allocating device memory",
    TimeClass.HOST_COMPILE: "compiling",
    TimeClass.HOST_GC: "garbage collection",
    TimeClass.LAUNCH_LATENCY: "launch latency",
    TimeClass.IDLE_DEPENDENCY: "dependencies between streams",
    TimeClass.OTHER: "causes that nothing recorded",
}
_REASONS = {
    "wait_not_separable": "the time in collectives cannot be split into waiting for another rank "
    "and transferring data, and it is enough to change the answer",
    "capture_unusable": "the capture is unusable",
    "device_idle_uncertain": "the device seems idle because of the host, but kernels that ran are "
    "missing from the trace",
    "no_steps": "no step was captured whole",
    "no_trace": "there is no trace, and step lines alone show only input and checkpoint time",
}


def verdict_sentence(decision: Decision, evidence: Evidence) -> str:
    """Say what bounds the step, on which rank, with what evidence."""
    if decision.label == "undetermined":
        return _undetermined(decision, evidence)
    if not evidence.surveys:
        return _from_step_lines(evidence)
    if decision.label == "mixed":
        text = _mixed(decision)
        return text + _waits(evidence) + _limiter(decision, skip=decision.mixed_of)
    text = {
        "compute": _compute,
        "communication": _communication,
        "io": _io,
        "host": _host,
    }[decision.label](evidence)
    return text + _limiter(decision, skip=(decision.label,))


def _mixed(decision: Decision) -> str:
    parts = [f"{_FAMILY_NAMES[f]} {percent(decision.shares[f])}" for f in decision.mixed_of]
    text = f"Mixed: {' and '.join(parts)} of the step"
    if decision.reason == "low_confidence" and decision.confidence is not None:
        leader, lost = _FAMILY_NAMES[decision.mixed_of[0]], percent(1.0 - decision.confidence)
        text += f", but {leader} does not lead in {lost} of resampled windows"
    if decision.reason == "profiler_dilation":
        text += ", but the profiler's own cost may be what puts the host first"
    if decision.reason == "second_opinion":
        other = _FAMILY_NAMES[decision.mixed_of[1]]
        text += (
            f"; by exposed time the former leads, but {percent(decision.path_share)} of the "
            f"critical path is {other}"
        )
    return text


def _step(evidence: Evidence) -> str:
    return f"of each {milliseconds(evidence.mean_window_ms)} step"


def _compute(evidence: Evidence) -> str:
    busy = milliseconds(evidence.ms(TimeClass.COMPUTE))
    who = "the device computes" if evidence.on_device else "ranks compute"
    return f"{_LABELS['compute']}: {who} for {busy} {_step(evidence)}{_waits(evidence)}"


def _communication(evidence: Evidence) -> str:
    exposed = sum(evidence.ms(c) for c in ROLLUP["communication"])
    text = (
        f"{_LABELS['communication']}: {milliseconds(exposed)} {_step(evidence)} "
        "pass in communication that no compute hides"
    )
    if evidence.collectives:
        name = _most_exposed(evidence)
        text += f", mostly {name or 'unnamed transfers'}"
        speed = _bus_bandwidth([r for r in evidence.collectives if r.name == name])
        if speed is not None:
            text += f" at {bandwidth(speed)} bus bandwidth"
    return text + _waits(evidence)


def _most_exposed(evidence: Evidence) -> str:
    exposed: dict[str, float] = {}
    for row in evidence.collectives:
        exposed[row.name] = exposed.get(row.name, 0.0) + row.exposed_ms * row.mean_count
    return max(exposed, key=lambda name: exposed[name])


def _bus_bandwidth(rows: Sequence[CollectiveRow]) -> float | None:
    """Return what calls of several sizes had together: all their bus bytes over all their time."""
    known = [(r.busbw_gbyte_per_s, transfer_ms(r)) for r in rows if r.busbw_gbyte_per_s is not None]
    total = sum(ms for _, ms in known)
    return sum(speed * ms for speed, ms in known) / total if total else None


def _io(evidence: Evidence) -> str:
    cause = max(ROLLUP["io"], key=evidence.share)
    per_rank = evidence.rank_ms(cause)
    most = max(per_rank.values(), default=0.0)
    late = [rank for rank, ms in per_rank.items() if ms >= 0.5 * most]
    mean = sum(per_rank[rank] for rank in late) / max(len(late), 1)
    doing = _DOING[cause][len(late) > 1].format(f"{milliseconds(mean)} {_step(evidence)}")
    return f"{_LABELS[cause]}: {_names(late)} {doing}{_waits(evidence)}"


def _host(evidence: Evidence) -> str:
    cause = max(ROLLUP["host"], key=evidence.share)
    spent = milliseconds(sum(evidence.ms(c) for c in ROLLUP["host"]))
    idle = "the device is idle" if evidence.on_device else "nothing computes"
    return (
        f"{_LABELS['host']}: {idle} for {spent} {_step(evidence)} because of the host, "
        f"mostly {_HOST[cause]}{_waits(evidence)}"
    )


def _waits(evidence: Evidence) -> str:
    """Say who waits for whom and why, if it costs something."""
    wait, late = evidence.ms(TimeClass.COMM_WAIT), evidence.late_rank
    if wait < NOTABLE * evidence.mean_window_ms:
        return ""
    if late is None:
        return _for_nobody(evidence)
    reasons = [b for b in evidence.blame if b.rank == late]
    if not reasons or sum(b.ms for b in reasons) < 0.5 * wait:
        return "; ranks wait for each other in turn"
    others = [r for r in evidence.surveys if r != late]
    verb = "waits" if len(others) == 1 else "wait"
    reason = max(reasons, key=lambda b: b.ms)
    return f"; {_names(others)} {verb} for rank {late} in {_where(evidence)}{_because(reason)}"


def _for_nobody(evidence: Evidence) -> str:
    if evidence.unsure_late:
        return "; ranks wait for each other, and their clocks do not tell for which one"
    return "; ranks wait for each other, none of them late more often than chance allows"


def _because(reason: Blame) -> str:
    names = {
        "compute": "its longer compute",
        "input_wait": "its data loader",
        "checkpoint": "its checkpoint",
        "memcpy": "its copies",
        "comm_transfer": "its other communication",
        "host_launch": "its Python code",
        "host_gc": "its garbage collection",
        "host_sync": "its waits for the device",
        "host_compile": "its compilation",
        "host_alloc": "its memory allocation",
    }
    return f" because of {names.get(reason.class_, 'its host')}"


def _where(evidence: Evidence) -> str:
    waiting = [r for r in evidence.collectives if r.wait_ms]
    if not waiting:
        return "collectives"
    return max(waiting, key=lambda r: (r.wait_ms or 0.0) * r.count).name


def _names(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) <= 4:
        return "ranks " + ", ".join(map(str, ranks[:-1])) + f" and {ranks[-1]}"
    return f"{len(ranks)} ranks"


def _limiter(decision: Decision, skip: tuple[str, ...]) -> str:
    if decision.limiter is None or decision.limiter in skip:
        return ""
    share = decision.shares[decision.limiter]
    ceiling = ratio(gain_ceiling(share))
    return (
        f"; the largest recoverable part is {_FAMILY_NAMES[decision.limiter]} with "
        f"{percent(share)} (at most {ceiling} faster without it)"
    )


def _undetermined(decision: Decision, evidence: Evidence) -> str:
    text = f"Cannot tell what bounds the step: {_REASONS.get(decision.reason, decision.reason)}"
    known = [f for f in ("compute", "communication", "io", "host") if f in decision.shares]
    if evidence.surveys and known:
        parts = ", ".join(f"{_FAMILY_NAMES[f]} {percent(decision.shares[f])}" for f in known)
        text += f" ({parts})"
    if decision.reason == "no_trace":
        text += f"; {_step_line_facts(evidence)}rerun with {_rerun(evidence)}"
    return text


def _from_step_lines(evidence: Evidence) -> str:
    return f"Input-bound by the step lines: {_step_line_facts(evidence).rstrip('; ')}"


def _step_line_facts(evidence: Evidence) -> str:
    steps = evidence.whole.steps
    if steps.median_ms is None or steps.input_wait_share is None:
        return ""
    parts = [f"{percent(steps.input_wait_share)} of the time goes into waiting for input"]
    if steps.checkpoint_share:
        parts.append(f"{percent(steps.checkpoint_share)} into checkpoints")
    return " and ".join(parts) + f" (median step {milliseconds(steps.median_ms)}); "


def _rerun(evidence: Evidence) -> str:
    """Return the line that captures a window this run would have reached."""
    command = ""
    for node in evidence.run.nodes:
        line = node.facts.get("command_line")
        command = str(line) if line else command
    return f"`perfkit profile --window {reachable_window(evidence)} -- {command or 'CMD'}`"
