"""Edits of Python source at a known line, by its syntax tree; what is not touched stays as it is.

Each returns the new source, or None where the code at that line is not what it was taken for.
"""

import ast
import textwrap
from collections.abc import Mapping, Sequence


def give_keywords(
    source: str, line: int, names: Sequence[str], settings: Mapping[str, str]
) -> str | None:
    """Give the call of one of `names` at `line` these keyword arguments."""
    call = call_at(source, line, names)
    if call is None:
        return None
    lines = source.splitlines(keepends=True)
    there = {k.arg: k.value for k in call.keywords}
    new = [f"{key}={text}" for key, text in settings.items() if key not in there]
    if new:
        lines = _append(lines, call, new)
    old = [(there[key], text) for key, text in settings.items() if key in there]
    for value, text in sorted(old, key=lambda pair: _start(pair[0]), reverse=True):
        lines = _replace(lines, value, text)
    return "".join(lines)


def wrap_statement(source: str, line: int, header: str) -> str | None:
    """Put the simple statement at `line` into a block that begins with `header`."""
    found = statement_at(source, line)
    if found is None or hasattr(found, "body"):
        return None
    lines = source.splitlines(keepends=True)
    first, last = found.lineno - 1, found.end_lineno or found.lineno
    indent = _indent(lines[first])
    block = [f"{indent}{header}\n", *(f"    {text}" for text in lines[first:last])]
    return "".join([*lines[:first], *block, *lines[last:]])


def add_import_line(source: str, text: str) -> str | None:
    """Put a statement behind the last import at the top of a module that imports torch."""
    tree = ast.parse(source)
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    has_torch = any(
        isinstance(n, ast.Import) and any(a.asname is None and a.name == "torch" for a in n.names)
        for n in imports
    )
    if not has_torch:
        return None
    lines = source.splitlines(keepends=True)
    at = imports[-1].end_lineno or imports[-1].lineno
    return "".join([*lines[:at], f"\n{text}\n", *lines[at:]])


def succeed_assignment(
    source: str, line: int, names: Sequence[str], body: str, name: str
) -> str | None:
    """Put `body` behind the statement that calls one of `names`; {name} is what it is bound to.

    A returned call is bound to `name` first. Behind `x = call if condition else other` the body is
    only for an x that the call made.
    """
    call, found = call_at(source, line, names), statement_at(source, line)
    if call is None or found is None:
        return None
    lines = source.splitlines(keepends=True)
    first, last = found.lineno - 1, found.end_lineno or found.lineno
    if isinstance(found, ast.Return) and _same(found.value, call):
        lines[first] = lines[first].replace("return ", f"{name} = ", 1)
        body = f"{body.format(name=name)}\nreturn {name}"
    elif isinstance(found, ast.Assign) and len(found.targets) == 1 and _gives(found.value, call):
        target = ast.unparse(found.targets[0])
        body = body.format(name=target)
        if isinstance(found.value, ast.IfExp):
            body = f"if isinstance({target}, {ast.unparse(call.func)}):\n" + textwrap.indent(
                body, "    "
            )
    else:
        return None
    return "".join(
        [*lines[:last], f"{textwrap.indent(body, _indent(lines[first]))}\n", *lines[last:]]
    )


def precede_argument(
    source: str, line: int, names: Sequence[str], body: str, name: str
) -> str | None:
    """Put `body` before the statement of a call; {name} is the call's first argument.

    An argument that is no plain name is bound to `name` first.
    """
    call, found = call_at(source, line, names), statement_at(source, line)
    if call is None or found is None or not call.args:
        return None
    lines = source.splitlines(keepends=True)
    argument, first = call.args[0], found.lineno - 1
    indent = _indent(lines[first])
    if isinstance(argument, ast.Name):
        added = [f"{indent}{body.format(name=argument.id)}\n"]
    else:
        added = [
            f"{indent}{name} = {ast.unparse(argument)}\n",
            f"{indent}{body.format(name=name)}\n",
        ]
        lines = _replace(lines, argument, name)
    return "".join([*lines[:first], *added, *lines[first:]])


def call_at(source: str, line: int, names: Sequence[str]) -> ast.Call | None:
    """Return the call of one of `names` that spans a line."""
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    here = [c for c in calls if c.lineno <= line <= (c.end_lineno or c.lineno)]
    named = [c for c in here if _name(c) in names]
    return named[0] if len(named) == 1 else None


def statement_at(source: str, line: int) -> ast.stmt | None:
    """Return the innermost statement that spans a line."""
    found = [
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or n.lineno)
    ]
    return max(found, key=_start, default=None)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


def _start(node: ast.stmt | ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _same(node: ast.expr | None, other: ast.expr) -> bool:
    return node is not None and _start(node) == _start(other) and type(node) is type(other)


def _gives(value: ast.expr, call: ast.expr) -> bool:
    """Whether a value is this call, or may be by a condition."""
    may_be = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
    return any(_same(each, call) for each in may_be)


def _indent(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _byte_cut(text: str, column: int) -> int:
    """Return the character index of a byte column, in which syntax trees count."""
    return len(text.encode()[:column].decode())


def _replace(lines: list[str], node: ast.expr, text: str) -> list[str]:
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head = lines[first][: _byte_cut(lines[first], node.col_offset)]
    tail = lines[last][_byte_cut(lines[last], node.end_col_offset or 0) :]
    return [*lines[:first], head + text + tail, *lines[last + 1 :]]


def _append(lines: list[str], call: ast.Call, new: Sequence[str]) -> list[str]:
    """Add arguments behind the last one, on lines of their own where the call has several."""
    given: list[ast.expr] = [*call.args, *(k.value for k in call.keywords)]
    if not given:
        at = (call.end_lineno or call.lineno) - 1
        cut = _byte_cut(lines[at], (call.end_col_offset or 1) - 1)
        return [*lines[:at], lines[at][:cut] + ", ".join(new) + lines[at][cut:], *lines[at + 1 :]]
    last = max(given, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))
    at = (last.end_lineno or last.lineno) - 1
    cut = _byte_cut(lines[at], last.end_col_offset or 0)
    several = at + 1 > call.lineno
    joint = f",\n{_indent(lines[at])}" if several else ", "
    text = lines[at][:cut] + "".join(joint + each for each in new) + lines[at][cut:]
    return [*lines[:at], text, *lines[at + 1 :]]


def rename_call(source: str, line: int, names: Sequence[str], name: str) -> str | None:
    """Call `name` where one of `names` is called at `line`; what it is looked up in stays."""
    call = call_at(source, line, names)
    if call is None:
        return None
    lines = source.splitlines(keepends=True)
    if isinstance(call.func, ast.Attribute):
        return "".join(_replace(lines, call.func, f"{ast.unparse(call.func.value)}.{name}"))
    return "".join(_replace(lines, call.func, name))


def divide_optimizer(source: str, line: int, names: Sequence[str], divided: str) -> str | None:
    """Hand the optimizer's class and arguments at `line` to the constructor of a divided one."""
    call = call_at(source, line, names)
    if call is None or len(call.args) > 1 or any(k.arg is None for k in call.keywords):
        return None
    inner = ast.unparse(call.func)
    changed = give_keywords(source, line, names, {"optimizer_class": inner})
    if changed is None:
        return None
    moved = call_at(changed, line, names)
    if moved is None:
        return None
    return "".join(_replace(changed.splitlines(keepends=True), moved.func, divided))
