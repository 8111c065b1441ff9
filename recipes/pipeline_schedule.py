"""Another schedule of torch.distributed.pipelining: a smaller bubble for the same sums."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.formulas import no_steps, only_ceiling, share
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation


def predict(situation: Situation) -> Prediction | Refusal:
    """GPipe and 1F1B have the same bubble (p-1)/(m+p-1); more micro-batches shrink it."""
    if refusal := no_steps(situation):
        return refusal
    if not situation.seen.get("pipelining") and situation.analysis.pipeline is None:
        return Refusal(reason="the script uses no torch.distributed.pipelining")
    bubble = share(situation.analysis, "pipe_bubble")
    if not bubble:
        return Refusal(reason="no pipeline bubble was seen")
    return only_ceiling(bubble, f"the bubble takes {bubble:.0%} of the step")


RECIPE = Recipe(
    id="pipeline-schedule",
    title="Another pipeline schedule (1F1B, GPipe)",
    addresses="communication",
    findings=("pipeline_bubble",),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=predict,
    in_rank="pipeline_schedule",
    parameters=(
        Parameter(
            name="schedule",
            default="Schedule1F1B",
            help="class in torch.distributed.pipelining with one stage a rank",
            choices=("Schedule1F1B", "ScheduleGPipe"),
            pattern="Schedule1F1B|ScheduleGPipe",
        ),
    ),
    refuses=(
        "the script has another kind of schedule: it needs other stages",
        "fewer micro-batches than stages, which 1F1B needs",
    ),
    for_good="schedule = {schedule}(stage, n_microbatches, loss_fn=loss_fn)",
    caveat="1F1B has GPipe's bubble and less memory, so that more micro-batches fit",
)
