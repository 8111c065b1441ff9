"""What would make transfers shorter: fewer and larger messages, fewer bytes, or a faster link.

Decided by the fit of latency and bandwidth to the run's own collectives, where there is one.
"""

from collections.abc import Iterator

from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import Finding
from perfkit.analyzers.result_network import NetworkFit
from perfkit.analyzers.rules import COMMUNICATION, finding
from perfkit.analyzers.transfer_limits import BANDWIDTH, LATENCY, fitted_limit
from perfkit.trace.kinds import TimeClass
from perfkit.units import bandwidth, microseconds, milliseconds, percent, size

SLOWER_NODE = 0.7
"""A node whose bus bandwidth is below this part of the others' median has a slow link."""


def network_limit(evidence: Evidence) -> Iterator[Finding]:
    """Exposed transfers are bound by latency or by bandwidth."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    limit = fitted_limit(evidence)
    severity = COMMUNICATION.severity(share)
    if severity is None or not limit:
        return
    latency = sum(n.latency_ms or 0.0 for n in evidence.networks)
    wire = sum(n.wire_ms or 0.0 for n in evidence.networks)
    part = (latency if limit == LATENCY else wire) / (latency + wire)
    worst = max(evidence.networks, key=lambda n: (n.latency_ms or 0.0) + (n.wire_ms or 0.0))
    yield finding(
        f"{limit}_bound_transfers",
        severity,
        _TITLES[limit],
        evidence=f"of a step's transfers latency takes {milliseconds(latency)} and bytes "
        f"{milliseconds(wire)}, by {_fit(worst)}; {percent(share)} of the step is exposed transfer",
        share=share * part,
        next_step=_advice(limit, worst, latency / (latency + wire)),
    )


_TITLES = {
    LATENCY: "Messages are so small that latency costs more than their bytes",
    BANDWIDTH: "The network's bandwidth bounds the transfers",
}


def _fit(network: NetworkFit) -> str:
    text = (
        f"{microseconds(network.alpha_us)} a ring step and "
        f"{bandwidth(network.bandwidth_gbyte_per_s)} {_where(network)}"
    )
    return text + (", beside compute" if network.overlapped else "")


def _where(network: NetworkFit) -> str:
    return "within one node" if network.placement == "one node" else "between nodes"


def _advice(limit: str, network: NetworkFit, latency_part: float) -> str:
    enough = size(network.saturation_bytes)
    if limit == LATENCY:
        return (
            f"send fewer, larger messages: raise bucket_cap_mb or coalesce tensors; from {enough} "
            "on an all-reduce here reaches 90 % of the bandwidth"
        )
    return (
        "send fewer bytes (bf16 gradient compression, no_sync while accumulating) or use a faster "
        f"link; larger buckets would save at most {percent(latency_part)} of the transfer time"
    )


def slow_link(evidence: Evidence) -> Iterator[Finding]:
    """One node moves its data clearly slower than the other nodes do."""
    share = evidence.share(TimeClass.COMM_TRANSFER)
    severity = COMMUNICATION.severity(share)
    by_node = evidence.node_bandwidth_gbyte_per_s
    if severity is None or len(by_node) < 3:
        return
    for node, own in by_node.items():
        others = sorted(value for name, value in by_node.items() if name != node)
        middle = others[len(others) // 2]
        if own < SLOWER_NODE * middle:
            yield finding(
                "slow_link",
                severity,
                f"The link of node {node} is slower than the others'",
                evidence=f"{bandwidth(own)} bus bandwidth inside that node against "
                f"{bandwidth(middle)} on the others",
                ranks=tuple(r for r, n in evidence.nodes.items() if n == node),
                share=share * (1.0 - own / middle),
                next_step="compare that node's links with the others': nvidia-smi topo -m, "
                "nvidia-smi nvlink --status, ibstat",
            )


RULES = (network_limit, slow_link)
