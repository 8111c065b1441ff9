"""Made-up analyses to look at: I/O-bound, hostile GPU ranks, no trace, a single rank."""

from msgspec.structs import replace

from perfkit.analyzers import result as r
from perfkit.analyzers.groups import group_rows, size_rows
from tests.report.further_parts import efficiency, networks, second_opinion
from tests.report.machine_parts import machines
from tests.report.parts import (
    HOSTILE,
    Shape,
    budget,
    collective,
    facts,
    operators,
    series,
    timeline,
)
from tests.report.roofline_parts import memory, roofline


def io_bound() -> r.Analysis:
    """Two CPU ranks; rank 1's loader is slow and makes rank 0 wait."""
    shape = Shape(
        per_rank=(
            {"compute": 61.0, "comm_transfer": 7.0, "comm_wait": 48.0, "input_wait": 3.0}
            | {"host_launch": 6.0, "other": 2.0},
            {"compute": 60.0, "comm_transfer": 7.0, "comm_wait": 0.0, "input_wait": 52.0}
            | {"host_launch": 6.0, "other": 2.0},
        ),
        unrecorded=("memcpy", "launch_latency", "idle_dependency", "host_sync", "host_alloc"),
    )
    return r.Analysis(
        schema_version=1,
        perfkit_version="0.1.0",
        world=r.World(size=2, nodes=1, analysed_ranks=(0, 1), device_kind="cpu", device_name=""),
        quality=r.Quality(status="ok", issues=(), cannot_tell=_cpu_limits()),
        steps=r.Steps(
            analysed=10,
            recorded=120,
            median_ms=124.0,
            p95_ms=131.5,
            p99_ms=222.8,
            profiled_median_ms=127.0,
            per_rank_median_ms=(123.1, 124.0),
            slow=(
                r.SlowStep(step=40, rank=0, ms=222.0, over_median=1.79, cause="checkpoint"),
                r.SlowStep(step=80, rank=0, ms=225.0, over_median=1.81, cause="checkpoint"),
            ),
            periodic=(r.Periodicity(every=40, cause="checkpoint", extra_ms=99.0, count=2),),
            drift_percent=0.4,
            input_wait_share=0.22,
            checkpoint_share=0.013,
            eval_steps=1,
            eval_ms=310.0,
            series=series(124.0, 120, 40, 2),
        ),
        throughput=r.Throughput(
            samples_per_s=129.0, tokens_per_s=16512.0, source="leading dimension of the batches"
        ),
        budget=budget(shape),
        verdict=_io_verdict(),
        clock=(r.Clock(domain="boot-1", offset_us=0.0, residual_us=None),),
        collectives=(collective("0", "all_reduce", 4 << 20, 2, {"1": 9, "0": 1}, 7.0, 24.0, 0.6),),
        stragglers=(r.Straggler(rank=1, class_="input_wait", excess_ms=49.0, share_of_steps=0.9),),
        findings=_io_findings(),
        operators=operators(("aten::addmm", "aten::mm", "aten::native_layer_norm")),
        timeline=timeline(2, 127_000.0, ("aten::addmm", "aten::mm", "aten::softmax")),
        run=facts("torchrun --nproc-per-node=2 train_cnn.py --workers 0"),
        roofline=roofline(("aten::addmm", "aten::mm", "aten::native_layer_norm"), placed=False),
    )


def _io_verdict() -> r.Verdict:
    return r.Verdict(
        label="mixed",
        mixed_of=("compute", "io"),
        tentative=False,
        dominant="compute",
        limiter="io",
        margin=0.07,
        confidence=0.991,
        reason="compute leads io by 7 points, under the 10 that a single name needs",
        sentence=(
            "Compute and I/O bound this step together: 48 % compute and 41 % I/O, of which rank 1 "
            "waits 52.0 ms a step for input while rank 0 waits 48.0 ms for rank 1."
        ),
        rollup_after_blame={"compute": 0.48, "communication": 0.055, "io": 0.41, "host": 0.055},
        severity={"communication": "moderate", "io": "high", "host": "moderate"},
        blame=(
            r.Blame(rank=1, class_="input_wait", ms=23.1),
            r.Blame(rank=-1, class_="unknown", ms=0.9),
        ),
    )


def _io_findings() -> tuple[r.Finding, ...]:
    return (
        r.Finding(
            id="slow-input",
            severity="high",
            title="Rank 1 waits for its input",
            evidence="52.0 ms of 127 ms a step inside DataLoader.__next__, 0 workers",
            ranks=(1,),
            recipe="dataloader_workers",
            gain_ceiling=1.69,
            next_step="DataLoader(..., num_workers=4, persistent_workers=True)",
            not_when="the loader's work is bound by a shared disk",
        ),
        r.Finding(
            id="checkpoint-blocks",
            severity="moderate",
            title="Every 40th step writes a checkpoint and all ranks wait",
            evidence="99.0 ms extra in steps 40 and 80",
            ranks=(0,),
            recipe=None,
            gain_ceiling=1.01,
            next_step="save asynchronously: torch.distributed.checkpoint.async_save",
        ),
        r.Finding(
            id="small-batches",
            severity="info",
            title="Python and launch cost 5 % of a step",
            evidence="6.0 ms a step on both ranks",
            ranks=(),
            recipe="compile",
            gain_ceiling=1.05,
            next_step="model = torch.compile(model)",
        ),
        r.Finding(
            id="threads",
            severity="info",
            title="Each rank uses 1 of 2 cores",
            evidence="torch.get_num_threads() is 1",
            ranks=(0, 1),
            recipe=None,
            gain_ceiling=None,
            next_step="OMP_NUM_THREADS=2 torchrun ...",
        ),
    )


def _cpu_limits() -> tuple[r.CannotTell, ...]:
    return (
        r.CannotTell(
            claim="which Python line launches late",
            why="stacks were not recorded",
            remedy="perfkit profile --with-stack -- CMD",
        ),
    )


def hostile_gpu(ranks: int = 8) -> r.Analysis:
    """GPU ranks bound by communication; names are hostile, much was not recorded."""
    per_rank = tuple(
        {"compute": 41.0, "comm_transfer": 52.0, "comm_wait": 9.0 if i else 1.0, "memcpy": 1.5}
        | {"host_sync": 2.0, "host_launch": 3.0, "launch_latency": 4.0, "idle_dependency": 2.5}
        | {"other": 0.0 if i else 8.0}
        for i in range(ranks)
    )
    quality = r.Quality(
        status="degraded",
        issues=(
            r.QualityIssue(
                code="MATCHED_BY_ORDER",
                severity="warning",
                message="collectives were matched by order: " + HOSTILE[0],
                ranks=tuple(range(ranks)),
            ),
            r.QualityIssue(code="NO_STEP_LINES", severity="info", message="a foreign trace"),
        ),
        cannot_tell=(r.CannotTell(claim="checkpoint time", why="no recorder", remedy=HOSTILE[1]),),
    )
    calls = (
        collective(HOSTILE[0], "all_reduce", 25 << 20, ranks, {"0": 31, "3": 9}, 4.7, 0.8, 9.1),
        collective(HOSTILE[4], HOSTILE[3], None, 2, {}, None, None, None),
        collective(HOSTILE[0], HOSTILE[1], 4 << 10, ranks, {"1": 8}, 0.1, 0.2, 0.07),
    )
    return r.Analysis(
        schema_version=1,
        perfkit_version="0.1.0",
        world=r.World(
            size=ranks,
            nodes=2,
            analysed_ranks=tuple(range(ranks)),
            device_kind="cuda",
            device_name="NVIDIA H100 " + HOSTILE[0],
        ),
        quality=quality,
        steps=r.Steps(
            analysed=4,
            recorded=0,
            median_ms=None,
            p95_ms=None,
            p99_ms=None,
            profiled_median_ms=116.0,
            per_rank_median_ms=(None,) * ranks,
        ),
        throughput=r.Throughput(samples_per_s=None, tokens_per_s=None, source=""),
        budget=budget(Shape(per_rank, ("checkpoint", "input_wait", "host_gc"), steps=4)),
        verdict=_comm_verdict(),
        clock=(
            r.Clock(domain=HOSTILE[5], offset_us=0.0, residual_us=3.1),
            r.Clock(domain="b", offset_us=-412.5, residual_us=None),
        ),
        collectives=calls,
        stragglers=(r.Straggler(rank=0, class_="other", excess_ms=8.0, share_of_steps=0.75),),
        findings=tuple(
            r.Finding(
                id=f"finding-{i}",
                severity="high" if i == 0 else "info",
                title=f"Finding about {text}",
                evidence=text,
                ranks=tuple(range(ranks)),
                recipe=None,
                gain_ceiling=1.8 if i == 0 else None,
                next_step=text,
                not_when=text,
            )
            for i, text in enumerate(HOSTILE)
        ),
        operators=operators((*HOSTILE, "nccl:all_reduce", *(f"kernel_{i}" for i in range(30)))),
        timeline=timeline(ranks, 116_000.0, HOSTILE),
        run=facts(
            "torchrun --nnodes 2 train.py --name '" + HOSTILE[0] + "'",
            hosts=("node-a", HOSTILE[0]),
            sources=HOSTILE,
            backend="nccl",
            exit_status=None,
            facts={HOSTILE[0]: HOSTILE[1], "nul": HOSTILE[5]},
        ),
        roofline=roofline(HOSTILE, ranks),
        groups=group_rows(calls),
        message_sizes=size_rows(calls),
        memory=memory(ranks),
        telemetry=machines(ranks),
        networks=networks(HOSTILE[0]),
        efficiency=efficiency(HOSTILE[1]),
        second_opinion=second_opinion(),
    )


def _comm_verdict() -> r.Verdict:
    return r.Verdict(
        label="communication",
        mixed_of=(),
        tentative=True,
        dominant="communication",
        limiter="communication",
        margin=0.17,
        confidence=0.98,
        reason="4 steps analysed, 8 are needed",
        sentence=(
            "Communication bounds this step: 52.0 ms of 116 ms move gradients that no compute "
            "hides, on all 8 ranks; group " + HOSTILE[0] + "."
        ),
        rollup_after_blame={"compute": 0.36, "communication": 0.53, "io": 0.013, "host": 0.097},
        severity={"communication": "high", "io": "none", "host": "moderate"},
        blame=(r.Blame(rank=0, class_="other", ms=8.0),),
    )


def no_trace() -> r.Analysis:
    """A run that ended before its window: step lines only."""
    whole = io_bound()
    empty = r.Budget(classes={}, rollup={}, per_rank=(), per_step=())
    return replace(
        whole,
        budget=empty,
        steps=replace(
            whole.steps,
            analysed=0,
            recorded=7,
            profiled_median_ms=None,
            series=whole.steps.series[:7],
            slow=(),
            periodic=(),
        ),
        verdict=r.Verdict(
            label="undetermined",
            mixed_of=(),
            tentative=True,
            dominant=None,
            limiter=None,
            margin=None,
            confidence=None,
            reason="no_trace",
            sentence="No trace was recorded: the run ended after 7 steps, before the window 10:19.",
            rollup_after_blame={},
            severity={},
            blame=(),
        ),
        quality=r.Quality(
            status="degraded",
            issues=(
                r.QualityIssue(
                    code="NO_TRACE",
                    severity="warning",
                    message="the run ended after 7 steps, before the window 10:19",
                ),
            ),
            cannot_tell=(
                r.CannotTell(
                    claim="what bounds a step",
                    why="no step was profiled",
                    remedy="perfkit profile --window 2:5 -- torchrun train.py",
                ),
            ),
        ),
        collectives=(),
        stragglers=(),
        findings=(),
        operators=(),
        timeline=None,
        roofline=None,
    )


def single_rank() -> r.Analysis:
    """One process that only computes."""
    shape = Shape(({"compute": 90.0, "host_launch": 5.0, "input_wait": 1.0, "other": 0.5},))
    whole = io_bound()
    return replace(
        whole,
        world=r.World(size=1, nodes=1, analysed_ranks=(0,), device_kind="cpu", device_name=""),
        budget=budget(shape),
        verdict=r.Verdict(
            label="compute",
            mixed_of=(),
            tentative=False,
            dominant="compute",
            limiter="host",
            margin=0.88,
            confidence=1.0,
            reason="",
            sentence="Compute bounds this step: 93 % of 96.5 ms.",
            rollup_after_blame={"compute": 0.933, "communication": 0.0, "io": 0.01, "host": 0.057},
            severity={"communication": "none", "io": "none", "host": "moderate"},
            blame=(),
        ),
        collectives=(),
        stragglers=(),
        findings=_io_findings()[2:3],
        timeline=timeline(1, 96_500.0, ("aten::mm",)),
        run=facts("python train.py", launcher="python", backend=""),
    )


SAMPLES = {
    "io_bound": io_bound,
    "hostile_gpu": hostile_gpu,
    "no_trace": no_trace,
    "single_rank": single_rank,
}
