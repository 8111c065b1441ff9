"""Edits of training loops: gradients all-reduced by hand, and accumulated without no_sync.

Each returns the new source, or None where the code at that line is not what it was taken for, or
where the edit could change what the script computes. The line is where the script was seen to
all-reduce a gradient, or to call its model.
"""

import ast
from dataclasses import dataclass

from perfkit.recipes.source_tree import (
    Loop,
    Script,
    calls_of,
    indent_of,
    last_name,
    loaded,
    spans,
    stored,
    with_import,
)

QUIET = ("no_grad", "inference_mode")
MERGED_NAMES = {"gradients", "flat", "sizes", "gradient", "part"}
MERGED = """\
gradients = [{target}.grad {each} if {target}.grad is not None]
flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
{call}
sizes = [gradient.numel() for gradient in gradients]
for gradient, part in zip(gradients, flat.split(sizes)):
    gradient.copy_(part.view_as(gradient))"""


@dataclass(frozen=True, slots=True)
class Averaging:
    """A loop that all-reduces each gradient. `place`: what has to go where DDP does it instead."""

    loop: ast.For
    reduce: ast.Expr
    model: str
    place: ast.stmt


def overlap_by_ddp(source: str, line: int, bucket_mb: float) -> str | None:
    """Let DistributedDataParallel average the gradients; the loop that does it now goes.

    The wrapped model gets a name of its own and is called in the training loop alone, so that
    whatever else the script does with its model (state_dict, attributes) stays as it is.
    """
    script = Script(source)
    found = _averaging(script, line)
    if found is None or not _divides_by_world(script, found.loop):
        return None
    loops = [up for up in _within_scope(script, found.place) if isinstance(up, Loop)]
    if not loops:
        return None
    outer = loops[-1]
    forwards = [c for c in _forwards(script, outer, found.model) if not _quiet(script, c)]
    condition = _condition(script, found.place, outer, forwards)
    if not forwards or condition is None or not _made_once(script, outer, found.model):
        return None
    name = "ddp" if "ddp" not in loaded(script.tree) | stored(script.tree) else "ddp_model"
    arguments = f"{found.model}, bucket_cap_mb={bucket_mb:g}, broadcast_buffers=False"
    wrapped = f"{name} = DistributedDataParallel({arguments})"
    if condition:
        wrapped = f"{name} = {found.model}\nif {condition}:\n    {wrapped}"
    indent = indent_of(script.lines[outer.lineno - 1])
    lines: list[str | None] = list(script.lines)
    for call in sorted(forwards, key=lambda c: c.col_offset, reverse=True):
        _rename(lines, call.func, name)
    _remove(script, lines, found.place)
    lines[outer.lineno - 1] = _indented(wrapped, indent) + (lines[outer.lineno - 1] or "")
    text = "".join(each for each in lines if each is not None)
    return with_import(text, "torch.nn.parallel", "DistributedDataParallel")


def merge_all_reduces(source: str, line: int) -> str | None:
    """Reduce one flat tensor of all gradients before the loop, which keeps what else it does."""
    script = Script(source)
    found = _loop_at(script, line)
    if found is None or "torch" not in loaded(script.tree):
        return None
    loop, reduce, target = found
    if (loaded(script.scope(loop)) | stored(script.scope(loop))) & MERGED_NAMES:
        return None
    assert isinstance(reduce.value, ast.Call)
    indent = indent_of(script.lines[loop.lineno - 1])
    call = ast.parse(ast.unparse(reduce.value), mode="eval").body
    assert isinstance(call, ast.Call)
    call.args[0] = ast.Name("flat", ast.Load())
    each = f"for {ast.unparse(loop.target)} in {ast.unparse(loop.iter)}"
    added = MERGED.format(target=target, each=each, call=ast.unparse(call))
    lines: list[str | None] = list(script.lines)
    _remove(script, lines, reduce)
    rest = (n for n in ast.walk(loop) if isinstance(n, ast.stmt) and n not in (loop, reduce))
    if all(isinstance(n, ast.Assert | ast.If | ast.Continue) for n in rest):
        _remove(script, lines, loop)
    first = lines[loop.lineno - 1] or ""
    lines[loop.lineno - 1] = _indented(added, indent) + first
    return "".join(text for text in lines if text is not None)


def exchange_last(source: str, line: int, model: str) -> str | None:
    """Put forward and backward of all micro-batches of a step but the last under no_sync."""
    script = Script(source)
    forwards = [
        c
        for c in ast.walk(script.tree)
        if isinstance(c, ast.Call) and spans(c, line) and ast.unparse(c.func) == model
    ]
    if len(forwards) != 1:
        return None
    first = next(up for up in script.above(forwards[0]) if isinstance(up, ast.stmt))
    block = script.block(first)
    behind = block[block.index(first) :]
    last = next((s for s in behind if calls_of(s, "backward")), None)
    if last is None or hasattr(first, "body"):
        return None
    region = behind[: behind.index(last) + 1]
    quiet = _not_the_last(script, first, region, behind[len(region) :])
    if quiet is None:
        return None
    lines = script.lines
    start, end = first.lineno - 1, last.end_lineno or last.lineno
    indent = indent_of(lines[start])
    header = f"{indent}with {model}.no_sync() if {quiet} else nullcontext():\n"
    body = [f"    {text}" if text.strip() else text for text in lines[start:end]]
    text = "".join([*lines[:start], header, *body, *lines[end:]])
    return with_import(text, "contextlib", "nullcontext")


# Gradients all-reduced by hand


def _loop_at(script: Script, line: int) -> tuple[ast.For, ast.Expr, str] | None:
    """Return the loop over parameters around a line, its all-reduce, its variable's name."""
    loops = [n for n in ast.walk(script.tree) if isinstance(n, ast.For) and spans(n, line)]
    if not loops:
        return None
    loop = max(loops, key=lambda n: n.lineno)
    variable = loop.target.elts[-1] if isinstance(loop.target, ast.Tuple) else loop.target
    calls = calls_of(loop, "all_reduce")
    pure = isinstance(loop.iter, ast.Call) and last_name(loop.iter.func) in (
        "parameters",
        "named_parameters",
    )
    if not isinstance(variable, ast.Name) or len(calls) != 1 or not pure or loop.orelse:
        return None
    statement = script.parents[calls[0]]
    given = ast.unparse(calls[0].args[0]) if calls[0].args else ""
    alone = ";" not in script.lines[calls[0].lineno - 1]
    if not isinstance(statement, ast.Expr) or given not in _gradients(variable.id) or not alone:
        return None
    return loop, statement, variable.id


def _gradients(name: str) -> tuple[str, str]:
    return f"{name}.grad", f"{name}.grad.data"


def _averaging(script: Script, line: int) -> Averaging | None:
    """Find the loop, and the statement of the training loop that stands for it."""
    found = _loop_at(script, line)
    if found is None:
        return None
    loop, reduce, _ = found
    assert isinstance(loop.iter, ast.Call)
    of = loop.iter.func
    if not isinstance(of, ast.Attribute) or not isinstance(of.value, ast.Name):
        return None
    assert isinstance(reduce.value, ast.Call)
    if reduce.value.keywords and not all(_is_sum(k) for k in reduce.value.keywords):
        return None
    model = of.value.id
    scope = script.scope(loop)
    if isinstance(scope, ast.Module) or model not in [a.arg for a in scope.args.args]:
        return Averaging(loop, reduce, model, loop)
    return _called(script, scope, loop, reduce, model)


def _called(
    script: Script,
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    loop: ast.For,
    reduce: ast.Expr,
    parameter: str,
) -> Averaging | None:
    """A function that does nothing but the averaging: its one call stands for it."""
    calls = calls_of(script.tree, function.name)
    rest = [s for s in function.body if s is not loop and not isinstance(s, ast.Assign)]
    rest = rest[1:] if ast.get_docstring(function) is not None else rest
    if len(calls) != 1 or rest or loop not in function.body:
        return None
    (call,) = calls
    statement = script.parents[call]
    position = [a.arg for a in function.args.args].index(parameter)
    by_name = next((k.value for k in call.keywords if k.arg == parameter), None)
    given = by_name or (call.args[position] if position < len(call.args) else None)
    if not isinstance(statement, ast.Expr) or not isinstance(given, ast.Name):
        return None
    return Averaging(loop, reduce, given.id, statement)


def _is_sum(keyword: ast.keyword) -> bool:
    return keyword.arg == "op" and ast.unparse(keyword.value).endswith("ReduceOp.SUM")


def _divides_by_world(script: Script, loop: ast.For) -> bool:
    """Whether gradients are averaged, as DDP does, and nothing else happens to them."""
    divisors: list[ast.expr] = []
    for statement in ast.walk(loop):
        if not isinstance(statement, ast.stmt) or statement is loop:
            continue
        if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Div):
            divisors.append(statement.value)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            called = last_name(statement.value.func)
            divisors += statement.value.args if called == "div_" else []
            if called not in ("all_reduce", "div_"):
                return False
        elif not isinstance(statement, ast.Assert | ast.If | ast.Continue):
            return False
    return len(divisors) == 1 and _is_world(script, divisors[0])


def _is_world(script: Script, divisor: ast.expr) -> bool:
    """Whether an expression is the number of ranks, by its name or by what it was set to."""
    texts = [ast.unparse(divisor)]
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Assign) and loaded(divisor) & stored(node):
            texts.append(ast.unparse(node.value))
    return any("world_size" in text.lower() for text in texts)


def _made_once(script: Script, outer: Loop, model: str) -> bool:
    """Whether the model is known before the training loop, which is entered once."""
    scope = script.scope(outer)
    if model in stored(outer):
        return False
    if model in stored(*(s for s in scope.body if s.lineno < outer.lineno)):
        return True
    if isinstance(scope, ast.Module) or model not in [a.arg for a in scope.args.args]:
        return False
    calls = calls_of(script.tree, scope.name)
    repeated = any(isinstance(up, Loop) for call in calls for up in _within_scope(script, call))
    return len(calls) <= 1 and not repeated


def _forwards(script: Script, loop: Loop, model: str) -> list[ast.Call]:
    calls = (n for n in ast.walk(loop) if isinstance(n, ast.Call))
    return [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == model]


def _quiet(script: Script, call: ast.Call) -> bool:
    """Whether a forward is an evaluation, in which one rank alone may be."""
    around = [up for up in script.above(call) if isinstance(up, ast.With)]
    texts = (ast.unparse(item.context_expr) for up in around for item in up.items)
    return any(name in text for text in texts for name in QUIET)


def _within_scope(script: Script, node: ast.AST) -> list[ast.AST]:
    """Return what a node lies in, innermost first, up to its function."""
    scope = script.scope(node)
    found = list(script.above(node))
    return found[: found.index(scope)]


def _condition(
    script: Script, place: ast.stmt, outer: Loop, forwards: list[ast.Call]
) -> str | None:
    """Return the condition under which gradients are averaged: "" always, None: no fixed one."""
    own = [
        up
        for up in _within_scope(script, place)
        if isinstance(up, ast.If) and not any(f in set(ast.walk(up)) for f in forwards)
    ]
    if not own:
        return ""
    if len(own) > 1 or own[0].orelse or place not in own[0].body:
        return None
    if loaded(own[0].test) & stored(outer):
        return None  # it changes from step to step
    return ast.unparse(own[0].test)


# Accumulation


def _not_the_last(
    script: Script, first: ast.stmt, region: list[ast.stmt], behind: list[ast.stmt]
) -> str | None:
    """Return the condition under which a micro-batch is not the last of its step."""
    for at, statement in enumerate(behind):
        if not isinstance(statement, ast.If) or statement.orelse:
            continue
        steps = bool(calls_of(statement, "step"))
        skips = len(statement.body) == 1 and isinstance(statement.body[0], ast.Continue)
        if not steps and not skips:
            continue
        if loaded(statement.test) & stored(*region, *behind[:at]):
            return None  # not known before the forward
        test = ast.unparse(statement.test)
        return test if skips else f"not ({test})"
    loop = next((up for up in script.above(first) if isinstance(up, Loop)), None)
    if not isinstance(loop, ast.For) or calls_of(loop, "step") or calls_of(loop, "zero_grad"):
        return None
    return _counted(loop)


def _counted(loop: ast.For) -> str | None:
    """Whether a loop over the micro-batches of one step is not at its end, by its counter."""
    over = loop.iter
    if not isinstance(over, ast.Call) or len(over.args) != 1 or over.keywords:
        return None
    what = over.args[0]
    if last_name(over.func) == "range" and isinstance(loop.target, ast.Name):
        count = ast.unparse(what)
        plain = isinstance(what, ast.Name | ast.Attribute | ast.Constant | ast.Call)
        return f"{loop.target.id} < {count if plain else f'({count})'} - 1"
    enumerated = last_name(over.func) == "enumerate" and isinstance(loop.target, ast.Tuple)
    if enumerated and isinstance(what, ast.Name | ast.Attribute):
        assert isinstance(loop.target, ast.Tuple)
        return f"{ast.unparse(loop.target.elts[0])} < len({ast.unparse(what)}) - 1"
    return None


# Text


def _indented(text: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in text.splitlines())


def _rename(lines: list[str | None], node: ast.expr, name: str) -> None:
    """Replace a name on one line; columns of syntax trees count bytes."""
    text = (lines[node.lineno - 1] or "").encode()
    end = node.end_col_offset or node.col_offset
    lines[node.lineno - 1] = (text[: node.col_offset] + name.encode() + text[end:]).decode()


def _remove(script: Script, lines: list[str | None], statement: ast.stmt) -> None:
    """Take a statement out, with the `if` that held nothing else."""
    above = script.parents[statement]
    if isinstance(above, ast.If) and len(above.body) == 1 and not above.orelse:
        _remove(script, lines, above)
        return
    for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
        lines[number] = None
