"""The catalogue, the rules and docs/findings.md name the same findings."""

import ast
from pathlib import Path

import pytest

from perfkit.analyzers.finding_catalogue import BY_ID, CATALOGUE, as_markdown, entry_of

ROOT = Path(__file__).parents[2]


def ids_in_rules() -> set[str]:
    """Return what every call of `finding` and `Finding` gives as the id, as source text."""
    found = set()
    for path in sorted((ROOT / "analyzers").glob("rules*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "finding":
                found.add(ast.unparse(node.args[0]))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                found |= {ast.unparse(k.value) for k in node.keywords if k.arg == "id"}
    return found


def test_every_rule_is_in_the_catalogue() -> None:
    named = {
        ast.literal_eval(text)
        for text in ids_in_rules()
        if text.startswith("'") and " if " not in text
    }
    named |= {"straggler_CLASS", "latency_bound_transfers", "bandwidth_bound_transfers"}
    named |= {"gc_pauses", "allocator", "recompiles"}
    named |= {"busy_neighbour", "oversubscribed_processors"}
    assert named == set(BY_ID)
    computed = {text for text in ids_in_rules() if not text.startswith("'") or " if " in text}
    assert computed - {"'busy_neighbour' if by_others else 'oversubscribed_processors'"} == {
        "f'straggler_{name}'",
        "f'{limit}_bound_transfers'",
        "rule",
    }


def test_the_document_holds_the_catalogue() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert as_markdown() in text, "write finding_catalogue.as_markdown() into docs/findings.md"


def test_every_entry_is_whole() -> None:
    for entry in CATALOGUE:
        assert entry.when and entry.thresholds and entry.not_when, entry.id
        assert "|" not in entry.when + entry.thresholds + entry.not_when
    assert len(BY_ID) == len(CATALOGUE)


def test_stragglers_of_every_class_share_an_entry() -> None:
    assert entry_of("straggler_host_gc") == entry_of("straggler_compute")
    with pytest.raises(KeyError):
        entry_of("no_such_finding")
