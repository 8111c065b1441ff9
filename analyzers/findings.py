"""What to act on, most costly first: the table of rules and the order of their findings."""

from perfkit.analyzers import (
    rules_comm,
    rules_host,
    rules_io,
    rules_model,
    rules_network,
    rules_stragglers,
    rules_telemetry,
)
from perfkit.analyzers.evidence import Evidence
from perfkit.analyzers.result import Finding
from perfkit.analyzers.rules import Rule

RULES: tuple[Rule, ...] = (
    *rules_io.RULES,
    *rules_comm.RULES,
    *rules_stragglers.RULES,
    *rules_network.RULES,
    *rules_host.RULES,
    *rules_telemetry.RULES,
    *rules_model.RULES,
)

_ORDER = {"high": 0, "moderate": 1, "info": 2}


def find(evidence: Evidence) -> tuple[Finding, ...]:
    """Apply every rule; sort by severity, then by what removing the cause could gain."""
    found = [finding for rule in RULES for finding in rule(evidence)]
    found.sort(key=lambda f: (_ORDER[f.severity], -(f.gain_ceiling or 1.0), f.id, f.ranks))
    return tuple(found)
