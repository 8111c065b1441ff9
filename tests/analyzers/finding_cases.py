"""For every finding a run that has what it names, and the same run without that.

What differs is said in `without`; everything else is alike.
"""

from perfkit.trace.kinds import Kind
from tests.analyzers import test_model_findings as model
from tests.analyzers import test_network as network
from tests.analyzers.finding_runs import (
    ALL_USED,
    CAPPED,
    GIB,
    HELD,
    HOT,
    MIB,
    ONE_MB,
    SEARCHING,
    SMALL,
    WRITER,
    Case,
    ddp,
    errors,
    gap,
    in_a_graph,
    lines,
    memory,
    no_gap,
    one_rank_of_two,
    optimizer,
    products,
    ranks,
    sampled,
    tensor_parallel,
    tiny_under_compute_beside_a_large_one,
    turns,
    wired,
)
from tests.analyzers.test_findings import analysed, one_step
from tests.analyzers.test_pipeline_facts import analysed as analysed_pipeline
from tests.analyzers.test_pipeline_facts import played
from tests.analyzers.test_stragglers import analysed as held_up
from tests.analyzers.test_stragglers import gpu_rank
from tests.builders import alloc, checkpoint, compiling, gc_pause, h2d, host, input_wait, op, sync

CASES = (
    Case(
        id="slow_loader",
        run=gap(input_wait(at_ms=40, ms=20)),
        evidence="20% of the step, counting the ranks that wait for the late one; waiting per "
        "step: rank 0 20.0 ms",
        ceiling=100 / 80,
        without={"fetched while the device works": no_gap(input_wait(at_ms=40, ms=20))},
    ),
    Case(
        id="pageable_copies",
        run=gap(h2d(at_ms=40, ms=20, pageable=True)),
        evidence="copies from pageable memory take 20.0 ms per step (1 MiB, in 1); 20% of the "
        "step is copies",
        ceiling=100 / 80,
        without={
            "copied beside kernels": no_gap(h2d(at_ms=40, ms=20, pageable=True)),
            "beside kernels, and pinned copies stand alone": gap(
                h2d(at_ms=10, ms=20, pageable=True), h2d(at_ms=40, ms=20)
            ),
            "too small for their memory to matter": gap(
                *(h2d(at_ms=40 + n, ms=1, pageable=True, size_bytes=512) for n in range(20))
            ),
        },
    ),
    Case(
        id="exposed_copies",
        run=gap(h2d(at_ms=40, ms=20)),
        evidence="copies take 20.0 ms per step in which nothing else runs, 20% of it; 1 per step, "
        "of 1 MiB",
        ceiling=100 / 80,
        without={"copied beside kernels": no_gap(h2d(at_ms=40, ms=20))},
    ),
    Case(
        id="checkpoint_stall",
        run=gap(checkpoint(at_ms=40, ms=20)),
        evidence="saving takes 20% of the time",
        ceiling=100 / 80,
        without={
            "written by another thread": no_gap(
                host(Kind.CHECKPOINT, "perfkit::checkpoint", at_ms=40, ms=20, thread=WRITER)
            )
        },
    ),
    Case(
        id="no_overlap",
        run=ranks(80, 20, elements=10**7),
        evidence="20.0 ms of 20.0 ms of transfers per step stand alone, beside 80.0 ms of compute "
        "that hides none",
        ceiling=100 / 80,
        without={
            "overlapped": ranks(80, 20, hidden_ms=20, elements=10**7),
            "needed at once by tensor parallel layers": tensor_parallel,
        },
    ),
    Case(
        id="slow_transfers",
        run=ranks(2, 98, elements=10**7),
        evidence="98.0 ms of transfers against 2.00 ms of compute per step; 98% of the step is "
        "exposed",
        ceiling=100 / 2,
        without={"hidden under as much compute": ranks(98, 98, hidden_ms=98, elements=10**7)},
    ),
    Case(
        id="latency_bound_transfers",
        run=wired(SMALL, 2.0),
        evidence="latency takes 4.32 ms and bytes 1.42 ms, by 20.0 us a ring step and 10.0 GB/s "
        "within one node",
        ceiling=7.7384 / (7.7384 - 4.32),
        without={"hidden under compute": wired(SMALL, 2.0, beside=True)},
    ),
    Case(
        id="bandwidth_bound_transfers",
        run=wired(network.SIZES, 50.0),
        evidence="latency takes 720 us and bytes 75.7 ms, by 20.0 us a ring step and 10.0 GB/s "
        "within one node",
        ceiling=126.386 / (126.386 - 75.666),
        without={"hidden under compute": wired(network.SIZES, 50.0, beside=True)},
    ),
    Case(
        id="slow_link",
        run=lambda: network.per_node("n1"),
        evidence="200 MB/s bus bandwidth inside that node against 400 MB/s on the others",
        ceiling=1 / (1 - 1 / 3 * (1 - 200 / 400)),
        without={"all links alike": lambda: network.per_node(None)},
    ),
    Case(
        id="tiny_messages",
        run=ranks(50, 50, calls=25, elements=100),
        evidence="25 collectives per step of 400 B on average take 50.0 ms, 50% of the step not "
        "hidden",
        ceiling=100 / 50,
        without={
            "hidden under compute": ranks(100, 50, hidden_ms=50, calls=25, elements=100),
            "hidden, and a large one is not": tiny_under_compute_beside_a_large_one,
            "of 1 MiB and more": ranks(50, 50, calls=25, elements=2 * ONE_MB),
            "of a pipeline, which cannot merge them": lambda: analysed_pipeline(
                played("1f1b", 2, 10, named=True, send_ms=10.0)
            ),
        },
    ),
    Case(
        id="huge_bucket",
        run=ranks(60, 40, elements=50_000_000),
        evidence="one all_reduce of 191 MiB holds 100% of the gradients; 40% of the step passes "
        "in it",
        ceiling=100 / 60,
        without={
            "in eight buckets": ranks(60, 40, calls=8, elements=6_250_000),
            "hidden under compute": ranks(100, 40, hidden_ms=40, elements=50_000_000),
        },
    ),
    Case(
        id="unsplit_communication",
        run=one_rank_of_two,
        evidence="20.0 ms per step, 20%, either wait for a late rank or move data",
        ceiling=100 / 80,
        without={"all ranks captured": ranks(80, 20, elements=10**7)},
    ),
    Case(
        id="straggler_compute",
        run=lambda: held_up(gpu_rank, "compute", [0, 30, 0]),
        evidence="30.0 ms per step more than the median rank; last in 100% of the steps; the "
        "others lose 30.0 ms",
        ceiling=100 / 70,
        without={"all ranks compute as long": lambda: held_up(gpu_rank, "compute", [30] * 3)},
    ),
    Case(
        id="uneven_compute",
        run=turns((80, 40), (40, 80)),
        evidence="differ by 67% of the mean; ranks wait 40.0 ms per step for whoever computes "
        "longest",
        ceiling=100 / 60,
        without={
            "batches of equal work": turns((80, 40), (80, 40)),
            "one rank is always the slow one": turns((80, 80), (40, 40)),
        },
    ),
    Case(
        id="pipeline_bubble",
        run=lambda: analysed_pipeline(played("gpipe", 2, 4, named=True)),
        evidence="21.5 ms per step, 14%; 2 stages, GPipe, 4 micro-batches: bubble 14% of the "
        "step, 20% by the",
        ceiling=154 / (154 - 21.5),
        without={
            "filled once for 80 micro-batches": lambda: analysed_pipeline(
                played("gpipe", 2, 80, named=True)
            )
        },
    ),
    Case(
        id="launch_bound",
        run=gap(op("aten::add", at_ms=40, ms=20)),
        evidence="20% of the step idle for late launches; 2 kernels per step of 40.0 ms on "
        "average, 0% shorter",
        ceiling=100 / 80,
        without={
            "enqueued ahead": no_gap(op("aten::add", at_ms=40, ms=20)),
            "captured in a CUDA graph": in_a_graph,
        },
    ),
    Case(
        id="host_bound",
        run=lambda: analysed(one_step(op("aten::mm", at_ms=0, ms=80), device_kind="cpu")),
        evidence="20.0 ms per step before blame, 20% of the step after it, in neither operators "
        "nor",
        ceiling=100 / 80,
        without={
            "inside an operator": lambda: analysed(
                one_step(op("aten::mm", at_ms=0, ms=100), device_kind="cpu")
            ),
            "on a device": gap(op("aten::add", at_ms=40, ms=20)),
        },
    ),
    Case(
        id="host_syncs",
        run=gap(sync(at_ms=40, ms=20)),
        evidence="1 synchronisations per step, mostly cudaDeviceSynchronize, and 0 calls of "
        ".item(); 20% of",
        ceiling=100 / 80,
        without={"the device has work meanwhile": no_gap(sync(at_ms=40, ms=20))},
    ),
    Case(
        id="gc_pauses",
        run=gap(gc_pause(at_ms=40, ms=20)),
        evidence="20.0 ms per step, 20% of the step after blame; in 1 of 1 analysed steps, last "
        "in step 0",
        ceiling=100 / 80,
        without={"the device has work meanwhile": no_gap(gc_pause(at_ms=40, ms=20))},
    ),
    Case(
        id="allocator",
        run=gap(alloc(at_ms=40, ms=20)),
        evidence="20.0 ms per step, 20% of the step after blame; in 1 of 1 analysed steps, last "
        "in step 0",
        ceiling=100 / 80,
        without={"the device has work meanwhile": no_gap(alloc(at_ms=40, ms=20))},
    ),
    Case(
        id="recompiles",
        run=gap(compiling(at_ms=40, ms=20)),
        evidence="20.0 ms per step, 20% of the step after blame; in 1 of 1 analysed steps, last "
        "in step 0",
        ceiling=100 / 80,
        without={"the device has work meanwhile": no_gap(compiling(at_ms=40, ms=20))},
    ),
    Case(
        id="fp32_matmul",
        run=products("ampere_sgemm_128x64_tn"),
        evidence="50% of the step in fp32 matmul kernels",
        ceiling=1 / (1 - 0.5 * 7 / 8),
        without={
            "TF32 is on": products("sm80_xmma_gemm_f32f32_tf32f32_f32_tn"),
            "autocast is on": products("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn"),
            "a device without TF32": products("volta_sgemm_128x64_tn", "7.0"),
        },
    ),
    Case(
        id="unfused_optimizer",
        run=optimizer("vectorized_elementwise_kernel"),
        evidence="60 kernels in each optimizer step take 30.0 ms, 30% of the step; none of them "
        "is fused",
        ceiling=100 / 70,
        without={
            "fused": optimizer("FusedAdamMathFunctor_kernel"),
            "in few pieces": optimizer("vectorized_elementwise_kernel", 10),
        },
    ),
    Case(
        id="find_unused_parameters",
        run=ddp(ddp=SEARCHING, ddp_logging=ALL_USED),
        evidence="find_unused_parameters=True, and at the end of the run DDP counts 0 bytes of "
        "unused",
        ceiling=None,
        without={
            "off": ddp(ddp={"find_unused_parameters": False}, ddp_logging=ALL_USED),
            "some are unused": ddp(ddp=SEARCHING, ddp_logging={"unused_parameter_size": 4096}),
            "static_graph: it looks only once": ddp(
                ddp={**SEARCHING, "static_graph": True}, ddp_logging=ALL_USED
            ),
        },
    ),
    Case(
        id="sync_batch_norm",
        run=ddp(compute_ms=50, ddp_logging={"has_sync_bn": 1}),
        evidence="the model holds SyncBatchNorm, by DDP's own log; 50% of the step is exposed "
        "communication",
        ceiling=None,
        without={"plain batch norm": ddp(compute_ms=50, ddp_logging={"has_sync_bn": 0})},
    ),
    Case(
        id="memory_growth",
        run=memory(*(100 * MIB + k * MIB for k in range(8))),
        evidence="1 MiB more at the end of each step on cpu, of 107 MiB at the peak",
        ceiling=None,
        without={"up and down": memory(*(100 * MIB + (k % 2) * MIB for k in range(8)))},
    ),
    Case(
        id="memory_fragmentation",
        run=memory(*HELD, reserved=6 * GIB),
        evidence="6 GiB reserved at the peak on cpu, 4 GiB allocated at the peak",
        ceiling=None,
        without={"reserved what is needed": memory(*HELD, reserved=int(4.5 * GIB))},
    ),
    Case(
        id="allocator_retries",
        run=lambda: model.retried([2, 5]),
        evidence="5 times on cuda:0 since the start, 3 of them within 2 recorded steps",
        ceiling=None,
        without={"never": lambda: model.retried([0, 0])},
    ),
    Case(
        id="busy_neighbour",
        run=sampled(1.0, 1.0, 0.3),
        evidence="up to 30% of the time a rank's main thread waited for a processor; in use 2.00 "
        "of 2, 1.00 by this run, 1.00 by others",
        ceiling=100 / 70,
        without={"there was room": sampled(0.5, 0.5, 0.3), "alone": sampled(1.0, 0.0, 0.0)},
    ),
    Case(
        id="oversubscribed_processors",
        run=sampled(2.0, 0.0, 0.3),
        evidence="up to 30% of the time a rank's main thread waited for a processor; in use 2.00 "
        "of 2, 2.00 by this run, 0 by others",
        ceiling=100 / 70,
        without={"as many threads as processors": sampled(2.0, 0.0, 0.01)},
    ),
    Case(
        id="slowed_gpu",
        run=sampled(0.5, 0.0, 0.0, HOT),
        evidence="node n, GPU 3: slowed by heat or a hardware brake in 100% of 6 samples; up to "
        "91.0 degrees C",
        ceiling=None,
        without={"kept to its power limit, as usual": sampled(0.5, 0.0, 0.0, CAPPED)},
    ),
    Case(
        id="gpu_errors",
        run=errors(2, 5),
        evidence="node n, GPU 0: 3 uncorrected memory errors",
        ceiling=None,
        without={"only errors of before": errors(5, 5)},
    ),
    Case(
        id="slow_steps",
        run=lines(400.0),
        evidence="steps 15, 24, 33, 42, 51 took up to 4 times the median; every 9 steps",
        ceiling=None,
        without={"a known cause": lines(400.0, checkpoint_ms=300.0), "all alike": lines(100.0)},
    ),
    Case(
        id="profiler_overhead",
        run=lines(100.0, profiled_ms=120.0),
        evidence="120 ms with it, 100 ms without (1.20x)",
        ceiling=None,
        without={"profiled steps are no longer": lines(100.0)},
    ),
)
