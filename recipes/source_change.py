"""The source change that makes a recipe permanent: a unified diff where the place is known.

The place comes from the ranks' records (file and line of the script's own call). A change that no
rule here can make becomes a snippet that names file and line.
"""

import ast
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfkit.recipes.activation import Choice
from perfkit.recipes.recipe import Value, Values
from perfkit.recipes.source_edit import (
    add_import_line,
    give_keywords,
    precede_argument,
    succeed_assignment,
    wrap_statement,
)
from perfkit.trace.recipe_log import Applied, RecipeLog

Edit = Callable[[str, int, Values], str | None]
DDP = ("DistributedDataParallel", "DDP")
OPTIMIZERS = ("Adam", "AdamW", "SGD", "Adagrad")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChange:
    """What to change for good. diff: for `git apply`, "" where only the snippet is known."""

    recipe: str
    diff: str
    snippet: str
    file: str = ""
    line: int = 0


def source_change(choice: Choice, log: RecipeLog, root: Path) -> SourceChange:
    """Return the change that a recipe stands for; paths in the diff are relative to `root`."""
    recipe = choice.recipe
    applied = [a for a in log.applied if a.recipe == recipe.id and a.file]
    values: dict[str, Value] = recipe.values(choice.given)
    for each in applied:
        values |= _settled(each)
    first = applied[0] if applied else None
    snippet = recipe.for_good.format(**values)
    diff = "".join(_diff(recipe.id, each, values, root) for each in _places(applied))
    return SourceChange(
        recipe=recipe.id,
        diff=diff,
        snippet=snippet,
        file=first.file if first else "",
        line=first.line if first else 0,
    )


def _settled(applied: Applied) -> dict[str, Value]:
    """Values that only the rank could decide."""
    if applied.setting == "num_workers" and isinstance(applied.new, int):
        return {"workers": applied.new}
    if applied.setting == "float32_matmul_precision":
        return {"precision": str(applied.new)}
    return {}


def _places(applied: Sequence[Applied]) -> list[Applied]:
    return list({(a.file, a.line): a for a in applied}.values())


def _diff(recipe: str, applied: Applied, values: Values, root: Path) -> str:
    edit = EDITS.get(recipe)
    path = Path(applied.file)
    if edit is None or not path.is_file():
        return ""
    before = path.read_text(encoding="utf-8")
    try:
        after = edit(before, applied.line, values)
        if after is None or after == before:
            return ""
        ast.parse(after)
    except SyntaxError:
        return ""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{str(name).lstrip('/')}",
        f"b/{str(name).lstrip('/')}",
    )
    return "".join(lines)


def _keywords(names: Sequence[str], **settings: str) -> Edit:
    def edit(source: str, line: int, values: Values) -> str | None:
        given = {key: text.format(**values) for key, text in settings.items()}
        return give_keywords(source, line, names, given)

    return edit


def _hook(body: str) -> Edit:
    def edit(source: str, line: int, values: Values) -> str | None:
        return succeed_assignment(source, line, DDP, body.format(**values), "model")

    return edit


BF16_HOOK = """\
def bf16_gradients(state, bucket):  # under its own name: DDP refuses the original off CUDA
    return default_hooks.bf16_compress_hook(state, bucket)

{{name}}.register_comm_hook(None, bf16_gradients)"""
HOOKS = "from torch.distributed.algorithms.ddp_comm_hooks import "
AUTOCAST = (
    'with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", dtype=torch.bfloat16):'
)

EDITS: dict[str, Edit] = {
    "ddp-buckets": _keywords(DDP, bucket_cap_mb="{mb:g}"),
    "bucket-view": _keywords(DDP, gradient_as_bucket_view="True"),
    "static-graph": _keywords(DDP, static_graph="True"),
    "find-unused-parameters": _keywords(DDP, find_unused_parameters="False"),
    "fused-optimizer": _keywords(OPTIMIZERS, fused="True"),
    "loader": _keywords(
        ("DataLoader",),
        num_workers="{workers}",
        persistent_workers="True",
        prefetch_factor="{prefetch}",
    ),
    "pin-memory": _keywords(("DataLoader",), pin_memory="True"),
    "amp-bf16": lambda source, line, values: wrap_statement(source, line, AUTOCAST),
    "tf32": lambda source, line, values: add_import_line(
        source, f'torch.set_float32_matmul_precision("{values["precision"]}")'
    ),
    "compile": lambda source, line, values: precede_argument(
        source, line, DDP, "{name}.compile()", "module"
    ),
    "bf16-gradients": _hook(HOOKS + "default_hooks\n\n" + BF16_HOOK),
    "fp16-gradients": _hook(
        HOOKS
        + "default_hooks\n\n{{name}}.register_comm_hook(None, default_hooks.fp16_compress_hook)"
    ),
    "powersgd": _hook(
        HOOKS
        + "powerSGD_hook\n\nstate = powerSGD_hook.PowerSGDState(None, {rank}, "
        + "start_powerSGD_iter=1000)\n{{name}}.register_comm_hook(state, "
        + "powerSGD_hook.powerSGD_hook)"
    ),
}
