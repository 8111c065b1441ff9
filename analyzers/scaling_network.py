"""What communication adds to a step on any number of ranks, from the traces of a series.

The link (latency, bandwidth) is fitted to the collectives of all runs together, since several
numbers of ranks tell latency from bandwidth even where all messages have one size. What of the
transfers stays exposed is played bucket by bucket: gradients become ready during the backward pass
and go over one stream (`extrapolate`, models.md 4.5). Valid for data-parallel training, whose
collectives span all ranks, on a placement that stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perfkit.analyzers.alphabeta import AlphaBetaFit, Observation, fit_alpha_beta
from perfkit.analyzers.extrapolate import ddp_overlap
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.scaling_model import expected_skew_s
from perfkit.analyzers.scaling_result import LinkUsed
from perfkit.analyzers.scaling_runs import MeasuredRun
from perfkit.analyzers.traffic import Message, Traffic
from perfkit.roofline.collective_cost import ALL_REDUCE, Link, bus_bandwidth_byte_per_s, ring_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """Exposed communication and skew of a step. Satisfies `scaling_model.Exposure`.

    The ready times were measured on `measured_ranks`; where the global batch is kept they shrink
    with the ranks, as the compute between them does. `exposed_share` stands in for the play of
    buckets where the messages are not the all-reduces of a backward pass.
    """

    link: Link
    messages: tuple[Message, ...]
    measured_ranks: int
    weak: bool
    exposed_share: float | None = None
    skew_sd_s: float = 0.0

    def exposed_s(self, ranks: int) -> float:
        """Return what communication and skew add to a step; 0 on one rank."""
        if ranks < 2:
            return 0.0
        costs = [ring_s(m.op, m.size_bytes, ranks, self.link) for m in self.messages]
        skew = expected_skew_s(self.skew_sd_s, ranks)
        if self.exposed_share is not None:
            return self.exposed_share * sum(costs) + skew
        shrink = 1.0 if self.weak else self.measured_ranks / ranks
        ready = [m.ready_s * shrink for m in self.messages]
        return ddp_overlap(ready, costs, max(ready, default=0.0)).exposed_s + skew

    def over(self, link: Link) -> "Communication":
        """Return the same communication over another network."""
        return replace(self, link=link)


def fit_link(
    runs: Sequence[MeasuredRun], traffic: Mapping[str, Traffic], *, seed: int
) -> tuple[Link, LinkUsed] | Refusal:
    """Fit latency and bandwidth to the transfers of all runs of the widest run's placement."""
    several = [run for run in runs if run.name in traffic and traffic[run.name].transfers]
    if not several:
        return Refusal(
            reason="no run has a trace of transfers between ranks",
            remedy="profile several ranks with --window A:B",
        )
    widest = max(several, key=lambda run: run.ranks).placements
    alike = [run for run in several if run.placements == widest]
    seen = [observed for run in alike for observed in traffic[run.name].transfers]
    fit = fit_alpha_beta(seen, seed=seed)
    if isinstance(fit, Refusal):
        return _from_largest(seen, fit)
    alpha = fit.regimes[0].alpha_s if len(fit.regimes) == 1 else fit.alpha_s or 0.0
    link = Link(alpha_s=alpha, bandwidth_byte_per_s=fit.bandwidth_byte_per_s)
    return link, _described(fit)


def _described(fit: AlphaBetaFit) -> LinkUsed:
    alphas, bandwidths = fit.alpha_interval_s, fit.bandwidth_interval_byte_per_s
    return LinkUsed(
        source="fitted",
        alpha_us=None if fit.alpha_s is None else fit.alpha_s * 1e6,
        alpha_interval_us=None if alphas is None else (alphas[0] * 1e6, alphas[1] * 1e6),
        bandwidth_gbyte_per_s=fit.bandwidth_byte_per_s / 1e9,
        bandwidth_interval_gbyte_per_s=(
            None if bandwidths is None else (bandwidths[0] / 1e9, bandwidths[1] / 1e9)
        ),
        sizes=fit.sizes,
        median_residual=fit.median_relative_residual,
    )


def _from_largest(seen: Sequence[Observation], why: Refusal) -> tuple[Link, LinkUsed] | Refusal:
    """Return the bus bandwidth of the largest message, where nothing tells latency from it."""
    largest = max((o for o in seen if o.transfer_s > 0), key=lambda o: o.size_bytes, default=None)
    if largest is None:
        return why
    speed = bus_bandwidth_byte_per_s(
        largest.op, largest.size_bytes, largest.ranks, largest.transfer_s
    )
    used = LinkUsed(
        source="one message size",
        alpha_us=None,
        alpha_interval_us=None,
        bandwidth_gbyte_per_s=speed / 1e9,
        bandwidth_interval_gbyte_per_s=None,
        sizes=1,
        median_residual=None,
    )
    return Link(alpha_s=0.0, bandwidth_byte_per_s=speed), used


def given_link(bandwidth_byte_per_s: float, alpha_s: float) -> tuple[Link, LinkUsed]:
    """Return a network that the user states instead."""
    used = LinkUsed(
        source="given",
        alpha_us=alpha_s * 1e6,
        alpha_interval_us=None,
        bandwidth_gbyte_per_s=bandwidth_byte_per_s / 1e9,
        bandwidth_interval_gbyte_per_s=None,
        sizes=0,
        median_residual=None,
    )
    return Link(alpha_s=alpha_s, bandwidth_byte_per_s=bandwidth_byte_per_s), used


def communication_of(
    run: MeasuredRun, traffic: Traffic, link: Link, *, weak: bool
) -> Communication | Refusal:
    """Return the communication of a run over `link`; its buckets are played if they can be."""
    messages = traffic.messages
    if isinstance(messages, Refusal):
        return messages
    played = all(m.op == ALL_REDUCE for m in messages)
    return Communication(
        link=link,
        messages=messages,
        measured_ranks=run.ranks,
        weak=weak,
        exposed_share=None if played else _exposed_share(run, traffic),
        skew_sd_s=(run.skew_sd_ms or 0.0) / 1e3,
    )


def _exposed_share(run: MeasuredRun, traffic: Traffic) -> float:
    """Return which part of the transfers compute does not hide, by the budget of a run."""
    exposed = run.classes_ms.get("comm_transfer") or 0.0
    whole = traffic.busy_ms_per_step
    return min(1.0, exposed / whole) if whole > 0 else 1.0
