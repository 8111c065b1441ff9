"""Three switches of DDP: gradients as views of buckets, a static graph, no search for unused."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes.ddp_buckets import needs_ddp
from perfkit.recipes.formulas import no_steps, only_ceiling, share
from perfkit.recipes.recipe import Application, Numerics, Prediction, Recipe, Situation

STEPS_TO_TRUST = 200
"""Steps without an unused parameter after which none is expected any more."""


def views(situation: Situation) -> Prediction | Refusal:
    """Copies between gradients and buckets vanish; this capture does not say what they cost."""
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    if situation.fact("ddp", "gradient_as_bucket_view"):
        return Refusal(reason="gradient_as_bucket_view is on already")
    copied = share(situation.analysis, "memcpy")
    return only_ceiling(copied, "copies of gradients and their memory vanish; a few percent")


def static(situation: Situation) -> Prediction | Refusal:
    """Only where DDP itself has seen that the graph does not change."""
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    if situation.fact("ddp", "static_graph"):
        return Refusal(reason="static_graph is on already")
    if not situation.fact("ddp_logging", "can_set_static_graph"):
        return Refusal(reason="DDP has not recorded that the graph is the same in every step")
    host = share(situation.analysis, "host_launch")
    return only_ceiling(host, "DDP's bookkeeping of a graph that never changes")


def unused(situation: Situation) -> Prediction | Refusal:
    """Only where the search is on and many steps found nothing."""
    if refusal := no_steps(situation) or needs_ddp(situation):
        return refusal
    if not situation.fact("ddp", "find_unused_parameters"):
        return Refusal(reason="DDP does not look for unused parameters")
    if situation.fact("ddp_logging", "unused_parameter_size"):
        return Refusal(reason="some parameters do go unused")
    recorded = situation.analysis.steps.recorded
    if recorded < STEPS_TO_TRUST:
        return Refusal(
            reason=f"{recorded} steps are too few to trust that no parameter ever goes unused",
            remedy=f"run {STEPS_TO_TRUST} steps, or name the recipe yourself",
        )
    host = share(situation.analysis, "host_launch")
    return only_ceiling(host, "one traversal of the graph in every step")


BUCKET_VIEW = Recipe(
    id="bucket-view",
    title="Let gradients be views of DDP's buckets",
    addresses="memory",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=views,
    in_rank="ddp_arguments",
    refuses=("the script gives gradient_as_bucket_view itself",),
    for_good="model = DistributedDataParallel(model, gradient_as_bucket_view=True)",
    caveat="detach_() on a gradient fails then",
)
STATIC_GRAPH = Recipe(
    id="static-graph",
    title="Tell DDP that the graph never changes",
    addresses="host",
    findings=(),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=static,
    in_rank="ddp_arguments",
    refuses=(
        "the script gives static_graph or find_unused_parameters itself",
        "DDP did not record in the baseline that it can be set",
    ),
    for_good="model = DistributedDataParallel(model, static_graph=True)",
    caveat="a later step with another graph raises an error",
)
FIND_UNUSED = Recipe(
    id="find-unused-parameters",
    title="Stop DDP's search for unused parameters",
    addresses="host",
    findings=("find_unused_parameters",),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=unused,
    in_rank="ddp_arguments",
    refuses=("the search is off", "parameters went unused", "fewer than 200 steps were seen"),
    for_good="model = DistributedDataParallel(model, find_unused_parameters=False)",
    caveat="a later step that skips a parameter raises an error",
)
