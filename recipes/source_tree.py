"""Look things up in the syntax tree of a script: scopes, blocks, names, what lies around a line."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.While


@dataclass(slots=True)
class Script:
    """A parsed script, with the parent of every node."""

    source: str
    tree: ast.Module = field(init=False)
    parents: dict[ast.AST, ast.AST] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.source)
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    @property
    def lines(self) -> list[str]:
        """The script's lines with their ends."""
        return self.source.splitlines(keepends=True)

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what a node lies in, innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def scope(self, node: ast.AST) -> Scope:
        """Return the function that a node lies in, or the module."""
        return next(up for up in self.above(node) if isinstance(up, Scope))

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """Return the statements among which this one stands."""
        above = self.parents[statement]
        for name in ("body", "orelse", "finalbody"):
            found = getattr(above, name, [])
            if isinstance(found, list) and statement in found:
                return found
        return [statement]


def spans(node: ast.stmt | ast.expr, line: int) -> bool:
    """Whether a line belongs to a node."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def stored(*nodes: ast.AST) -> set[str]:
    """Return the names that are bound anywhere inside."""
    inside = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in inside if not isinstance(n.ctx, ast.Load)}


def loaded(*nodes: ast.AST) -> set[str]:
    """Return the names that are read anywhere inside."""
    inside = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in inside if isinstance(n.ctx, ast.Load)}


def calls_of(node: ast.AST, name: str) -> list[ast.Call]:
    """Return the calls of a function or method by its last name, wherever it is looked up."""
    calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
    return [c for c in calls if last_name(c.func) == name]


def last_name(node: ast.expr) -> str:
    """Return `c` of `a.b.c`."""
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def indent_of(text: str) -> str:
    """Return the white space that a line begins with."""
    return text[: len(text) - len(text.lstrip())]


def with_import(source: str, module: str, name: str) -> str:
    """Import a name from a module, behind the last import at the top, unless it is there."""
    tree = ast.parse(source)
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    given = (a for n in imports if isinstance(n, ast.ImportFrom) for a in n.names)
    if any(a.name == name and a.asname in (None, name) for a in given):
        return source
    lines = source.splitlines(keepends=True)
    docstring = tree.body[:1] if ast.get_docstring(tree) is not None else []
    before = imports[-1:] or docstring
    at = (before[0].end_lineno or before[0].lineno) if before else 0
    return "".join([*lines[:at], f"from {module} import {name}\n", *lines[at:]])
