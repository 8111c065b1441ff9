"""Parts of made-up analyses: budgets, series, timelines, tables; sums hold, nothing is measured."""

from dataclasses import dataclass

from perfkit.analyzers import result as r

ROLLUP = {
    "compute": ("compute",),
    "communication": ("comm_transfer", "pipe_bubble", "comm_wait", "comm_unmatched"),
    "io": ("memcpy", "checkpoint", "input_wait"),
    "host": (
        "host_sync",
        "host_alloc",
        "host_compile",
        "host_gc",
        "host_launch",
        "launch_latency",
        "idle_dependency",
        "other",
    ),
}
CLASSES = tuple(c for classes in ROLLUP.values() for c in classes)

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}",
    "\"quoted\" 'name' `tick`",
    "x" * 10_240,
    "\u202eevil\u2066 مرحبا",
    "nul\x00bell\x07esc\x1b[31mred",
    "<!--<script>",
)


@dataclass(frozen=True)
class Shape:
    """What a made-up run spends its time on: milliseconds per step, one mapping a rank."""

    per_rank: tuple[dict[str, float], ...]
    unrecorded: tuple[str, ...] = ()
    steps: int = 10


def budget(shape: Shape) -> r.Budget:
    def times(classes: dict[str, float], window: float) -> dict[str, r.ClassTime | None]:
        return {
            c: None
            if c in shape.unrecorded
            else r.ClassTime(ms=classes.get(c, 0.0), share=classes.get(c, 0.0) / window)
            for c in CLASSES
        }

    windows = [sum(classes.values()) for classes in shape.per_rank]
    mean = {c: sum(x.get(c, 0.0) for x in shape.per_rank) / len(shape.per_rank) for c in CLASSES}
    total = sum(mean.values())
    return r.Budget(
        classes=times(mean, total),
        rollup=rollup(mean),
        per_rank=tuple(
            r.RankBudget(rank=rank, window_ms=window, classes=times(classes, window))
            for rank, (classes, window) in enumerate(zip(shape.per_rank, windows, strict=True))
        ),
        per_step=tuple(
            step_budget(rank, step, classes)
            for step in range(10, 10 + shape.steps)
            for rank, classes in enumerate(shape.per_rank)
        ),
    )


def rollup(mean: dict[str, float]) -> dict[str, float]:
    total = sum(mean.values())
    return {f: sum(mean.get(c, 0.0) for c in classes) / total for f, classes in ROLLUP.items()}


def step_budget(rank: int, step: int, classes: dict[str, float]) -> r.StepBudget:
    scaled = {c: ms * (1 + 0.04 * ((step * 7 + rank * 3) % 5 - 2)) for c, ms in classes.items()}
    return r.StepBudget(rank=rank, step=step, window_ms=sum(scaled.values()), classes_ms=scaled)


def series(median: float, count: int, every: int, ranks: int) -> tuple[r.StepPoint, ...]:
    def point(step: int) -> r.StepPoint:
        saves = every > 0 and step > 0 and step % every == 0
        wobble = median * 0.05 * ((step * 13) % 7 - 3) / 3
        checkpoint = median * 0.8 if saves else 0.0
        return r.StepPoint(
            step=step,
            ms=median + wobble + checkpoint,
            rank=step % ranks,
            input_wait_ms=median * 0.3,
            checkpoint_ms=checkpoint,
            profiled=10 <= step < 20,
            has_eval=step == 50,
        )

    return tuple(point(step) for step in range(count))


def timeline(ranks: int, span: float, names: tuple[str, ...]) -> r.Timeline:
    lanes = []
    for rank in range(ranks):
        late = span * 0.06 * (rank % 3)
        work = [
            r.TimelineSpan(
                start_us=late + i * span * 0.009,
                duration_us=span * 0.008,
                class_="compute",
                label=names[i % len(names)],
            )
            for i in range(60)
        ]
        reduce = [
            r.TimelineSpan(
                start_us=late + span * (0.3 + 0.12 * i),
                duration_us=span * 0.24 - late if i == 3 else span * 0.05,
                class_="comm_wait" if i == 3 and rank != 2 else "comm_transfer",
                label="all_reduce float32 4.0 MiB",
                collective=i,
            )
            for i in range(4)
        ]
        fetch = r.TimelineSpan(
            start_us=0.0, duration_us=late + 1.0, class_="input_wait", label="DataLoader.__next__"
        )
        host = r.TimelineSpan(
            start_us=span * 0.9,
            duration_us=span * 0.08,
            class_="host_launch",
            label="Optimizer.step#AdamW.step",
            events=312,
        )
        for lane, spans in (
            ("compute", work),
            ("communication", reduce),
            ("input", [fetch]),
            ("host", [host]),
        ):
            lanes.append(r.TimelineLane(rank=rank, lane=lane, spans=tuple(spans)))
    windows = tuple((rank, 0.0, span * 0.99) for rank in range(ranks))
    return r.Timeline(step=12, span_us=span, lanes=tuple(lanes), windows=windows, merged=True)


def facts(command: str, **changes: object) -> r.RunFacts:
    values: dict[str, object] = {
        "run_id": "20261121-0143-gpt",
        "command": command,
        "launcher": "torchrun",
        "started_utc": "2026-11-21T01:43:24Z",
        "exit_status": 0,
        "hosts": ("node-a",),
        "torch": "2.13.0+cpu",
        "python": "3.11.7",
        "backend": "gloo",
        "model": "MiniGPT, 10.8 M parameters, 43.2 MB",
        "sources": ("attempt0/rank00000.0.4242/trace-0010-0019.json.gz",),
        "facts": {"precision": "float32", "DDP bucket": "25 MiB", "loader workers": "0"},
    }
    return r.RunFacts(**(values | changes))  # type: ignore[arg-type]


def collective(
    group: str,
    name: str,
    size: int | None,
    ranks: int,
    last: dict[str, int],
    transfer: float | None,
    wait: float | None,
    busbw: float | None,
) -> r.CollectiveRow:
    return r.CollectiveRow(
        group=group,
        name=name,
        dtype="float32",
        bytes=size,
        ranks=ranks,
        count=11.0,
        transfer_ms=transfer,
        wait_ms=wait,
        exposed_ms=2.4,
        algbw_gbyte_per_s=busbw,
        busbw_gbyte_per_s=busbw,
        last_arriver=last,
        matched_by="sequence" if transfer is not None else "unmatched",
    )


def operators(names: tuple[str, ...]) -> tuple[r.OperatorRow, ...]:
    return tuple(
        r.OperatorRow(
            name=name,
            kind=("operator", "kernel", "collective", "copy")[i % 4],
            count=96.0 / (i + 1),
            ms=40.0 / (i + 1) ** 1.3,
            share=0.31 / (i + 1) ** 1.3,
            shapes="[[64, 1024], [1024, 4096]]" if i % 2 == 0 else "",
        )
        for i, name in enumerate(names)
    )
