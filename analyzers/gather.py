"""From joined ranks to evidence: everything that quality, findings and the verdict read."""

from collections.abc import Mapping

import numpy as np

from perfkit.analyzers.budget import make_budget
from perfkit.analyzers.collectives import collective_rows
from perfkit.analyzers.evidence import Evidence, fact
from perfkit.analyzers.groups import group_rows
from perfkit.analyzers.join import Joined, blame_rows
from perfkit.analyzers.network_fit import fit_networks, node_bandwidths
from perfkit.analyzers.parallelism import Kind, group_uses, kinds_of
from perfkit.analyzers.pipeline_facts import pipeline_facts
from perfkit.analyzers.skew import unsure_ranks
from perfkit.analyzers.steps import WholeRun
from perfkit.analyzers.stragglers import find_stragglers, usually_late
from perfkit.analyzers.survey import RankSurvey
from perfkit.analyzers.verdict import seed_of, shift_shares
from perfkit.roofline.of_run import nodes_of
from perfkit.trace.kinds import TimeClass
from perfkit.trace.model import I64, Run


def gather(
    run: Run, surveys: Mapping[int, RankSurvey], joined: Joined, whole: WholeRun
) -> Evidence:
    """Collect what is known of a run once its ranks are joined."""
    total = int(joined.window_ns.sum())
    shares = joined.charged_ns.sum(axis=0) / total if total else np.zeros(len(TimeClass))
    shares = shift_shares(shares, whole_run_shift(joined, whole))
    window_ns = {rank: table.sum(axis=1) for rank, table in joined.tables.items()}
    on_device = all(own.windows.on_device for own in surveys.values())
    host_ns = host_work(surveys, joined) if on_device else None
    late = find_stragglers(
        joined.tables, window_ns, joined.charges, lost=joined.lost.by_rank, host_ns=host_ns
    )
    usual = usually_late(joined.charges)
    suspects = {s.rank for s in late} | ({usual} if usual is not None else set())
    unsure = unsure_ranks(suspects, joined)
    nodes = {rank: own.node for rank, own in surveys.items()} | dict(nodes_of(run))
    rows = collective_rows(joined.views, joined.instances, joined.times)
    return Evidence(
        run=run,
        surveys=surveys,
        steps=tuple(joined.steps.tolist()),
        whole=whole,
        budget=make_budget(joined.tables, joined.steps, joined.unrecorded),
        shares={c: float(shares[c]) for c in TimeClass},
        blame=blame_rows(joined.charges),
        lost_overlap_ms=_lost_ms(joined),
        stragglers=tuple(s for s in late if s.rank not in unsure),
        late_rank=None if usual in unsure else usual,
        unsure_late=tuple(sorted(unsure)),
        collectives=rows,
        groups=group_rows(rows, _group_kinds(run, joined)),
        networks=fit_networks(joined, nodes, rows, seed_of(run.run_id)),
        nodes=nodes,
        node_bandwidth_gbyte_per_s=node_bandwidths(joined, nodes),
        clocks=joined.clocks,
        clock_checks=joined.clock_checks,
        matched=joined.matched,
        pipeline=pipeline_facts(surveys, joined),
        compute_spread=_compute_spread(joined),
    )


def _lost_ms(joined: Joined) -> dict[tuple[int, str], float]:
    per = max(len(joined.steps) * len(joined.tables), 1) * 1e6
    return {(rank, c.key): ns / per for (rank, c), ns in joined.lost.by_rank.items()}


def host_work(surveys: Mapping[int, RankSurvey], joined: Joined) -> dict[int, dict[TimeClass, I64]]:
    """Return what each rank's host did in each of the common steps."""
    found = {}
    for rank, own in surveys.items():
        common = np.isin(own.windows.step, joined.steps)
        found[rank] = {c: np.array(ns)[common] for c, ns in own.counts.host_ns.items()}
    return found


def _compute_spread(joined: Joined) -> float:
    """Return the mean over steps of how far the ranks' compute lies apart, over its mean."""
    if not joined.tables:
        return 0.0
    compute = np.stack([table[:, TimeClass.COMPUTE] for table in joined.tables.values()])
    compute = compute[:, compute.sum(axis=0) > 0]
    if not compute.size:
        return 0.0
    return float(((compute.max(axis=0) - compute.min(axis=0)) / compute.mean(axis=0)).mean())


def _group_kinds(run: Run, joined: Joined) -> dict[str, Kind]:
    uses = group_uses(view.calls for view in joined.views.values())
    wrapped = any(fact(record, "ddp") for record in run.ranks)
    return kinds_of(uses, run.world_size, data_parallel=wrapped)


def whole_run_shift(joined: Joined, whole: WholeRun) -> dict[TimeClass, float]:
    """Return by how much the whole run's input and checkpoint shares exceed the window's.

    Nothing, where the window represents the run.
    """
    shares, total = whole.io_shares, int(joined.window_ns.sum())
    if not whole.not_representative or shares is None or not total:
        return {}
    classes = (TimeClass.INPUT_WAIT, TimeClass.CHECKPOINT)
    window = [sum(int(t[:, c].sum()) for t in joined.tables.values()) / total for c in classes]
    return {c: run - own for c, run, own in zip(classes, shares, window, strict=True)}
