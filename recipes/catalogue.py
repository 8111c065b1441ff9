"""Every recipe that there is, by the id that findings and `--recipe` use."""

from collections.abc import Mapping

from perfkit.recipes import (
    accumulation,
    coalesce,
    compute,
    ddp_buckets,
    ddp_flags,
    gradient_compression,
    host,
    loader,
    overlap,
    pipeline_schedule,
    precision,
    suggestions,
)
from perfkit.recipes.recipe import Recipe

RECIPES: tuple[Recipe, ...] = (
    overlap.OVERLAP,
    coalesce.RECIPE,
    ddp_buckets.RECIPE,
    gradient_compression.BF16,
    gradient_compression.FP16,
    gradient_compression.POWERSGD,
    accumulation.NO_SYNC,
    accumulation.ACCUMULATE,
    loader.RECIPE,
    loader.PIN_MEMORY,
    precision.AMP_BF16,
    precision.AMP_FP16,
    precision.TF32,
    compute.CHANNELS_LAST,
    compute.COMPILE,
    compute.FUSED_OPTIMIZER,
    compute.ZERO1,
    ddp_flags.BUCKET_VIEW,
    ddp_flags.STATIC_GRAPH,
    ddp_flags.FIND_UNUSED,
    host.THREADS,
    host.GC_FREEZE,
    host.ALLOCATOR,
    host.NCCL,
    host.GLOO,
    pipeline_schedule.RECIPE,
    *suggestions.SUGGESTIONS,
)

BY_ID: Mapping[str, Recipe] = {recipe.id: recipe for recipe in RECIPES}


def as_markdown() -> str:
    """Return the table of docs/recipes.md: one row a recipe."""
    head = "| recipe | what it does | addresses | applied by | numerics | refused when | mind |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for r in RECIPES:
        cells = (
            f"`{r.id}`",
            r.title,
            r.addresses,
            r.application.value,
            r.numerics.value,
            "; ".join(r.refuses),
            r.caveat,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
