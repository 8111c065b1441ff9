"""Scripts that train through a framework get its own setting instead of a patch.

The flag or argument is the framework's; perfkit says which, and leaves the run alone. Read in the
sources of accelerate 1.15, transformers 5.23, lightning 2.6 and deepspeed 0.19.
"""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.recipe import Prediction, Recipe, Situation

_DDP_ARGUMENT = "Accelerator(kwargs_handlers=[DistributedDataParallelKwargs({})])"
_DDP_STRATEGY = "Trainer(strategy=DDPStrategy({}))"

SETTINGS = {
    "accelerate": {
        "amp-bf16": "ACCELERATE_MIXED_PRECISION=bf16, or accelerate launch --mixed_precision bf16",
        "amp-fp16": "ACCELERATE_MIXED_PRECISION=fp16, or accelerate launch --mixed_precision fp16",
        "gradient-accumulation": "accelerate launch --gradient_accumulation_steps N",
        "no-sync": "with accelerator.accumulate(model):",
        "compile": "accelerate launch --dynamo_backend inductor",
        "ddp-buckets": _DDP_ARGUMENT.format("bucket_cap_mb=N"),
        "bucket-view": _DDP_ARGUMENT.format("gradient_as_bucket_view=True"),
        "static-graph": _DDP_ARGUMENT.format("static_graph=True"),
        "find-unused-parameters": _DDP_ARGUMENT.format("find_unused_parameters=False"),
        "bf16-gradients": _DDP_ARGUMENT.format("comm_hook=DDPCommunicationHookType.BF16"),
        "fp16-gradients": _DDP_ARGUMENT.format("comm_hook=DDPCommunicationHookType.FP16"),
        "powersgd": _DDP_ARGUMENT.format("comm_hook=DDPCommunicationHookType.POWER_SGD"),
    },
    "transformers": {
        "amp-bf16": "--bf16 (TrainingArguments)",
        "amp-fp16": "--fp16 (TrainingArguments)",
        "tf32": "--tf32 true (TrainingArguments)",
        "loader": "--dataloader_num_workers N --dataloader_persistent_workers true",
        "pin-memory": "--dataloader_pin_memory true",
        "gradient-accumulation": "--gradient_accumulation_steps N",
        "compile": "--torch_compile true",
        "fused-optimizer": "--optim adamw_torch_fused",
        "find-unused-parameters": "--ddp_find_unused_parameters false",
        "static-graph": "--ddp_static_graph true",
        "ddp-buckets": "--ddp_bucket_cap_mb N",
    },
    "lightning": {
        "amp-bf16": 'Trainer(precision="bf16-mixed")',
        "amp-fp16": 'Trainer(precision="16-mixed")',
        "gradient-accumulation": "Trainer(accumulate_grad_batches=N)",
        "no-sync": "Trainer(accumulate_grad_batches=N)",
        "ddp-buckets": _DDP_STRATEGY.format("bucket_cap_mb=N"),
        "bucket-view": _DDP_STRATEGY.format("gradient_as_bucket_view=True"),
        "static-graph": _DDP_STRATEGY.format("static_graph=True"),
        "find-unused-parameters": 'Trainer(strategy="ddp")',
        "bf16-gradients": _DDP_STRATEGY.format("ddp_comm_hook=default_hooks.bf16_compress_hook"),
        "fp16-gradients": _DDP_STRATEGY.format("ddp_comm_hook=default_hooks.fp16_compress_hook"),
    },
    "deepspeed": {
        "amp-bf16": '"bf16": {"enabled": true} in its configuration',
        "amp-fp16": '"fp16": {"enabled": true} in its configuration',
        "gradient-accumulation": '"gradient_accumulation_steps": N in its configuration',
        "bf16-gradients": '"communication_data_type": "bf16" in its configuration',
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
