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
from perfkit.recipes.loop_edit import exchange_last, merge_all_reduces, overlap_by_ddp
from perfkit.recipes.recipe import Value, Values
from perfkit.recipes.source_edit import (
    add_import_line,
    divide_optimizer,
    give_keywords,
    precede_argument,
    rename_call,
    succeed_assignment,
    wrap_statement,
)
from perfkit.recipes.source_tree import with_import
from perfkit.trace.recipe_log import Applied, RecipeLog

Edit = Callable[[str, int, Values], str | None]
DDP = ("DistributedDataParallel", "DDP")
SCHEDULES = ("ScheduleGPipe", "Schedule1F1B")
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
    files = {Path(a.file): None for a in applied} if _may_be_edited(recipe.id, applied, log) else {}
    diff = "".join(_diff(recipe.id, file, applied, values, root) for file in files)
    return SourceChange(
        recipe=recipe.id,
        diff=diff,
        snippet=recipe.for_good.format(**values),
        file=first.file if first else "",
        line=first.line if first else 0,
    )


def _may_be_edited(recipe: str, applied: Sequence[Applied], log: RecipeLog) -> bool:
    """DDP stands for a loop over all-reduces only where every trained parameter is in it."""
    if recipe != "overlap":
        return recipe in EDITS
    tensors = log.seen.get("parameter_tensors")
    return all(str(a.old).split(" ")[0] == str(tensors) for a in applied)


def _settled(applied: Applied) -> dict[str, Value]:
    """Values that only the rank could decide."""
    named: dict[str, Value] = {"name": applied.name} if applied.name else {}
    if applied.setting == "num_workers" and isinstance(applied.new, int):
        return named | {"workers": applied.new}
    if applied.setting == "float32_matmul_precision":
        return named | {"precision": str(applied.new)}
    return named


def _diff(recipe: str, path: Path, applied: Sequence[Applied], values: Values, root: Path) -> str:
    """Return the diff of one file; "" where one of its places cannot be edited."""
    try:
        before = after = path.read_text(encoding="utf-8")
        for line in sorted({a.line for a in applied if Path(a.file) == path}, reverse=True):
            edited = EDITS[recipe](after, _moved(before, after, line), values)
            if edited is None:
                return ""
            after = edited
        ast.parse(after)
    except (OSError, UnicodeDecodeError, SyntaxError):
        return ""
    if "\r" in before or not before.endswith("\n"):
        return ""  # a diff of such a file would not be what git takes
    name = path.relative_to(root) if path.is_relative_to(root) else path
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{str(name).lstrip('/')}",
        f"b/{str(name).lstrip('/')}",
    )
    return "".join(lines)


def _moved(before: str, after: str, line: int) -> int:
    """Return where a line is once edits below it have added imports above it."""
    old, new = before.splitlines(), after.splitlines()
    for block in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        if block.a < line <= block.a + block.size:
            return block.b + line - block.a
    return line


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


def _zero1(source: str, line: int, values: Values) -> str | None:
    changed = divide_optimizer(source, line, OPTIMIZERS, "ZeroRedundancyOptimizer")
    if changed is None:
        return None
    return with_import(changed, "torch.distributed.optim", "ZeroRedundancyOptimizer")


def _schedule(source: str, line: int, values: Values) -> str | None:
    wanted = str(values["schedule"])
    changed = rename_call(source, line, SCHEDULES, wanted)
    if changed is None or f".{wanted}(" in changed:
        return changed
    return with_import(changed, "torch.distributed.pipelining", wanted)


EDITS: dict[str, Edit] = {
    "overlap": lambda source, line, values: overlap_by_ddp(source, line, float(values["mb"])),
    "coalesce": lambda source, line, values: merge_all_reduces(source, line),
    "no-sync": lambda source, line, values: exchange_last(
        source, line, str(values.get("name", ""))
    ),
    "zero1": _zero1,
    "pipeline-schedule": _schedule,
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
