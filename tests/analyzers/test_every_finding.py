"""Every finding of the catalogue appears where its cause is, and not where that alone is absent."""

import pytest

from perfkit.analyzers.finding_catalogue import BY_ID, CATALOGUE, STRAGGLER_PREFIX, entry_of
from perfkit.analyzers.result import Finding
from tests.analyzers.finding_cases import CASES
from tests.analyzers.finding_runs import Case, Made, gap, mixed, products, ranks
from tests.analyzers.test_findings import analysed, one_step
from tests.analyzers.test_pipeline_facts import played
from tests.builders import h2d, kernel, op


def found_in(run: Made) -> dict[str, Finding]:
    return {finding.id: finding for finding in run().findings}


def test_there_is_a_case_for_every_finding() -> None:
    assert {entry_of(case.id).id for case in CASES} == set(BY_ID)
    assert len(CASES) == len(CATALOGUE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_appears_with_its_numbers(case: Case) -> None:
    finding = found_in(case.run)[case.id]
    assert case.evidence in finding.evidence
    if case.ceiling is None:
        assert finding.gain_ceiling is None
    else:
        assert finding.gain_ceiling == pytest.approx(case.ceiling, rel=1e-3)
    assert finding.title and finding.next_step
    assert finding.not_when == entry_of(case.id).not_when
    assert finding.recipe == entry_of(case.id).recipe


@pytest.mark.parametrize(
    ("case", "why"),
    [(case, why) for case in CASES for why in case.without],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_it_does_not_appear_without_its_cause(case: Case, why: str) -> None:
    assert case.id not in found_in(case.without[why])


def test_every_case_has_a_run_without_its_cause() -> None:
    assert all(case.without for case in CASES)
    assert not any(case.id == STRAGGLER_PREFIX for case in CASES)


def test_of_graphs_the_next_one_may_be_late_and_needs_no_recipe() -> None:
    """Two graphs of 40 ms, the second launched 20 ms after the first has ended."""
    kernels = [
        kernel("gemm", at_ms=at, ms=40, launched_at_ms=at, launch_ms=0.0, graph=f"g{at}")
        for at in (0.0, 60.0)
    ]
    found = found_in(lambda: analysed(one_step(*kernels, op("aten::add", at_ms=40, ms=20))))
    finding = found["launch_bound"]
    assert "CUDA graphs launch 100% of them" in finding.evidence
    assert finding.recipe is None
    assert "in CUDA graphs already" in finding.next_step


def test_where_mixed_precision_is_on_it_is_not_advised() -> None:
    half = kernel("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn", at_ms=50, ms=50)
    finding = found_in(products("ampere_sgemm_128x64_tn", "8.0", half))["fp32_matmul"]
    assert "mixed precision is on" in finding.evidence
    assert "autocast to bf16" not in finding.next_step
    alone = found_in(products("ampere_sgemm_128x64_tn"))["fp32_matmul"]
    assert "autocast to bf16" in alone.next_step


def test_many_small_copies_are_to_be_gathered_not_pinned() -> None:
    small = [h2d(at_ms=40 + n, ms=1, pageable=True, size_bytes=512) for n in range(20)]
    finding = found_in(gap(*small))["exposed_copies"]
    assert finding.evidence.endswith("20 per step, of 512 B on average")
    assert finding.recipe is None and "copy once" in finding.next_step


def test_transfers_of_small_messages_need_fewer_calls_not_fewer_bytes() -> None:
    large = found_in(ranks(2, 98, elements=10**7))["slow_transfers"]
    assert "fewer bytes" in large.next_step and large.recipe == "bf16-gradients"
    small = found_in(ranks(2, 8, elements=1000))["slow_transfers"]
    assert "latency costs" in small.next_step and small.recipe is None
    assert "few bytes" in found_in(ranks(80, 20, elements=1000))["no_overlap"].next_step


def test_a_slow_link_makes_messages_below_one_mebibyte_cost_their_bytes() -> None:
    """Two gradients of a 1 Gbit/s link that take turns, 0.8 and 2.5 MiB: 62 ms, as in lab 04."""
    pair = mixed({209_328: 28.4, 665_860: 33.7}, compute_ms=26)
    found = found_in(pair)["slow_transfers"]
    assert "fewer bytes" in found.next_step and found.recipe == "bf16-gradients"
    # 3.5 MB in 62.1 ms: what the two had together, not the slower one's 29.5 MB/s
    assert "mostly all_reduce at 56.4 MB/s bus bandwidth" in pair().verdict.sentence


def test_message_sizes_that_cannot_tell_latency_from_bytes_say_so() -> None:
    """1 MB in 8 ms may be 4 ms of latency a ring step, or 125 MB/s."""
    found = found_in(ranks(2, 8, elements=250_000))["slow_transfers"]
    assert "cannot tell" in found.next_step and found.recipe is None
    beside_a_quick_one = found_in(mixed({250_000: 8.0, 2: 0.2}, compute_ms=2))["slow_transfers"]
    assert "fewer bytes" in beside_a_quick_one.next_step
    beside_a_large_one = mixed({250_000: 8.0, 50_000_000: 20.0}, compute_ms=2)
    assert "fewer bytes" in found_in(beside_a_large_one)["slow_transfers"].next_step


def test_calls_whose_bytes_cost_are_not_called_tiny() -> None:
    """Ten calls of 1 MB: with nothing else seen they may be latency, beside a quick one not."""
    ten = dict.fromkeys(range(250_000, 250_010), 2.0)
    assert "tiny_messages" in found_in(mixed(ten, compute_ms=30))
    assert "tiny_messages" not in found_in(mixed(ten | {2: 0.02}, compute_ms=30))


def test_exposed_transfers_of_a_pipeline_are_to_be_posted_ahead() -> None:
    """1F1B of 10 micro-batches whose transfers take 10 ms beside passes of 10 and 20 ms."""
    traces = played("1f1b", 2, 10, named=True, send_ms=10.0)
    finding = found_in(lambda: analysed(*traces))["no_overlap"]
    assert "post the next micro-batch's receive" in finding.next_step


def test_copies_that_computing_cannot_hide_are_to_be_fewer() -> None:
    def copied(ms: float) -> Finding:
        copy = h2d(at_ms=100 - ms, ms=ms, size_bytes=10**9)
        kept = one_step(kernel("gemm", at_ms=0, ms=100 - ms), copy)
        return found_in(lambda: analysed(kept))["exposed_copies"]

    assert "hide 5.00 ms of copies" in copied(95).next_step
    assert "second stream" in copied(20).next_step


def test_exchanges_of_all_with_all_are_not_advised_to_use_ddp() -> None:
    def advice(name: str) -> str:
        exchange = mixed({10**7: 20.0}, compute_ms=80, name=name)
        return found_in(exchange)["no_overlap"].next_step

    assert "start each all_to_all" in advice("all_to_all")
    assert "where it is wrapped, try smaller DDP buckets" in advice("all_reduce")
