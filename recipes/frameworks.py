"""Scripts that train through a framework get its own setting instead of a patch.

The flag or argument is the framework's; perfkit says which, and leaves the run alone.
"""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.recipe import Prediction, Recipe, Situation

SETTINGS = {
    "accelerate": {
        "amp-bf16": "ACCELERATE_MIXED_PRECISION=bf16, or accelerate launch --mixed_precision bf16",
        "amp-fp16": "ACCELERATE_MIXED_PRECISION=fp16, or accelerate launch --mixed_precision fp16",
        "gradient-accumulation": "accelerate launch --gradient_accumulation_steps N",
        "compile": "accelerate launch --dynamo_backend inductor",
    },
    "transformers": {
        "amp-bf16": "--bf16 (TrainingArguments)",
        "amp-fp16": "--fp16 (TrainingArguments)",
        "tf32": "--tf32 true (TrainingArguments)",
        "loader": "--dataloader_num_workers N --dataloader_persistent_workers true",
        "gradient-accumulation": "--gradient_accumulation_steps N",
        "compile": "--torch_compile true",
        "fused-optimizer": "--optim adamw_torch_fused",
        "find-unused-parameters": "--ddp_find_unused_parameters false",
        "ddp-buckets": "--ddp_bucket_cap_mb N",
    },
    "lightning": {
        "amp-bf16": 'Trainer(precision="bf16-mixed")',
        "amp-fp16": 'Trainer(precision="16-mixed")',
        "gradient-accumulation": "Trainer(accumulate_grad_batches=N)",
        "ddp-buckets": "Trainer(strategy=DDPStrategy(bucket_cap_mb=N))",
        "find-unused-parameters": 'Trainer(strategy="ddp")',
    },
    "deepspeed": {
        "amp-bf16": '"bf16": {"enabled": true} in its configuration',
        "amp-fp16": '"fp16": {"enabled": true} in its configuration',
        "gradient-accumulation": '"gradient_accumulation_steps": N in its configuration',
        "zero1": '"zero_optimization": {"stage": 1} in its configuration',
        "overlap": '"overlap_comm": true under "zero_optimization"',
    },
}


def judge(recipe: Recipe, situation: Situation) -> Prediction | Refusal:
    """Return what a recipe can do for a run; a framework's own setting comes first."""
    framework = str(situation.seen.get("framework", ""))
    setting = SETTINGS.get(framework, {}).get(recipe.id)
    if setting is None:
        return recipe.applicable(situation)
    return Refusal(
        reason=f"the script trains with {framework}", remedy=f"its own setting: {setting}"
    )
